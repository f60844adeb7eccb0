//! `fork`: the limit holds for all processes together. Children hold a part each; one after the other fills.
//!
//! The kernel kills the process with the most points. Each child that is full lowers its oom_score_adj a little, so
//! that the one that fills is always the likeliest: its death is then at the exact byte, as with one process. Whoever
//! of the family dies, the rest follows at once, and the worker ends as its child did.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

use super::Fill;
use super::mapped::{Constant, Mapped, PAGE};
use crate::proof::oom_score::OomScore;
use crate::sys::clone::{CloneOptions, clone_process};
use crate::sys::memory::Region;

/// Children at most.
pub const CHILDREN: u64 = 32;

/// What each child holds of so many bytes: whole pages.
pub fn share(bytes: u64) -> u64 {
    bytes.div_ceil(CHILDREN).next_multiple_of(PAGE as u64)
}

/// oom_score_adj of a child that is full. The difference to one that fills, a tenth of the limit, is more than any child
/// holds.
const FULL: &str = "900";

/// An order to a child: up to where, in which steps.
type Order = [u64; 2];

/// Orders that are no fill: to lower its oom_score_adj, and to write again what it holds.
const REST: Order = [0, 0];
const AGAIN: Order = [u64::MAX, 0];

/// The children, of which the last one fills.
pub(super) struct Family {
    /// Bytes of each child.
    share: usize,
    children: Vec<Child>,
}

struct Child {
    pid: Pid,
    socket: UnixStream,
    /// Of the whole, where its part begins.
    start: usize,
}

impl Family {
    pub fn new(bytes: usize) -> io::Result<Self> {
        // Lowering is forbidden where a privileged writer set a floor; better known now than half way.
        let mut score = OomScore::open_undumpable()?;
        score.set(FULL)?;
        score.set(OomScore::FIRST)?;
        let share = usize::try_from(share(bytes as u64)).map_err(io::Error::other)?;
        Ok(Self { share, children: Vec::new() })
    }

    /// A child has gone: nobody of the family is left behind, and this process ends as the child did.
    fn end_alike(&mut self, error: io::Error) -> io::Error {
        for child in &self.children {
            let _ = kill(child.pid, Signal::SIGKILL);
        }
        // The last one is the one that was told to fill.
        let ends: Vec<_> = self.children.drain(..).map(|child| waitpid(child.pid, None)).collect();
        if let Some(Ok(WaitStatus::Signaled(_, signal, _))) = ends.last() {
            let _ = raise(*signal);
        }
        error
    }

    fn fill(&mut self, from: usize, to: usize, step: usize, progress: &dyn Fn(usize)) -> io::Result<()> {
        let share = self.share;
        let mut at = from;
        while at < to {
            let child = self.child(at, progress)?;
            let end = to.min(child.start + share);
            child.ask([(end - child.start) as u64, step as u64])?;
            if end == child.start + share {
                child.ask(REST)?;
            }
            at = end;
        }
        Ok(())
    }

    /// The child whose part holds the byte `at`, begun if need be.
    fn child(&mut self, at: usize, progress: &dyn Fn(usize)) -> io::Result<&mut Child> {
        let start = at / self.share * self.share;
        if self.children.last().is_none_or(|child| child.start != start) {
            self.children.push(Child::start(start, self.share, progress)?);
        }
        self.children.last_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Fill for Family {
    fn extend(&mut self, from: usize, to: usize, step: usize, progress: &dyn Fn(usize)) -> io::Result<()> {
        self.fill(from, to, step, progress).map_err(|e| self.end_alike(e))
    }

    fn rewrite(&mut self, to: usize, written: &dyn Fn(usize)) -> io::Result<()> {
        let share = self.share;
        let again = self.children.iter_mut().try_for_each(|child| {
            let bytes = to.saturating_sub(child.start).min(share);
            child.ask(AGAIN)?;
            written(bytes);
            Ok(())
        });
        again.map_err(|e| self.end_alike(e))
    }
}

impl Child {
    fn start(start: usize, share: usize, progress: &dyn Fn(usize)) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let parent = getpid();
        let pid = clone_process(CloneOptions::default(), |_| {
            i32::from(serve(theirs, parent, share, &|end| progress(start + end)).is_err())
        })?;
        Ok(Self { pid, socket: ours, start })
    }

    /// Has the child obey.
    fn ask(&mut self, [to, step]: Order) -> io::Result<()> {
        self.socket.write_all([to, step].map(u64::to_le_bytes).as_flattened())?;
        self.socket.read_exact(&mut [0; 1])
    }
}

/// The child's life: obeys until the worker is gone.
fn serve(mut socket: UnixStream, parent: Pid, share: usize, progress: &dyn Fn(usize)) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(io::ErrorKind::NotConnected.into());
    }
    let mut memory = Mapped::new(Region::new(share)?, Constant);
    let mut done = 0;
    loop {
        let mut order = [[0; 8]; 2];
        socket.read_exact(order.as_flattened_mut())?;
        match order.map(u64::from_le_bytes) {
            REST => OomScore::open_undumpable()?.set(FULL)?,
            AGAIN => memory.rewrite(done, &|_| {})?,
            [to, step] => {
                let to = usize::try_from(to).unwrap_or(share).min(share);
                let step = usize::try_from(step).unwrap_or(PAGE).max(PAGE);
                memory.extend(done, to, step, progress)?;
                done = to;
            }
        }
        socket.write_all(&[1])?;
    }
}
