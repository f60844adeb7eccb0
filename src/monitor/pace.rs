//! When to look again: at an interval, until the time is up or a signal comes.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::timerfd::TimerFd;

use super::{MonitorError, setup};
use crate::poll::{SignalGuard, ticker};

/// The clock of a live view.
#[derive(Debug)]
pub(super) struct Pace {
    signals: SignalGuard,
    timer: TimerFd,
    until: Option<Instant>,
}

/// Why waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wake {
    /// Something is to be done: which of the others are ready.
    Ready(Vec<bool>),
    TimeUp,
    Interrupted,
}

impl Pace {
    /// A tick each `interval`, for `time` or for ever.
    pub fn new(interval: Duration, time: Option<Duration>) -> Result<Self, MonitorError> {
        Ok(Self {
            signals: SignalGuard::new().map_err(setup("signals"))?,
            timer: ticker(interval).map_err(setup("timer"))?,
            until: time.map(|time| Instant::now() + time),
        })
    }

    /// Waits for the next tick, the end, or one of `others`.
    pub fn wait(&self, others: &[BorrowedFd<'_>]) -> Result<Wake, MonitorError> {
        let all = [self.signals.as_fd(), self.timer.as_fd()].into_iter().chain(others.iter().copied());
        let mut fds: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(setup("poll")(e.into())),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready[0] && self.signals.caught() {
            return Ok(Wake::Interrupted);
        }
        let others = ready[2..].to_vec();
        if !others.contains(&true) && self.until.is_some_and(|until| Instant::now() >= until) {
            return Ok(Wake::TimeUp);
        }
        if ready[1] {
            let _ = self.timer.wait();
        }
        Ok(Wake::Ready(others))
    }

    fn timeout(&self) -> PollTimeout {
        let Some(until) = self.until else { return PollTimeout::NONE };
        // Rounded up, so that the loop does not spin in the last millisecond.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }
}
