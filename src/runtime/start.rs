//! Starts a created container.

use std::time::{Duration, Instant};

use super::container::Container;
use super::error::{Result, RuntimeError};
use super::gate;
use super::hooks::{HookRun, run_all};
use super::launch::{INIT_NAME, OOM_KILLED};
use super::status::Status;
use super::store::Store;

/// A process that closed the gate has its program's name, or is dead, after much less.
const NAMED_WITHIN: Duration = Duration::from_secs(1);

/// Lets the init of container `id` execute its program.
///
/// # Errors
/// It is not created (any more), the program does not run, or a hook fails: then it is stopped.
pub fn start(store: &Store, id: &str) -> Result<()> {
    let container = store.load_locked(id)?;
    match container.status()? {
        // Its create was killed, and may not have come to all that it had to do.
        Status::Created if !container.record().ready => {
            Err(RuntimeError::Status("cannot start a container whose create did not end".to_owned()))
        }
        Status::Created => release(&container),
        Status::Stopped => Err(RuntimeError::Status("cannot start a container that has stopped".to_owned())),
        Status::Running => Err(RuntimeError::Status("cannot start an already running container".to_owned())),
        other => Err(RuntimeError::Status(format!("cannot start a container in the {other} state"))),
    }
}

/// Opens the gate, and runs the hooks after the start.
///
/// # Errors
/// As [`start`].
pub fn release(container: &Container) -> Result<()> {
    let said = gate::open(container.directory()).map_err(RuntimeError::call("open the start pipe"))?;
    if let Some(words) = said {
        return Err(RuntimeError::Start(words));
    }
    if has_memory_limit(container) && died_before_exec(container) {
        return Err(RuntimeError::start(OOM_KILLED));
    }
    let spec = container.spec()?;
    let Some(hooks) = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_deref()) else {
        return Ok(());
    };
    let state = container.oci_state(Status::Running).at(Status::Running, container.init_pid());
    let run = HookRun { name: "poststart", cwd: Some(container.bundle()), default_env: None };
    run_all(hooks, &state, &run).map_err(|error| {
        // The spec: generate an error, stop the container.
        if let Err(second) = super::kill::end(container) {
            tracing::warn!("{second}");
        }
        error.into()
    })
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
