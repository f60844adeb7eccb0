//! What every child of the launch does first. A process of the container may see it: by a pid namespace that is joined, as
//! pid 1 of its own, or after a stage has made it. So it hides what it has of the host and of the caller.

use std::ffi::{CStr, OsString};
use std::os::fd::BorrowedFd;

use super::Failure;
use crate::log;
use crate::runtime::process::oom_score_adj;
use crate::sys::clone::{set_dumpable, set_process_name};
use crate::sys::process::forget_environment;

/// What the child is called until it executes its program.
pub const INIT_NAME: &CStr = c"rt:[2:INIT]";

/// An environment, in the order in which it came.
pub type Variables = Vec<(OsString, OsString)>;

/// Hides this child, whose log lines go to the parent by `socket` from now on. `score` is the bias of the OOM killer, which
/// an undumpable process of an ordinary user can no longer set; its children inherit it.
///
/// # Errors
/// It cannot be hidden, or the bias cannot be set.
pub fn hide(socket: BorrowedFd<'_>, score: Option<i32>) -> Result<(), Failure> {
    log::to_parent(socket);
    // The sealed binary has no name of its own.
    set_process_name(INIT_NAME);
    if let Some(score) = score {
        oom_score_adj::apply(score)?;
    }
    forget_environment();
    Ok(set_dumpable(false)?)
}
