//! Signals to a container. Its recorded status is never changed by them.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::cgroups::Cgroup;
use super::container::Container;
use super::create::has_own_pids;
use super::error::{Result, RuntimeError};
use super::receipts;
use crate::poll::after;
use crate::sys::clone::pidfd_send_signal;
use crate::sys::process::pidfd_open;

/// How long a killed init may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `signal` to the container's init; to all of its processes where it has no pids of its own and the signal is
/// SIGKILL, since nothing else would end them.
///
/// # Errors
/// It does not run, or nobody can tell.
pub fn signal(container: &Container, signal: i32) -> Result<()> {
    let cgroup = container.cgroup();
    let Some(init) = hold(container)? else {
        // A container without pids of its own can outlive its init.
        if signal == libc::SIGKILL && !has_own_pids(container.spec()?) && cgroup.exists()? {
            return Ok(cgroup.signal_all(signal)?);
        }
        return Err(RuntimeError::NotRunning);
    };
    receipts::note_signal(container, signal);
    if signal == libc::SIGKILL && !has_own_pids(container.spec()?) {
        match cgroup.signal_all(signal) {
            // An ordinary user's container may have none: init is all that can be found, as in runc.
            Err(error) if cgroup.is_rootless() && error.is_gone() => {
                tracing::warn!(
                    "only init of the container is killed: {error} (delegate cgroup v2 to reach all)"
                );
            }
            sent => return Ok(sent?),
        }
    }
    match pidfd_send_signal(&init, signal) {
        Err(error) if is_gone(&error) => return Err(RuntimeError::NotRunning),
        sent => sent.map_err(RuntimeError::call("signal init"))?,
    }
    if signal == libc::SIGKILL {
        cgroup.let_die()?;
    }
    Ok(())
}

/// Init, by a descriptor that names this one process; `None` if it is gone.
fn hold(container: &Container) -> Result<Option<OwnedFd>> {
    let Some(init) = container.init() else { return Ok(None) };
    match pidfd_open(init.pid) {
        Err(Errno::ESRCH) => Ok(None),
        pidfd => {
            let pidfd = pidfd.map_err(RuntimeError::call("pidfd_open"))?;
            // If what the descriptor names is not init, init is gone.
            Ok(init.is_alive()?.then_some(pidfd))
        }
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// Kills every process of the container and waits for init's end.
///
/// # Errors
/// It does not end in time, or nobody can tell whether it runs.
pub fn end(container: &Container) -> Result<()> {
    let Some(init) = hold(container)? else { return Ok(()) };
    end_held(&init, Some(container.cgroup()), container.id())
}

/// Kills the process that `init` names, of the container with this cgroup, and waits for its end.
///
/// # Errors
/// It cannot be signalled, or does not end in time.
pub(super) fn end_held(init: &OwnedFd, cgroup: Option<&Cgroup>, id: &str) -> Result<()> {
    match pidfd_send_signal(init, libc::SIGKILL) {
        Err(error) if !is_gone(&error) => {
            return Err(RuntimeError::Call { doing: "kill init", error });
        }
        _ => {}
    }
    cgroup.map_or(Ok(()), Cgroup::let_die)?;
    wait_readable(init.as_fd(), PATIENCE, id)
}

/// A pidfd is readable when its process has ended.
fn wait_readable(pidfd: std::os::fd::BorrowedFd<'_>, patience: Duration, id: &str) -> Result<()> {
    let end = after(patience);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(RuntimeError::Other(format!("the init of container {id} does not end"))),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(RuntimeError::call("poll")(errno)),
        }
    }
}
