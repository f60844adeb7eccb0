//! The prover's side of a worker: started, joined to a cgroup, ordered about, and always killed and reaped.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::child::{REWRITTEN_CELL, SUBCOMMAND, TOUCHED_CELL};
use super::wire::{Order, Reply};
use super::{beside, door};
use crate::cgroup::{CgroupError, MemoryCgroup, join, locate};
use crate::poll::readable_within;
use crate::proof::error::ProofError;
use crate::proof::scratch::Scratch;
use crate::proof::strategy::Strategy;
use crate::proof::victims;
use crate::sys::memory::SharedPage;
use crate::sys::worker::{pidfd_open, pidfd_send_signal};

/// How long a worker may take to say that it is ready; less where the proof has less time.
const READY_WITHIN: Duration = Duration::from_secs(10);
const READY_AT_LEAST: Duration = Duration::from_secs(1);

/// How long a worker that was killed may take to be gone, and then its children. The kernel unmaps 12 GiB a second. Longer may
/// take one that waits for a file of a container, or for a CPU that the container's limit keeps from it.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerEnd {
    Exit(i32),
    Signal(i32),
}

impl From<ExitStatus> for WorkerEnd {
    fn from(status: ExitStatus) -> Self {
        match (status.signal(), status.code()) {
            (Some(signal), _) => Self::Signal(signal),
            (None, code) => Self::Exit(code.unwrap_or(0)),
        }
    }
}

/// A page of shared memory whose size nobody can change: a read behind the end of a file that was cut is a SIGBUS.
fn progress_page() -> io::Result<File> {
    let page = File::from(memfd_create("rt-progress", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    page.set_len((SharedPage::CELLS * 8) as u64)?;
    let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&page, FcntlArg::F_ADD_SEALS(size))?;
    Ok(page)
}

/// A running worker. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    socket: UnixStream,
    page: SharedPage,
    /// The worker's mount namespace: without another holder its end would wait for a grace period of RCU to take it down,
    /// before its death is told.
    mounts: Option<File>,
    reaped: bool,
}

