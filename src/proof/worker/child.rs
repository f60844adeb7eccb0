//! The worker's side. Everything that allocates happens before it says [`Reply::Ready`]; after that it enters
//! the container's cgroup, and each page it touches is charged there.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use super::door::Door;
use super::wire::{Order, Reply, Stage};
use super::{beside, seclude};
use crate::exit::ExitStatus;
use crate::log;
use crate::proof::oom_score::OomScore;
use crate::proof::scratch::{Medium, open_file};
use crate::proof::strategy::{Fill, PAGE, Strategy};
use crate::sys::clone::set_dumpable;
use crate::sys::memory::SharedPage;
use crate::sys::worker::close_inherited;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__worker";

/// The cell of the shared page that holds the bytes used so far.
pub(super) const TOUCHED_CELL: usize = 0;

/// The cell that holds the bytes written again so far, all rounds together.
pub(super) const REWRITTEN_CELL: usize = 1;

/// What the parent asks for on the command line: strategy, bytes, the parent's pid, and for a file where it is made.
struct Arguments {
    strategy: Strategy,
    bytes: usize,
    parent: Pid,
    file: Option<FileArguments>,
}

/// The root and the folder in it, and what keeps its files.
struct FileArguments {
    root: PathBuf,
    path: PathBuf,
    medium: Medium,
}

impl Arguments {
    fn parse(args: &[OsString]) -> Option<Self> {
        let [strategy, bytes, parent, file @ ..] = args else { return None };
        let file = match file {
            [] => None,
            [root, path, medium] => Some(FileArguments {
                root: root.into(),
                path: path.into(),
                medium: Medium::named(medium.to_str()?)?,
            }),
            _ => return None,
        };
        Some(Self {
            strategy: strategy.to_str()?.parse().ok()?,
            bytes: bytes.to_str()?.parse().ok()?,
            parent: Pid::from_raw(parent.to_str()?.parse().ok()?),
            file,
        })
    }
}

/// Runs the worker on the arguments after the subcommand, until the parent closes the socket or the kernel kills.
pub fn run(args: &[OsString]) -> ExitStatus {
    let Some(arguments) = Arguments::parse(args) else {
        log::to_stderr(format!("rt: '{SUBCOMMAND}' is started by the prover only\n").as_bytes());
        return ExitStatus::USAGE;
    };
    let ready = set_up(&arguments);
    // Only now: setting up closes every descriptor above the standard three.
    let Ok(mut socket) = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitStatus::PROVER_FAILURE;
    };
    let result = ready.and_then(|(mut fill, page)| serve(&arguments, &mut socket, fill.as_mut(), &page));
    match result {
        Ok(()) => ExitStatus::SUCCESS,
        Err((stage, error)) => {
            // The parent may be gone; there is nobody else to tell.
            let _ = Reply::Failed(stage, error.raw_os_error().unwrap_or(0)).send(&mut socket);
            ExitStatus::PROVER_FAILURE
        }
    }
}

type Staged<T> = Result<T, (Stage, io::Error)>;

/// Makes this process the one the kernel kills first, and a harmless one.
fn set_up(arguments: &Arguments) -> Staged<(Box<dyn Fill>, SharedPage)> {
    let at = |stage| move |error: io::Error| (stage, error);
    let strategy = arguments.strategy;
    let needed = (strategy == Strategy::Mlock).then_some(Capability::CAP_IPC_LOCK);
    isolate(arguments.parent).map_err(at(Stage::Isolate))?;
    let mut score = OomScore::open().map_err(at(Stage::OomScore))?;
    // Before the capabilities go: until then the kernel keeps whoever has fewer of them out.
    set_dumpable(false).map_err(at(Stage::Isolate))?;
    let opened = arguments.file.as_ref().map(|file| open_file(&file.root, &file.path, file.medium));
    let file = opened.transpose().map_err(at(Stage::File))?;
    // The wall behind that one. Where the caller may make none (rootless, a kernel without), it is not there.
    let _ = seclude::empty_mounts(strategy == Strategy::Fork);
    // Before the score: written with CAP_SYS_RESOURCE, it would be a floor that nothing could lower again.
    keep_capabilities(needed).map_err(at(Stage::Capabilities))?;
    // From here on the kernel prefers this process to any other of the container.
    score.set(OomScore::FIRST).map_err(at(Stage::OomScore))?;
    drop(score);
    let page = SharedPage::map(io::stdout()).map_err(at(Stage::Progress))?;
    // Touched here, so that this process's page tables for it are charged before it joins.
    page.cells()[TOUCHED_CELL].store(0, Ordering::Release);
    let medium = arguments.file.as_ref().map(|file| file.medium);
    let fill = strategy.prepare(arguments.bytes, file, medium).map_err(at(Stage::Prepare))?;
    keep_capabilities(None).map_err(at(Stage::Capabilities))?;
    Ok((fill, page))
}

fn isolate(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the line above.
    if getppid() != parent {
        return Err(io::ErrorKind::NotConnected.into());
    }
    prctl::set_no_new_privs()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Huge pages would charge 2 MiB at a time and blur the byte of death. Older kernels refuse with EINVAL where
    // they are not built in; the region itself says no to them as well.
    let _ = prctl::set_thp_disable(true);
    close_inherited().or_else(|e| match e.raw_os_error() {
        // Before Linux 5.9. The parent opens everything close-on-exec anyway.
        Some(nix::libc::ENOSYS) => Ok(()),
        _ => Err(e),
    })
}

