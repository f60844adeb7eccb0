//! What a poll loop waits for beside its own work: ticks, deadlines, and signals that end it in order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};

/// Signals that end a proof or a live view in order.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Keeps signals that end the work in a descriptor; they are delivered as before when it is dropped.
#[derive(Debug)]
pub struct SignalGuard {
    fd: SignalFd,
    before: SigSet,
}

impl SignalGuard {
    /// Blocks SIGINT, SIGTERM and SIGHUP from here on.
    pub fn new() -> io::Result<Self> {
        let mask = ENDING.into_iter().collect::<SigSet>();
        let before = SigSet::thread_get_mask()?;
        mask.thread_block()?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, before })
    }

    /// True where a signal came that ends the work; it is taken.
    pub fn caught(&self) -> bool {
        matches!(self.fd.read_signal(), Ok(Some(_)))
    }
}

impl AsFd for SignalGuard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// Whether `fd` becomes readable, or its other end goes, within so long. A pidfd does when its process has ended.
pub fn readable_within(fd: impl AsFd, within: Duration) -> io::Result<bool> {
    let ends = after(within);
    loop {
        // Rounded up: not a busy loop in the last millisecond.
        let left = ends.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) if Instant::now() < ends => {}
            Err(Errno::EINTR) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

/// No wait of rt is longer.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The moment `time` from now, or the end of the longest wait. All deadlines are made here: a time that somebody has
/// chosen may be more than the clock has room for.
#[must_use]
pub fn after(time: Duration) -> Instant {
    Instant::now() + time.min(LONGEST)
}

/// A timer that is readable at each tick; `wait` takes the tick and does not block.
pub fn ticker(every: Duration) -> io::Result<TimerFd> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    timer
        .set(Expiration::Interval(TimeSpec::from_duration(every.min(LONGEST))), TimerSetTimeFlags::empty())?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_long_for_a_deadline() {
        for time in [Duration::MAX, Duration::from_secs(i64::MAX.unsigned_abs()), LONGEST] {
            let left = after(time).saturating_duration_since(Instant::now());
            assert!(left > LONGEST / 2 && left <= LONGEST, "{left:?}");
            ticker(time).unwrap();
        }
        assert!(after(Duration::ZERO) <= Instant::now());
    }
}
