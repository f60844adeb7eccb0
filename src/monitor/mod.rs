//! A live view of a container's memory: readings at an interval, until the container ends or time is up.

mod reading;
mod source;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

pub use reading::Reading;
pub use source::Source;

use crate::cgroup::CgroupError;
use crate::poll::{SignalGuard, ticker};
use crate::sys::worker::pidfd_open;

/// Why watching failed.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("cannot set up the live view: {what}")]
    Setup { what: &'static str, source: io::Error },
    #[error("cannot show a reading")]
    Show(#[source] io::Error),
}

/// Why watching ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The container's init ended, or its cgroup is gone.
    Ended,
    TimeUp,
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
}

/// Shows a reading at once and then at each `interval`, for `time` or (`None`) until `init` ends.
pub fn watch(
    init: Pid,
    interval: Duration,
    time: Option<Duration>,
    see: &mut dyn FnMut(&Reading) -> io::Result<()>,
) -> Result<End, MonitorError> {
    let setup = |what| move |source: io::Error| MonitorError::Setup { what, source };
    // The descriptor first: whatever is located afterwards belongs to this process or to none.
    let pidfd = match pidfd_open(init) {
        Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(End::Ended),
        opened => opened.map_err(setup("process descriptor"))?,
    };
    let signals = SignalGuard::new().map_err(setup("signals"))?;
    let timer = ticker(interval).map_err(setup("timer"))?;
    let until = time.map(|time| Instant::now() + time);
    let mut source = match Source::open(init.as_raw()) {
        Err(CgroupError::NoProcess { .. }) => return Ok(End::Ended),
        opened => opened?,
    };
    loop {
        match source.read() {
            Ok(reading) => see(&reading).map_err(MonitorError::Show)?,
            Err(e) if e.is_missing() => return Ok(End::Ended),
            Err(e) => return Err(e.into()),
        }
        let mut fds =
            [pidfd.as_fd(), signals.as_fd(), timer.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout(until)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(setup("poll")(e.into())),
        }
        let [ended, signalled, ticked] = fds.map(|fd| fd.any().unwrap_or(false));
        if signalled && signals.caught() {
            return Ok(End::Interrupted);
        }
        if ended {
            return Ok(End::Ended);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(End::TimeUp);
        }
        if ticked {
            let _ = timer.wait();
        }
    }
}

fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    // Rounded up, so that the loop does not spin in the last millisecond.
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
