//! A container that is there: its record, what it is doing, its config as it was at create, and its end.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Spec};

use super::cgroups::Cgroup;
use super::error::{Result, RuntimeError};
use super::folder::{self, Lock};
use super::oci_state::OciState;
use super::record::{self, Record};
use super::status::{ProcessId, Status};
use super::{gate, saved};

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

    /// Whether its record is there: without it nothing may be written any more.
    pub(super) fn is_recorded(&self) -> bool {
        !matches!(self.dir.join(record::FILE).try_exists(), Ok(false))
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
    /// The copy cannot be read, or is not what was saved.
    pub fn spec(&self) -> Result<&Spec> {
        if self.spec.get().is_none() {
            let _ = self.spec.set(saved::config(&self.dir, self.record.saved)?);
        }
        self.spec.get().ok_or(RuntimeError::NotFound)
    }

    pub(super) fn set_spec(&self, spec: Spec) {
        let _ = self.spec.set(spec);
    }

    /// What it is doing, as the kernel sees it now.
    ///
    /// # Errors
    /// Something of it cannot be looked at.
    pub fn status(&self) -> Result<Status> {
        Status::of(
            self.record.init,
            self.record.ready,
            || if self.lock.is_some() { Ok(false) } else { folder::is_locked(&self.dir) },
            || Ok(self.record.cgroup.is_frozen()?),
            || gate::is_waiting(&self.dir).map_err(RuntimeError::file("open", self.dir.join(gate::START))),
        )
    }

    /// The state in the form of the OCI runtime spec, as hooks get it.
    pub fn oci_state(&self, status: Status) -> OciState {
        OciState {
            oci_version: self.record.oci_version.clone(),
            id: self.record.id.clone(),
            status: status.to_string(),
            pid: self.init_pid(),
            bundle: self.record.bundle.clone(),
            annotations: self.record.annotations.clone(),
        }
    }
}
