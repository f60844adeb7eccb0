//! When to look again: at an interval, until the time is up, a signal comes or something ends.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::TimerFd;

use super::{MonitorError, setup};
use crate::poll::{SignalGuard, after, ticker};

/// What epoll calls the signals and the timer; all smaller numbers are of what may end.
const SIGNAL: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Of those that end at once the rest are told at the next call.
const AT_ONCE: usize = 64;

/// The clock of a live view.
#[derive(Debug)]
pub(super) struct Pace {
    signals: SignalGuard,
    timer: TimerFd,
    until: Option<Instant>,
    /// Kept, so that a wait costs the same however many are waited for.
    epoll: Epoll,
}

/// Why waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wake {
    Tick,
    /// These of what was given to [`Pace::end_with`] have ended.
    Ended(Vec<u32>),
    TimeUp,
    Interrupted,
}

impl Pace {
    /// A tick each `interval`, for `time` or for ever.
    pub fn new(interval: Duration, time: Option<Duration>) -> Result<Self, MonitorError> {
        let pace = Self {
            signals: SignalGuard::new().map_err(setup("signals"))?,
            timer: ticker(interval).map_err(setup("timer"))?,
            until: time.map(after),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| setup("poll")(e.into()))?,
        };
        pace.add(pace.signals.as_fd(), SIGNAL)?;
        pace.add(pace.timer.as_fd(), TIMER)?;
        Ok(pace)
    }

    /// Tells when the descriptor is readable: the process that it names has ended. Closing it takes it back.
    pub fn end_with(&self, process: BorrowedFd<'_>, number: u32) -> Result<(), MonitorError> {
        self.add(process, u64::from(number))
    }

    fn add(&self, fd: BorrowedFd<'_>, data: u64) -> Result<(), MonitorError> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, data);
        self.epoll.add(fd, event).map_err(|e| setup("poll")(e.into()))
    }

    /// Waits for the next tick, the end, or one of those that may end.
    pub fn wait(&self) -> Result<Wake, MonitorError> {
        let mut events = [EpollEvent::empty(); AT_ONCE];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Err(Errno::EINTR) => 0,
                waited => waited.map_err(|e| setup("poll")(e.into()))?,
            };
            let ready = events[..count].iter().map(EpollEvent::data);
            if ready.clone().any(|data| data == SIGNAL) && self.signals.caught() {
                return Ok(Wake::Interrupted);
            }
            let ended: Vec<u32> = ready.clone().filter_map(|data| u32::try_from(data).ok()).collect();
            if !ended.is_empty() {
                return Ok(Wake::Ended(ended));
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Wake::TimeUp);
            }
            if ready.clone().any(|data| data == TIMER) {
                let _ = self.timer.wait();
                return Ok(Wake::Tick);
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(until) = self.until else { return EpollTimeout::NONE };
        // Rounded up, so that the loop does not spin in the last millisecond.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::worker::pidfd_open;
    use nix::unistd::Pid;

    #[test]
    fn an_end_is_told_by_its_number_and_the_tick_still_comes() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let pace = Pace::new(Duration::from_millis(1), Some(Duration::from_secs(60))).unwrap();
        let process = pidfd_open(pid).unwrap();
        pace.end_with(process.as_fd(), 7).unwrap();
        assert_eq!(pace.wait().unwrap(), Wake::Tick);
        child.kill().unwrap();
        let mut woken = pace.wait().unwrap();
        while woken == Wake::Tick {
            woken = pace.wait().unwrap();
        }
        assert_eq!(woken, Wake::Ended(vec![7]));
        drop(process);
        assert_eq!(pace.wait().unwrap(), Wake::Tick, "what is closed tells nothing more");
        child.wait().unwrap();
        let over = Pace::new(Duration::from_secs(60), Some(Duration::ZERO)).unwrap();
        assert_eq!(over.wait().unwrap(), Wake::TimeUp);
    }
}
