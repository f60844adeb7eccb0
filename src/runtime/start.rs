//! Starts a created container.

use super::container::Container;
use super::error::{Result, RuntimeError};
use super::gate;
use super::hooks::{HookRun, run_all};
use super::launch::OOM_KILLED;
use super::status::Status;
use super::store::Store;

/// Lets the init of container `id` execute its program.
///
/// # Errors
/// It is not created (any more), the program does not run, or a hook fails: then it is stopped.
pub fn start(store: &Store, id: &str) -> Result<()> {
    let container = store.load_locked(id)?;
    match container.status() {
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
    if container.status() == Status::Stopped && container.cgroup().oom_kills().is_ok_and(|kills| kills > 0) {
        return Err(RuntimeError::start(OOM_KILLED));
    }
    let spec = container.spec()?;
    let Some(hooks) = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_deref()) else {
        return Ok(());
    };
    let state = container.oci_state().at(Status::Running, container.init_pid());
    let run = HookRun { name: "poststart", cwd: Some(container.bundle()), default_env: None };
    run_all(hooks, &state, &run).map_err(|error| {
        // The spec: generate an error, stop the container.
        if let Err(second) = super::kill::end(container) {
            tracing::warn!("{second}");
        }
        error.into()
    })
}
