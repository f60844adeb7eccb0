//! A container that is there: its record, what it is doing, its config as it was at create, and its end.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Spec};

use super::cgroups::Cgroup;
use super::error::{Result, RuntimeError};
use super::oci_state::OciState;
use super::record::{self, Record};
use super::status::{ProcessId, Status};
use super::store::{Lock, is_locked};
use super::{bundle, gate};

/// The compiled seccomp filter, for exec.
pub const SECCOMP: &str = "seccomp";

/// A container of a [`super::Store`].
#[derive(Debug)]
pub struct Container {
    dir: PathBuf,
    record: Record,
    lock: Option<Lock>,
    spec: OnceCell<Spec>,
}

impl Container {
    pub(super) fn new(dir: PathBuf, record: Record, lock: Option<Lock>) -> Self {
        Self { dir, record, lock, spec: OnceCell::new() }
    }

    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its state folder.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// `ociVersion` of its config.
    pub fn oci_version(&self) -> &str {
        &self.record.oci_version
    }

    /// The host's pid of its init; 0 if there is none yet.
    pub fn init_pid(&self) -> i32 {
        self.record.init.map_or(0, |init| init.pid)
    }

    /// Its init.
    pub fn init(&self) -> Option<ProcessId> {
        self.record.init
    }

    pub fn bundle(&self) -> &Path {
        &self.record.bundle
    }

    pub fn rootfs(&self) -> &Path {
        &self.record.rootfs
    }

    /// RFC 3339, UTC.
    pub fn created(&self) -> &str {
        &self.record.created
    }

    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.record.annotations
    }

    pub fn cgroup(&self) -> &Cgroup {
        &self.record.cgroup
    }

    /// The limits asked for at create, and by later updates.
    pub fn asked_resources(&self) -> Option<&LinuxResources> {
        self.record.asked.as_ref()
    }

    pub fn set_asked_resources(&mut self, asked: &LinuxResources) {
        self.record.asked = Some(asked.clone());
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Lets other commands change it.
    pub fn unlock(&mut self) {
        self.lock = None;
    }

    pub(super) fn take_lock(&mut self) -> Option<Lock> {
        self.lock.take()
    }

    pub(super) fn give_lock(&mut self, lock: Option<Lock>) {
        self.lock = lock;
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self) -> Result<()> {
        self.record.write(&self.dir)
    }

    /// The config as it was at create, whatever became of the bundle since.
    ///
    /// # Errors
    /// The copy cannot be read.
    pub fn spec(&self) -> Result<&Spec> {
        if self.spec.get().is_none() {
            let path = self.dir.join(bundle::CONFIG);
            let text = fs::read(&path).map_err(RuntimeError::file("read", &path))?;
            let spec = serde_json::from_slice(&text)
                .map_err(|error| RuntimeError::Parse { path, cause: error.to_string() })?;
            let _ = self.spec.set(spec);
        }
        self.spec.get().ok_or(RuntimeError::NotFound)
    }

    pub(super) fn set_spec(&self, spec: Spec) {
        let _ = self.spec.set(spec);
    }

    /// What it is doing, as the kernel sees it now.
    pub fn status(&self) -> Status {
        Status::of(
            self.record.init,
            self.record.ready,
            || self.lock.is_none() && is_locked(&self.dir),
            || self.record.cgroup.is_frozen().unwrap_or(false),
            || gate::is_waiting(&self.dir),
        )
    }

    /// The state in the form of the OCI runtime spec, as hooks get it.
    pub fn oci_state(&self) -> OciState {
        OciState {
            oci_version: self.record.oci_version.clone(),
            id: self.record.id.clone(),
            status: self.status().to_string(),
            pid: self.init_pid(),
            bundle: self.record.bundle.clone(),
            annotations: self.record.annotations.clone(),
        }
    }

    /// Removes the container's folder, its cgroup being gone already. The record goes last: cut short, the rest is still
    /// known to be ours.
    pub(super) fn remove_folder(&self) -> Result<()> {
        let failed = |error| RuntimeError::File { doing: "remove", path: self.dir.clone(), error };
        let gone = |removed: io::Result<()>| match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        };
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name() == record::FILE {
                continue;
            }
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            gone(if folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) })?;
        }
        gone(fs::remove_dir_all(&self.dir))
    }
}
