//! `kill(2)` with any signal number: nix's `Signal` knows no real-time signals.

use nix::errno::Errno;
use nix::unistd::Pid;

/// Sends signal number `signal` to one process (or, with a negative pid, to a group).
pub fn kill(pid: Pid, signal: libc::c_int) -> nix::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of this process.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}
