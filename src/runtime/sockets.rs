//! The sockets that callers name on the command line to be handed descriptors.

use std::os::fd::{AsFd, OwnedFd};

use super::error::{Result, RuntimeError};
use super::launch::send_descriptor;
use super::process::reason::Reason;

/// Sends the descriptor of a process; `kind` is runc's name of it: `standard` or `setns`.
///
/// # Errors
/// Nobody takes it.
pub fn send_pidfd(socket: &OwnedFd, kind: &str, pidfd: impl AsFd) -> Result<()> {
    send_descriptor(socket, kind.as_bytes(), pidfd)
        .map_err(|error| RuntimeError::Start(format!("failed to setup pidfd: {}", Reason::of(&error))))
}
