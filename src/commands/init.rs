//! `__init`: the first process of a container made from nothing. Reaps, ends on SIGTERM or SIGINT, and uses as little
//! memory as can be: it is charged to the container for its whole life.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::exit::ExitStatus;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__init";

/// Waits for signals until one of them ends the container.
pub fn run() -> ExitStatus {
    // Blocked signals wait for us even as pid 1, for which the kernel drops signals with a default action.
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect();
    if signals.thread_block().is_err() {
        return ExitStatus::FAILURE;
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => return ExitStatus::SUCCESS,
            Err(Errno::EINTR) => {}
            Err(_) => return ExitStatus::FAILURE,
        }
    }
}

/// Takes all children that have ended: one SIGCHLD may stand for many.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
