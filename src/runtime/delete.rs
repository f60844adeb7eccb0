//! The end of a container: processes, cgroups, records. Each step is tried even where one before failed.

use std::fs;

use super::container::Container;
use super::create::has_own_pids;
use super::error::{Result, RuntimeError};
use super::hooks::{HookRun, run_all};
use super::kill;
use super::receipts;
use super::status::Status;
use super::store::Store;
use crate::receipt::{End, Found};

/// Deletes container `id`. With `force` it is killed first if need be, one of a newer rt too, and one that does not exist
/// is no error.
///
/// # Errors
/// It runs and `force` is not given, or something of it could not be removed.
pub fn delete(store: &Store, id: &str, force: bool) -> Result<()> {
    let taken = if force { take(store, id) } else { store.load_locked(id) };
    let mut container = match taken {
        Err(RuntimeError::NotFound) if force => return remove_abandoned(store, id),
        Err(RuntimeError::NewerFormat { .. }) if force => return destroy(&mut store.load_newer(id)?),
        taken => taken?,
    };
    let found = match container.status() {
        Status::Stopped => Found::Stopped,
        Status::Created => Found::NotStarted,
        _ if force => Found::Deleted,
        other => {
            return Err(RuntimeError::NotStopped { id: id.to_owned(), status: other.to_string() });
        }
    };
    kill::end(&container)?;
    receipts::leave(store, &container, found, None);
    destroy(&mut container)
}

/// Deletes a container whose init rt has waited for.
///
/// # Errors
/// As [`delete`]; another one of that name has come instead.
pub fn delete_ended(store: &Store, ended: &Container, end: End) -> Result<()> {
    let mut container = again(store, ended)?;
    receipts::leave(store, &container, Found::Stopped, Some(end));
    destroy(&mut container)
}

/// Records how init ended, for a container that stays.
///
/// # Errors
/// The container is gone, or cannot be written to.
pub fn note_end(store: &Store, ended: &Container, end: End) -> Result<()> {
    let mut container = again(store, ended)?;
    container.record_mut().end = Some(end);
    container.save()
}

/// The container, locked: other commands may have changed it since, deleted it, or even made one of its name.
fn again(store: &Store, ended: &Container) -> Result<Container> {
    let container = store.load_locked(ended.id())?;
    if container.init() == ended.init() { Ok(container) } else { Err(RuntimeError::NotFound) }
}

/// Another command may hold the container because its init hangs in a hook or in a start: killing it lets that end.
fn take(store: &Store, id: &str) -> Result<Container> {
    if let Some(container) = store.try_load_locked(id)? {
        return Ok(container);
    }
    if let Ok(container) = store.load(id)
        && let Err(error) = kill::end(&container)
    {
        tracing::debug!("{error}");
    }
    store.load_locked(id)
}

/// A create that was killed before it recorded anything left no more than a folder.
fn remove_abandoned(store: &Store, id: &str) -> Result<()> {
    match store.abandoned(id)? {
        Some(dir) => fs::remove_dir_all(&dir).map_err(RuntimeError::file("remove", dir)),
        None => Ok(()),
    }
}

/// Removes everything of a container, whose processes are killed if any are left.
///
/// # Errors
/// The first thing that could not be removed; the record stays then, so that delete can be tried again.
pub fn destroy(container: &mut Container) -> Result<()> {
    kill::end(container)?;
    let spec = container.spec();
    let cgroup = container.cgroup();
    let own_pids = spec.as_ref().is_ok_and(|spec| has_own_pids(spec));
    if !own_pids
        && cgroup.exists()
        && let Err(error) = cgroup.signal_all(libc::SIGKILL)
    {
        tracing::debug!("{error}");
    }
    cgroup.delete()?;
    if let Some(group) = &container.record().rdt {
        group.destroy().map_err(RuntimeError::call("remove the resctrl group"))?;
    }
    let hooks = spec.ok().and_then(|spec| spec.hooks().as_ref()).and_then(|hooks| hooks.poststop().clone());
    let state = container.oci_state().at(Status::Stopped, 0);
    let bundle = container.bundle().to_owned();
    container.remove_folder()?;
    // Each is run, and a failure is only logged, as the spec says.
    for (index, hook) in hooks.iter().flatten().enumerate() {
        let run = HookRun { name: "poststop", cwd: Some(&bundle), default_env: None };
        if let Err(error) = run_all(std::slice::from_ref(hook), &state, &run) {
            tracing::warn!("error running poststop hook #{index}: {}", error.cause);
        }
    }
    Ok(())
}
