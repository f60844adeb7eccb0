//! Signals to a container. Its recorded status is never changed by them.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::container::Container;
use super::create::has_own_pids;
use super::error::{Result, RuntimeError};
use super::receipts;
use super::status::Status;
use crate::sys::clone::pidfd_send_signal;
use crate::sys::process::pidfd_open;

/// How long a killed init may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `signal` to the container's init; to all of its processes where it has no pids of its own and the signal is
/// SIGKILL, since nothing else would end them.
///
/// # Errors
/// It does not run.
pub fn signal(container: &Container, signal: i32) -> Result<()> {
    if container.status() == Status::Stopped {
        // A container without pids of its own can outlive its init.
        if signal == libc::SIGKILL && !has_own_pids(container.spec()?) && container.cgroup().exists() {
            container.cgroup().signal_all(signal)?;
            return Ok(());
        }
        return Err(RuntimeError::NotRunning);
    }
    receipts::note_signal(container, signal);
    if signal == libc::SIGKILL && !has_own_pids(container.spec()?) {
        return Ok(container.cgroup().signal_all(signal)?);
    }
    send(container, signal)?;
    if signal == libc::SIGKILL && container.cgroup().is_frozen().unwrap_or(false) {
        // A frozen process of cgroup v1 dies when it thaws.
        container.cgroup().thaw()?;
    }
    Ok(())
}

fn send(container: &Container, signal: i32) -> Result<()> {
    let init = container.init().ok_or(RuntimeError::NotRunning)?;
    let gone = |error: &std::io::Error| error.raw_os_error() == Some(libc::ESRCH);
    let pidfd = match pidfd_open(init.pid) {
        Err(Errno::ESRCH) => return Err(RuntimeError::NotRunning),
        pidfd => pidfd.map_err(RuntimeError::call("pidfd_open"))?,
    };
    // The descriptor names one process; if that is not init, init is gone.
    if !init.is_alive() {
        return Err(RuntimeError::NotRunning);
    }
    match pidfd_send_signal(&pidfd, signal) {
        Err(error) if gone(&error) => Err(RuntimeError::NotRunning),
        sent => sent.map_err(RuntimeError::call("signal init")),
    }
}

/// Kills every process of the container and waits for init's end.
///
/// # Errors
/// It does not end in time.
pub fn end(container: &Container) -> Result<()> {
    let cgroup = container.cgroup();
    let Some(init) = container.init().filter(|init| init.is_alive()) else { return Ok(()) };
    let pidfd = match pidfd_open(init.pid) {
        Err(Errno::ESRCH) => return Ok(()),
        pidfd => pidfd.map_err(RuntimeError::call("pidfd_open"))?,
    };
    if !init.is_alive() {
        return Ok(());
    }
    match pidfd_send_signal(&pidfd, libc::SIGKILL) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
            return Err(RuntimeError::Call { doing: "kill init", error });
        }
        _ => {}
    }
    if cgroup.is_frozen().unwrap_or(false) {
        cgroup.thaw()?;
    }
    wait_readable(pidfd.as_fd(), PATIENCE, container.id())
}

/// A pidfd is readable when its process has ended.
fn wait_readable(pidfd: std::os::fd::BorrowedFd<'_>, patience: Duration, id: &str) -> Result<()> {
    let end = Instant::now() + patience;
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
