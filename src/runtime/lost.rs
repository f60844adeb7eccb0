//! The end of a container whose record is lost or cut: by what its name still leads to. Nothing is killed on a guess: a process
//! is the container's if the record's rest names it, if it waits at the container's start pipe, or if it is in a cgroup that
//! has the container's name.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::cgroups::Cgroup;
use super::delete::{self, destroy};
use super::error::{Result, RuntimeError};
use super::folder::{self, Rest};
use super::record::Record;
use super::store::Store;
use super::{gate, kill, saved};
use crate::sys::process::pidfd_open;

/// Removes what is left of container `id`; nothing at all is fine.
///
/// # Errors
/// The folder is none of rt's, or something could not be ended or removed.
pub(super) fn delete(store: &Store, id: &str) -> Result<()> {
    let Some((dir, lock)) = store.hold(id)? else { return Ok(()) };
    match Record::read(&dir) {
        Ok(None) | Err(RuntimeError::Parse { .. }) => {}
        // It came meanwhile.
        Ok(Some(_)) => {
            drop(lock);
            return delete::delete(store, id, true);
        }
        Err(error) => return Err(error),
    }
    match Rest::of(&dir)? {
        None => Ok(()),
        Some(Rest::Scraps) => folder::remove(&dir),
        Some(Rest::Foreign(runtime)) => Err(RuntimeError::Foreign { path: dir, runtime }),
        Some(Rest::Unknown(name)) => Err(RuntimeError::Other(format!(
            "cannot delete {}: it has no record, and '{name}' may be somebody else's",
            dir.display()
        ))),
        Some(Rest::Lost) => {
            drop(lock);
            match store.load_newer(id) {
                Ok(container) => destroy(&container),
                Err(RuntimeError::NotFound | RuntimeError::Parse { .. }) => end_by_name(store, id, &dir),
                Err(error) => Err(error),
            }
        }
    }
}

fn end_by_name(store: &Store, id: &str, dir: &Path) -> Result<()> {
    let Some((_, _lock)) = store.hold(id)? else { return Ok(()) };
    let spec = saved::config(dir, None).inspect_err(|error| tracing::debug!("{error}")).ok();
    let path = spec
        .as_ref()
        .and_then(|spec| spec.linux().as_ref())
        .and_then(|linux| linux.cgroups_path().as_deref());
    // SLICE:PREFIX:NAME is systemd's, whatever this command was told.
    let systemd =
        store.systemd_cgroup || path.is_some_and(|path| path.to_string_lossy().matches(':').count() == 2);
    let cgroup = Cgroup::plan(path, id, systemd, store.rootless_cgroups)?;
    let named = Some(&cgroup).filter(|cgroup| cgroup.is_named_after(id));
    let recorded = match Record::read_init(dir)? {
        Some(init) if init.is_alive()? => {
            Some(pidfd_open(init.pid).map_err(RuntimeError::call("pidfd_open"))?)
        }
        _ => None,
    };
    for process in recorded.into_iter().chain(waiting(&dir.join(gate::START))?) {
        kill::end_held(&process, named, id)?;
    }
    if let Some(cgroup) = named {
        if cgroup.exists()? {
            cgroup.signal_all(libc::SIGKILL)?;
        }
        cgroup.delete()?;
    }
    folder::remove(dir)?;
    tracing::warn!(
        "the record of container {id} was lost: it was ended by its name, without its poststop hooks"
    );
    match cgroup.exists()? {
        true => Err(RuntimeError::Other(format!(
            "the record of container {id} was lost, and its cgroup does not have its name: \
             what is in '{}' was left",
            path.unwrap_or(Path::new(id)).display()
        ))),
        false => Ok(()),
    }
}

/// Processes that have the start pipe open: an init that was not started.
fn waiting(pipe: &Path) -> Result<Vec<OwnedFd>> {
    let Ok(pipe) = fs::metadata(pipe) else { return Ok(Vec::new()) };
    let is_pipe = |fd: fs::DirEntry| {
        fs::metadata(fd.path()).is_ok_and(|found| (found.dev(), found.ino()) == (pipe.dev(), pipe.ino()))
    };
    let has_it =
        |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| fds.flatten().any(is_pipe));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(RuntimeError::file("read", "/proc"))? {
        let entry = entry.map_err(RuntimeError::file("read", "/proc"))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !has_it(pid) {
            continue;
        }
        // The descriptor names the one that is looked at then.
        match pidfd_open(pid) {
            Ok(pidfd) if has_it(pid) => found.push(pidfd),
            _ => {}
        }
    }
    Ok(found)
}
