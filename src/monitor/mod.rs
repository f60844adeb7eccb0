//! A live view of a container's memory: readings at an interval, until the container ends or time is up.

mod fleet;
mod host;
mod lasting;
mod member;
mod pace;
mod reading;
mod source;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;

pub use fleet::{Found, Known, watch_all};
use pace::{Pace, Wake};
pub use reading::Reading;
pub use source::Source;

use crate::cgroup::{CgroupError, MemoryCgroup};
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
    /// It had ended before the view began.
    Stopped,
    TimeUp,
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
}

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The container with this init, until it ends: the cgroup that it was given, where that is known, else that of init.
    Process { init: Pid, cgroup: Option<MemoryCgroup> },
    /// This folder of the memory controller, until it is gone.
    Folder(PathBuf),
}

/// Shows a reading at once and then at each `interval`, for `time` or (`None`) until the target ends.
pub fn watch(
    target: &Target,
    interval: Duration,
    time: Option<Duration>,
    see: &mut dyn FnMut(&Reading) -> io::Result<()>,
) -> Result<End, MonitorError> {
    // The descriptor first: whatever is located afterwards belongs to this process or to none.
    let init = match target {
        Target::Folder(_) => None,
        Target::Process { init, .. } => match pidfd_open(*init) {
            Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(End::Ended),
            opened => Some(opened.map_err(setup("process descriptor"))?),
        },
    };
    let pace = Pace::new(interval, time)?;
    if let Some(init) = &init {
        pace.end_with(init.as_fd(), 0)?;
    }
    let opened = match target {
        Target::Process { init, cgroup } => Source::of_container(init.as_raw(), cgroup.as_ref()),
        Target::Folder(dir) => Source::of_folder(dir),
    };
    let mut source = match opened {
        Err(CgroupError::NoProcess { .. }) => return Ok(End::Ended),
        opened => opened?,
    };
    loop {
        match source.read() {
            Ok(reading) => see(&reading).map_err(MonitorError::Show)?,
            Err(e) if e.is_missing() => return Ok(End::Ended),
            Err(e) => return Err(e.into()),
        }
        match pace.wait()? {
            Wake::Ended(_) => return Ok(End::Ended),
            // A cgroup of v2 without the controller is accounted by one above, which stays.
            Wake::Tick if matches!(target, Target::Folder(dir) if !dir.is_dir()) => {
                return Ok(End::Ended);
            }
            Wake::Tick => {}
            Wake::TimeUp => return Ok(End::TimeUp),
            Wake::Interrupted => return Ok(End::Interrupted),
        }
    }
}

fn setup(what: &'static str) -> impl Fn(io::Error) -> MonitorError {
    move |source| MonitorError::Setup { what, source }
}
