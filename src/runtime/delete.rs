//! The end of a container: processes, cgroups, records. Each step is tried even where one before failed.

use oci_spec::runtime::Spec;

use super::container::Container;
use super::create::has_own_pids;
use super::error::{Result, RuntimeError};
use super::hooks::{HookRun, run_all};
use super::kill;
use super::status::Status;
use super::store::Store;
use super::{folder, lost, receipts, saved};
use crate::receipt::{End, Found};

/// Deletes container `id`. With `force` it is killed first if need be, one of a newer rt too, and one that does not exist
/// is no error.
///
/// # Errors
/// It runs and `force` is not given, or something of it could not be removed.
pub fn delete(store: &Store, id: &str, force: bool) -> Result<()> {
    let taken = if force { take(store, id) } else { store.load_locked(id) };
    let container = match taken {
        Err(RuntimeError::NotFound | RuntimeError::Parse { .. }) if force => return lost::delete(store, id),
        Err(RuntimeError::NewerFormat { .. }) if force => return destroy(&store.load_newer(id)?),
        taken => taken?,
    };
    let found = match container.status() {
        Ok(Status::Stopped) => Found::Stopped,
        Ok(Status::Created) => Found::NotStarted,
        Ok(other) if !force => {
            return Err(RuntimeError::NotStopped { id: id.to_owned(), status: other.to_string() });
        }
        Err(error) if !force => return Err(error),
        _ => Found::Deleted,
    };
    if found != Found::Stopped {
        kill::end(&container)?;
    }
    receipts::leave(store, &container, found, None);
    remove(&container, force)
}

/// Deletes a container whose init rt has waited for.
///
/// # Errors
/// As [`delete`]; another one of that name has come instead.
pub fn delete_ended(store: &Store, ended: &Container, end: End) -> Result<()> {
    let container = again(store, ended)?;
    receipts::leave(store, &container, Found::Stopped, Some(end));
    remove(&container, false)
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

/// Ends and removes a container that rt was to wait for and cannot, as nobody else would; another one of that name, which has come
/// instead, stays. The caller has not locked it. A failure is only logged: the other one is told.
pub fn destroy_unwatched(store: &Store, container: &Container) {
    if let Err(error) = again(store, container).and_then(|container| destroy(&container)) {
        tracing::warn!("{error}");
    }
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

/// Removes everything of a container, whose processes are killed if any are left.
///
/// # Errors
/// The first thing that could not be removed; the record stays then, so that delete can be tried again.
pub fn destroy(container: &Container) -> Result<()> {
    kill::end(container)?;
    remove(container, true)
}

/// Removes everything of a container whose init has ended. Where its config is lost, only `force` goes on without its hooks.
fn remove(container: &Container, force: bool) -> Result<()> {
    let spec = spec(container, force)?;
    let cgroup = container.cgroup();
    // All that is in a cgroup of its own is the container's.
    let has_others = spec.map_or(!cgroup.was_preexisting(), |spec| !has_own_pids(spec));
    if has_others
        && cgroup.exists()?
        && let Err(error) = cgroup.signal_all(libc::SIGKILL)
    {
        tracing::debug!("{error}");
    }
    cgroup.delete()?;
    if let Some(group) = &container.record().rdt {
        group.destroy().map_err(RuntimeError::call("remove the resctrl group"))?;
    }
    folder::remove(container.directory())?;
    let hooks = spec.and_then(|spec| spec.hooks().as_ref()).and_then(|hooks| hooks.poststop().as_deref());
    let state = container.oci_state(Status::Stopped).at(Status::Stopped, 0);
    // Each is run, and a failure is only logged, as the spec says.
    for (index, hook) in hooks.unwrap_or_default().iter().enumerate() {
        let run = HookRun { name: "poststop", cwd: Some(container.bundle()), default_env: None };
        if let Err(error) = run_all(std::slice::from_ref(hook), &state, &run) {
            tracing::warn!("error running poststop hook #{index}: {}", error.cause);
        }
    }
    Ok(())
}

/// The config; none where the container never had a process, or where it is lost and that is no reason to keep the rest.
fn spec(container: &Container, force: bool) -> Result<Option<&Spec>> {
    match container.spec() {
        Ok(spec) => Ok(Some(spec)),
        Err(error) if saved::is_lost(&error) && container.init().is_none() => Ok(None),
        // An older rt did not note what it saved.
        Err(error) if saved::is_lost(&error) && (force || container.record().saved.is_none()) => {
            tracing::warn!("poststop hooks of container {} are not run: {error}", container.id());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
