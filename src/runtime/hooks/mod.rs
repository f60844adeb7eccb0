//! Hooks of the OCI spec: programs run at points of a container's life with the state on their standard input.
//! Own code: libcontainer kills only the hook's own process on a timeout and discards what the hook printed.

mod child;
mod status;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::{Hook, Hooks};

use self::child::{Ended, Output};
use super::process::reason::Reason;
use crate::hook::listed::lists;
use crate::poll::after;

/// How a list of hooks is run.
#[derive(Debug, Clone, Copy)]
pub struct HookRun<'a> {
    /// prestart, createRuntime, createContainer, startContainer, poststart or poststop: for messages.
    pub name: &'a str,
    /// The working directory; None: the caller's.
    pub cwd: Option<&'a Path>,
    /// The environment of hooks that bring none; None: the caller's own, as in runc.
    pub default_env: Option<&'a [(OsString, OsString)]>,
}

/// A hook that failed; those after it were not run.
#[derive(Debug, thiserror::Error)]
#[error("error running {name} hook #{index}: {cause}")]
pub struct HookError {
    /// The list it belongs to.
    pub name: String,
    /// Its place in the list, from 0.
    pub index: usize,
    /// What happened.
    #[source]
    pub cause: HookFailure,
}

/// What happened to a hook.
#[derive(Debug, thiserror::Error)]
pub enum HookFailure {
    /// The program could not be run.
    #[error("fork/exec {path}: {reason}")]
    Start {
        /// The program.
        path: String,
        /// The kernel's answer.
        reason: Reason,
    },
    /// It could not be waited for.
    #[error("cannot wait for the hook: {0}")]
    Wait(Reason),
    /// It ended badly.
    #[error("{status}, stdout: {}, stderr: {}", output.stdout, output.stderr)]
    Failed {
        /// "exit status 1" or "signal: killed".
        status: String,
        /// What it printed, the first 64 KiB of each stream.
        output: Output,
    },
    /// Its time would be over before it began.
    #[error("invalid timeout {0}: it must be greater than 0 seconds")]
    Timeout(i64),
    /// It was killed with its process group.
    #[error("hook ran past specified timeout of {:.1}s", .0.as_secs_f64())]
    TimedOut(Duration),
}

/// Runs hooks in order until one fails. `state` is the container's state as JSON.
pub fn run_all(hooks: &[Hook], state: &[u8], run: &HookRun<'_>) -> Result<(), HookError> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, run).map_err(|cause| HookError { name: run.name.to_owned(), index, cause })?;
    }
    Ok(())
}

/// Checks what can be checked of hooks before any is run.
pub fn validate(hooks: &Hooks) -> Result<(), HookError> {
    for (name, list) in lists(hooks) {
        for (index, hook) in list.iter().enumerate() {
            timeout_of(hook).map_err(|cause| HookError { name: name.to_owned(), index, cause })?;
        }
    }
    Ok(())
}

/// The spec: a timeout is greater than zero.
fn timeout_of(hook: &Hook) -> Result<Option<Duration>, HookFailure> {
    let Some(seconds) = hook.timeout() else { return Ok(None) };
    match u64::try_from(seconds) {
        Ok(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(HookFailure::Timeout(seconds)),
    }
}

fn run_one(hook: &Hook, state: &[u8], run: &HookRun<'_>) -> Result<(), HookFailure> {
    let timeout = timeout_of(hook)?;
    let child = child::start(hook, run).map_err(|error| HookFailure::Start {
        path: hook.path().display().to_string(),
        reason: Reason::of(&error),
    })?;
    let deadline = timeout.map(after);
    match child.finish(state, deadline).map_err(HookFailure::Wait)? {
        Ended::TimedOut => Err(HookFailure::TimedOut(timeout.unwrap_or_default())),
        Ended::Exited(status, _) if status.success() => Ok(()),
        Ended::Exited(status, output) => {
            Err(HookFailure::Failed { status: status::describe(status), output })
        }
    }
}

#[cfg(test)]
mod tests;