impl Worker {
    /// Starts `program __worker …` for up to `bytes` and waits until it is ready, in the caller's own cgroup still.
    /// `scratch` is where [`Strategy::File`] writes; `time` is what the whole proof may take.
    pub fn spawn(
        program: &Path,
        strategy: Strategy,
        bytes: u64,
        scratch: Option<&Scratch>,
        time: Duration,
    ) -> Result<Self, ProofError> {
        let setup = |what| move |source: io::Error| ProofError::Observe { what, source };
        let progress = progress_page().map_err(setup("progress page"))?;
        let page = SharedPage::map(&progress).map_err(setup("progress page"))?;
        // Touched first by this process, so the page is charged here and not to the container.
        page.cells()[TOUCHED_CELL].store(0, Ordering::Release);
        let (socket, theirs) = UnixStream::pair().map_err(setup("command socket"))?;
        let spawned = |source| ProofError::Spawn { path: program.to_owned(), source };
        let mut child = Command::new(program)
            .arg0("rt")
            .args([SUBCOMMAND, strategy.name(), &bytes.to_string(), &std::process::id().to_string()])
            .args(scratch.into_iter().flat_map(Scratch::arguments))
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(progress))
            .stderr(Stdio::null())
            .current_dir("/")
            // Out of the terminal's process group: ^C is for the prover, which then ends the worker in order.
            .process_group(0)
            .spawn()
            .map_err(spawned)?;
        // A pid fits: the kernel's own type is a signed int.
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let pidfd = match pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            Err(e) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(setup("process descriptor")(e));
            }
        };
        let mut worker = Self { child, pid, pidfd, socket, page, mounts: None, reaped: false };
        worker.await_ready(time.clamp(READY_AT_LEAST, READY_WITHIN))?;
        worker.mounts = File::open(format!("/proc/{}/ns/mnt", worker.pid())).ok();
        Ok(worker)
    }

    fn await_ready(&mut self, within: Duration) -> Result<(), ProofError> {
        let setup = |source| ProofError::Observe { what: "command socket", source };
        self.socket.set_read_timeout(Some(within)).map_err(setup)?;
        let reply = self.reply();
        self.socket.set_read_timeout(None).map_err(setup)?;
        match reply {
            Ok(Reply::Ready) => Ok(()),
            Ok(Reply::Failed(stage, errno)) => {
                let source = io::Error::from_raw_os_error(errno);
                Err(ProofError::Worker { stage: stage.words(), source })
            }
            Ok(Reply::Done(_)) => Err(setup(io::ErrorKind::InvalidData.into())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Err(ProofError::WorkerSilent { seconds: within.as_secs() })
            }
            Err(source) => Err(ProofError::Worker { stage: "start", source }),
        }
    }

    /// The worker's process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Readable when the worker has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when there is a [`Reply`], or the worker has gone.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has the worker enter the folder `dir` of its memory cgroup, before the first order. Its charges so far stay where
    /// they are.
    pub fn enter(&self, dir: &Path) -> Result<(), CgroupError> {
        match door::send_in(&self.socket, dir) {
            Ok(true) => Ok(()),
            _ => {
                self.join(dir)?;
                // Of moves in a row, only the first one waits.
                beside::pids(&self.page).try_for_each(|pid| join::join(dir, pid.as_raw()))
            }
        }
    }

    /// How many of the processes beside the worker were killed, before [`Self::dismiss_beside`].
    pub fn deaths_beside(&self) -> u64 {
        beside::deaths(&self.page)
    }

    /// Whether one of the processes beside the worker lives, before [`Self::dismiss_beside`].
    pub fn is_beside_left(&self) -> bool {
        beside::is_left(&self.page)
    }

    /// Whether this is one of the processes beside the worker.
    pub fn has_beside(&self, pid: i32) -> bool {
        beside::pids(&self.page).any(|beside| beside.as_raw() == pid)
    }

    /// Ends the processes beside the worker.
    pub fn dismiss_beside(&self) {
        beside::dismiss(&self.page);
    }

    /// Moves the worker into the cgroup folder `dir`.
    pub fn join(&self, dir: &Path) -> Result<(), CgroupError> {
        join::join(dir, self.pid())
    }

    /// Tells the worker to use memory up to `to` bytes in all.
    pub fn order(&mut self, to: u64, step: u64, fine_from: u64) -> io::Result<()> {
        Order::Fill { to, step, fine_from }.send(&mut self.socket)
    }

    /// Tells the worker to write what it uses again and again, until it is killed.
    pub fn sustain(&mut self) -> io::Result<()> {
        Order::Sustain.send(&mut self.socket)
    }

    /// The next reply; blocks. End of file where the worker has gone.
    pub fn reply(&mut self) -> io::Result<Reply> {
        Reply::receive(&mut self.socket)
    }

    /// The reply that [`Self::socket`] says is there. One that came in part is an error: the rest is not waited for.
    pub fn reply_at_hand(&mut self) -> io::Result<Reply> {
        self.socket.set_nonblocking(true)?;
        let reply = self.reply();
        self.socket.set_nonblocking(false)?;
        reply
    }

    /// Bytes used so far, as the worker last said; right even after its death.
    pub fn touched(&self) -> u64 {
        self.page.cells()[TOUCHED_CELL].load(Ordering::Acquire)
    }

    /// Bytes written again so far, all rounds together.
    pub fn rewritten(&self) -> u64 {
        self.page.cells()[REWRITTEN_CELL].load(Ordering::Acquire)
    }

    /// Kills the worker through its pidfd. One that has ended already is no error.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.as_fd(), Signal::SIGKILL) {
            Err(e) if e.raw_os_error() != Some(nix::libc::ESRCH) => Err(e),
            _ => Ok(()),
        }
    }

    /// Moves the worker and its children from `cgroup` back into the caller's own, on v2 out of the container's CPU limit, by
    /// which one that is killed would have to end. As far as may be.
    pub fn pull_out(&self, cgroup: &MemoryCgroup) {
        let own = i32::try_from(std::process::id()).ok().and_then(|pid| locate(pid, "memory").ok());
        let (Some(own), Ok(there)) = (own, cgroup.processes()) else { return };
        for pid in there.into_iter().filter(|pid| victims::group_of(*pid) == Some(self.pid())) {
            let _ = join::join(&own.dir, pid);
        }
    }

    /// Waits for the end of a worker that was killed or has ended, and for that of its children: they hold the other end of
    /// the socket too, and let go of it after their memory. Neither is waited for without a bound: the signal is there.
    pub fn reap(&mut self) -> io::Result<WorkerEnd> {
        let ends = Instant::now() + GONE_WITHIN;
        self.reaped = true;
        if !readable_within(&self.pidfd, GONE_WITHIN)? {
            let (pid, seconds) = (self.pid, GONE_WITHIN.as_secs());
            tracing::warn!("worker {pid} was killed and has not ended within {seconds} s");
            return Ok(WorkerEnd::Signal(Signal::SIGKILL as i32));
        }
        let status = self.child.wait()?;
        while readable_within(&self.socket, ends.saturating_duration_since(Instant::now()))?
            && self.reply().is_ok()
        {}
        Ok(status.into())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.kill().and_then(|()| self.reap());
        }
        self.dismiss_beside();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_page_keeps_its_size() {
        let page = progress_page().unwrap();
        assert!(page.set_len(0).is_err() && page.set_len(1 << 20).is_err());
        SharedPage::map(&page).unwrap().cells()[TOUCHED_CELL].store(7, Ordering::Release);
    }
}
