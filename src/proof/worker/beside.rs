//! Processes beside a worker that hold nothing and do nothing. When the kernel has killed the worker, it chooses anew before all of
//! its memory is free (MMF_OOM_SKIP is set in exit_mmap, mm/mmap.c, before the last pages and any shared ones are given back).
//! Who asks for memory in that moment has one of these killed, and none of the container's.

use std::io;
use std::sync::atomic::Ordering;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, close, getppid, pause};

use super::door::Door;
use crate::proof::victims;
use crate::sys::clone::{CloneOptions, clone_process};
use crate::sys::memory::SharedPage;
use crate::sys::worker::close_inherited;

/// The cells of the shared page with their pids; 0 for none.
const FIRST_CELL: usize = 2;
const CELLS: usize = 2;

/// Worker: has them take the way into the cgroup too. They are children of the `prover`, die with it, and share nothing with the
/// worker.
pub(super) fn start(prover: Pid, door: &mut Door, page: &SharedPage) -> io::Result<()> {
    for cell in &page.cells()[FIRST_CELL..FIRST_CELL + CELLS] {
        let options = CloneOptions { sibling: true, ..CloneOptions::default() };
        let pid = clone_process(options, |_| {
            if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != prover {
                return 1;
            }
            door.enter();
            // The command socket, a file and the word: what is still open here would not be free, or told, elsewhere.
            let _ = close(0);
            if close_inherited().is_err() {
                return 1;
            }
            loop {
                pause();
            }
        })?;
        cell.store(u64::try_from(pid.as_raw()).unwrap_or(0), Ordering::Release);
    }
    Ok(())
}

/// Prover: those that were started and not dismissed.
pub(super) fn pids(page: &SharedPage) -> impl Iterator<Item = Pid> {
    let pids = page.cells()[FIRST_CELL..FIRST_CELL + CELLS].iter().map(|cell| cell.load(Ordering::Acquire));
    pids.filter_map(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0).map(Pid::from_raw)
}

/// Prover: how many of them were killed, or are about to be.
pub(super) fn deaths(page: &SharedPage) -> u64 {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let died = |pid: &Pid| match waitid(Id::Pid(*pid), look) {
        Ok(WaitStatus::StillAlive) => victims::is_doomed(pid.as_raw(), None),
        Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) => true,
        _ => false,
    };
    pids(page).filter(died).count() as u64
}

/// Prover: whether one of them is there still, and nothing is on its way to end it.
pub(super) fn is_left(page: &SharedPage) -> bool {
    pids(page).any(|pid| !victims::is_doomed(pid.as_raw(), None))
}

/// Prover: ends them. A pid that is no child of this process is nobody of them.
pub(super) fn dismiss(page: &SharedPage) {
    for pid in pids(page) {
        if waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
    for cell in &page.cells()[FIRST_CELL..FIRST_CELL + CELLS] {
        cell.store(0, Ordering::Release);
    }
}