/// Gives up every capability but the one that is needed, as far as this process has it.
fn keep_capabilities(needed: Option<Capability>) -> io::Result<()> {
    let denied = |_| io::Error::from(io::ErrorKind::PermissionDenied);
    let permitted = caps::read(None, CapSet::Permitted).map_err(denied)?;
    let kept: CapsHashSet = needed.into_iter().filter(|capability| permitted.contains(capability)).collect();
    caps::clear(None, CapSet::Ambient).map_err(denied)?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(denied)?;
    }
    Ok(())
}

/// Stays on the CPU it is on, so that one batch of charges is in play; not on the same for all workers of a stress. Done
/// after joining: a v2 cgroup's cpuset counts.
fn pin() -> io::Result<()> {
    let mut one = CpuSet::new();
    one.set(sched_getcpu()?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

/// Obeys orders until the parent closes the socket.
fn serve(
    arguments: &Arguments,
    socket: &mut UnixStream,
    fill: &mut dyn Fill,
    page: &SharedPage,
) -> Staged<()> {
    let (touched, rewritten) = (&page.cells()[TOUCHED_CELL], &page.cells()[REWRITTEN_CELL]);
    let told = |result: io::Result<()>| result.map_err(|e| (Stage::Fill, e));
    told(Reply::Ready.send(socket))?;
    let Ok(mut door) = Door::shown(&*socket) else {
        // The parent has gone.
        return Ok(());
    };
    beside::start(arguments.parent, &mut door, page).map_err(|e| (Stage::Isolate, e))?;
    door.enter();
    drop(door);
    let mut done = 0;
    let mut pinned = false;
    while let Ok(order) = Order::receive(socket) {
        if !pinned {
            // Not worth failing for: the tolerance covers all CPUs.
            let _ = pin();
            pinned = true;
        }
        let Order::Fill { to, step, fine_from } = order else {
            return sustain(done, fill, rewritten).map_err(|e| (Stage::Fill, e));
        };
        fill_up([to, step, fine_from], &mut done, fill, touched).map_err(|e| (Stage::Fill, e))?;
        fill.verify(done).map_err(|e| (Stage::Verify, e))?;
        fill.turn(done);
        told(Reply::Done(done as u64).send(socket))?;
    }
    Ok(())
}

/// Writes all that is used again and again; the parent's SIGKILL ends it.
fn sustain(done: usize, fill: &mut dyn Fill, rewritten: &AtomicU64) -> io::Result<()> {
    if done == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        fill.rewrite(done, &|bytes| {
            rewritten.fetch_add(bytes as u64, Ordering::AcqRel);
        })?;
    }
}

/// Obeys [`Order::Fill`]: in steps, then page by page.
fn fill_up(
    [to, step, fine_from]: [u64; 3],
    done: &mut usize,
    fill: &mut dyn Fill,
    touched: &AtomicU64,
) -> io::Result<()> {
    let size = |n: u64| usize::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (to, step) = (size(to)?, size(step)?);
    let fine_from = usize::try_from(fine_from).unwrap_or(usize::MAX);
    let progress = |end: usize| touched.store(end as u64, Ordering::Release);
    for (end, step) in [(to.min(fine_from), step.max(PAGE)), (to, PAGE)] {
        if *done < end {
            fill.extend(*done, end, step, &progress)?;
            *done = end;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Pieces(RefCell<Vec<(usize, usize, usize)>>);

    impl Fill for Pieces {
        fn extend(
            &mut self,
            from: usize,
            to: usize,
            step: usize,
            progress: &dyn Fn(usize),
        ) -> io::Result<()> {
            self.0.borrow_mut().push((from, to, step));
            progress(to);
            Ok(())
        }

        fn rewrite(&mut self, to: usize, written: &dyn Fn(usize)) -> io::Result<()> {
            self.0.borrow_mut().push((0, to, 0));
            written(to);
            if self.0.borrow().len() < 3 { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        }
    }

    #[test]
    fn an_order_goes_page_by_page_where_told() {
        let (mut fill, touched, mut done) = (Pieces::default(), AtomicU64::new(0), 0);
        let pages = |order: [u64; 3]| order.map(|n| n * PAGE as u64);
        fill_up(pages([25, 10, 15]), &mut done, &mut fill, &touched).unwrap();
        fill_up(pages([30, 10, 15]), &mut done, &mut fill, &touched).unwrap();
        let in_pages: Vec<_> =
            fill.0.borrow().iter().map(|(from, to, step)| (from / PAGE, to / PAGE, step / PAGE)).collect();
        assert_eq!(in_pages, [(0, 15, 10), (15, 25, 1), (25, 30, 1)]);
        assert_eq!((done, touched.load(Ordering::Acquire)), (30 * PAGE, 30 * PAGE as u64));
    }

    #[test]
    fn what_is_used_is_written_again_until_something_ends_it() {
        let (mut fill, rewritten) = (Pieces::default(), AtomicU64::new(0));
        assert!(sustain(7, &mut fill, &rewritten).is_err());
        assert_eq!(rewritten.load(Ordering::Acquire), 3 * 7);
        assert!(sustain(0, &mut fill, &rewritten).is_err(), "nothing would be written for ever");
    }

    #[test]
    fn arguments_are_all_needed() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(Arguments::parse(&args(&["sequential", "4096", "1"])).is_some());
        assert!(Arguments::parse(&args(&["sequential", "4096"])).is_none());
        assert!(Arguments::parse(&args(&["sequential", "-1", "1"])).is_none());
        assert!(Arguments::parse(&[]).is_none());
        let file =
            Arguments::parse(&args(&["file", "4096", "1", "/proc/7/root", "/tmp", "tmpfs"])).unwrap().file;
        assert!(file.is_some_and(|file| file.medium == Medium::Tmpfs));
        assert!(Arguments::parse(&args(&["file", "4096", "1", "/", "/tmp", "tape"])).is_none());
    }
}
