//! Starts a created container.

use std::time::{Duration, Instant};

use super::container::Container;
use super::delete::destroy;
use super::error::{Result, RuntimeError};
use super::gate::{self, Failed};
use super::hooks::{HookRun, run_all};
use super::launch::{INIT_NAME, OOM_KILLED};
use super::status::Status;
use super::store::Store;
use super::{kill, receipts};
use crate::receipt::Found;

/// A process that closed the gate has its program's name, or is dead, after much less.
const NAMED_WITHIN: Duration = Duration::from_secs(1);

/// Lets the init of container `id` execute its program.
///
/// # Errors
/// It is not created (yet, or any more) or cannot be released: nothing is changed. Its program does not run: it is stopped.
/// A hook fails: it is destroyed.
pub fn start(store: &Store, id: &str) -> Result<()> {
    let container = take(store, id)?;
    match container.status()? {
        // Its create was killed, and may not have come to all that it had to do.
        Status::Created if !container.record().ready => {
            return Err(RuntimeError::Status("cannot start a container whose create did not end".to_owned()));
        }
        Status::Created => {}
        other => return Err(refused(other)),
    }
    let started = release(&container);
    if let Err(RuntimeError::Hook(_) | RuntimeError::StartHook(_)) = started {
        // The spec: generate an error, stop the container, and go on where it is destroyed.
        end(&container);
        receipts::leave(store, &container, Found::Stopped, None);
        if let Err(second) = destroy(&container) {
            tracing::warn!("{second}");
        }
    }
    started
}

/// The container, for changing it. One that is being made is not waited for.
fn take(store: &Store, id: &str) -> Result<Container> {
    if let Some(container) = store.try_load_locked(id)? {
        return Ok(container);
    }
    match store.load(id)?.status()? {
        Status::Creating => Err(refused(Status::Creating)),
        _ => store.load_locked(id),
    }
}

fn refused(status: Status) -> RuntimeError {
    RuntimeError::Status(match status {
        Status::Stopped => "cannot start a container that has stopped".to_owned(),
        Status::Running => "cannot start an already running container".to_owned(),
        other => format!("cannot start a container in the {other} state"),
    })
}

/// Opens the gate, and runs the hooks after the start.
///
/// # Errors
/// It was not started; its program does not run; or a hook failed, by which alone it may still run.
pub fn release(container: &Container) -> Result<()> {
    // What can fail comes before the program runs.
    let hooks = container.spec()?.hooks().as_ref();
    let hooks = hooks.and_then(|hooks| hooks.poststart().as_deref()).unwrap_or_default();
    let dir = container.directory();
    let opened = gate::open(dir).map_err(RuntimeError::call("open the start pipe"))?;
    let said = opened.wait(dir).map_err(|error| {
        end(container);
        RuntimeError::call("read from the start pipe")(error)
    })?;
    match said {
        Some(Failed::Hook(words)) => return Err(RuntimeError::StartHook(words)),
        Some(Failed::Program(words)) => return Err(RuntimeError::Start(words)),
        None => {}
    }
    if has_memory_limit(container) && died_before_exec(container) {
        return Err(RuntimeError::start(OOM_KILLED));
    }
    if hooks.is_empty() {
        return Ok(());
    }
    let state = container.oci_state(Status::Running).at(Status::Running, container.init_pid());
    let run = HookRun { name: "poststart", cwd: Some(container.bundle()), default_env: None };
    Ok(run_all(hooks, &state, &run)?)
}

/// Stops it; that what failed before is told is more important.
fn end(container: &Container) {
    if let Err(second) = kill::end(container) {
        tracing::warn!("{second}");
    }
}

fn has_memory_limit(container: &Container) -> bool {
    let memory = container.asked_resources().and_then(|resources| resources.memory().as_ref());
    memory.and_then(|memory| memory.limit()).is_some_and(|limit| limit > 0)
}

/// An OOM kill closes the gate as an exec does. But a process that was killed before keeps the name it had, and one
/// that executes its program is given another right after (a proof may have left a kill of its worker in the counter).
fn died_before_exec(container: &Container) -> bool {
    if !container.cgroup().oom_kills().is_ok_and(|kills| kills > 0) {
        return false;
    }
    let began = Instant::now();
    while began.elapsed() < NAMED_WITHIN {
        let stat = std::fs::read(format!("/proc/{}/stat", container.init_pid())).unwrap_or_default();
        let Some((name, rest)) = name_and_rest(&stat) else { return false };
        if name != INIT_NAME.to_bytes() {
            return false;
        }
        if rest.starts_with(b" Z") || rest.starts_with(b" X") {
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

/// The name of a process and what follows it in /proc/PID/stat.
fn name_and_rest(stat: &[u8]) -> Option<(&[u8], &[u8])> {
    let (open, close) = (stat.iter().position(|b| *b == b'(')?, stat.iter().rposition(|b| *b == b')')?);
    Some((stat.get(open + 1..close)?, &stat[close + 1..]))
}
