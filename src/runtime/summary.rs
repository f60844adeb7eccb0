//! The containers of a root as `list` shows them. Each is looked at once, in the order in which the root has them: of thousands,
//! what the kernel knows of one lies together then. Records are read in part.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use serde::Deserialize;

use super::cgroups::{Above, Glimpse};
use super::error::{Result, RuntimeError};
use super::record::{self, FORMAT, Record};
use super::status::{ProcessId, Status};
use super::{folder, gate};
use crate::small_file;

/// What is shown of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub id: String,
    /// `ociVersion` of its config.
    pub oci_version: String,
    /// None where nobody can tell, which is logged.
    pub status: Option<Status>,
    /// The host's pid of its init; 0 if there is none yet.
    pub init_pid: i32,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub created: String,
    pub annotations: BTreeMap<String, String>,
    /// The uid that owns its state folder.
    pub owner: u32,
}

impl Summary {
    /// The status as it is shown.
    #[must_use]
    pub fn status_word(&self) -> &'static str {
        self.status.map_or("unknown", Status::as_str)
    }
}

/// The part of a [`Record`] that this takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    format: u32,
    id: String,
    oci_version: String,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    init: Option<ProcessId>,
    #[serde(borrow)]
    cgroup: Glimpse<'a>,
}

/// What looking at many takes, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Lens {
    buffer: Vec<u8>,
    freezers: Above,
}

/// Of the container whose state folder is `name` in the open folder `root`; `None` if that is none of ours.
///
/// # Errors
/// As [`Record::read`].
pub(super) fn of(root: impl AsFd, path: &Path, name: &OsStr, lens: &mut Lens) -> Result<Option<Summary>> {
    let root = root.as_fd();
    let Lens { buffer, freezers } = lens;
    let failed = |doing, name: &OsStr| {
        let path = path.join(name);
        move |error| RuntimeError::File { doing, path, error }
    };
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(root, &Path::new(name).join(record::FILE), flags, Mode::empty());
    let text =
        file.map_err(io::Error::from).and_then(|file| small_file::short_into(&File::from(file), buffer));
    let part = match text {
        Ok(text) => serde_json::from_slice::<Part<'_>>(text).map_err(io::Error::from),
        Err(error) => Err(error),
    };
    let part = match part {
        Ok(part) if part.format <= FORMAT => part,
        // Either there is nothing, or this has the words for what is wrong: a container is never left out without any.
        looked => match (Record::read(&path.join(name))?, looked) {
            (Some(_), Err(error)) => return Err(failed("read", name)(error)),
            _ => return Ok(None),
        },
    };
    let status = Status::of(
        part.init,
        part.ready,
        || folder::is_locked(&path.join(name)),
        || Ok(part.cgroup.is_frozen(freezers)?),
        || gate::is_waiting_at(root, Path::new(name)).map_err(failed("open", name)),
    );
    // It is there all the same: who asks for the names must not take it for gone.
    let status = status.inspect_err(|error| tracing::warn!("container {}: {error}", part.id)).ok();
    let folder = fstatat(root, name, AtFlags::empty()).map_err(|errno| failed("stat", name)(errno.into()))?;
    Ok(Some(Summary {
        id: part.id,
        oci_version: part.oci_version,
        status,
        init_pid: part.init.map_or(0, |init| init.pid),
        bundle: part.bundle,
        rootfs: part.rootfs,
        created: part.created,
        annotations: part.annotations,
        owner: folder.st_uid,
    }))
}
