//! Writing side of cgroups: plan, create, limit, join, freeze, update, delete.
//!
//! On cgroup v2, limits are written through libcgroups' manager, corrected in [`limits`] where the crate is wrong. On
//! v1 they are written here, and systemd is talked to here: the reasons are on top of `limits/v1.rs` and `systemd`.
//! Paths, creating, joining, the hybrid layout, freezing, deletion and statistics are this module's own.

mod change;
mod cpuset;
mod create;
mod delegation;
mod devices;
mod entry;
mod error;
mod freezer;
mod glimpse;
mod join;
mod knob;
#[cfg(test)]
mod lab;
mod layout;
mod limits;
#[cfg(test)]
mod live;
mod members;
mod oom;
mod place;
mod plan;
mod remove;
mod request;
mod stats;
mod systemd;
mod undo;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

pub use delegation::{Denied, OnDenied};
pub use entry::{Cradle, Doors, Entered};
pub use error::CgroupError;
pub use glimpse::{Above, Glimpse};
pub use join::SubCgroups;
pub use oom::{OomEvent, OomWatch};
pub use place::Place;
pub use request::{drop_zero_pids, merge_resources};
pub use stats::Stats;
pub use systemd::Unit;
pub use undo::Before;

use crate::cgroup::{MemoryCgroup, Version as ReadVersion};
use crate::systemd::Property;

type Result<T> = std::result::Result<T, CgroupError>;

/// Which of the kernel's layouts the container's cgroup is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V1,
    /// Controllers on v1, and a cgroup2 directory joined beside them.
    Hybrid,
    V2,
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hierarchy {
    /// v1: controllers or the one `name=…`; empty for cgroup2.
    controllers: Vec<String>,
    mount: PathBuf,
    dir: PathBuf,
}

impl Hierarchy {
    fn is_cgroup2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// A v1 hierarchy without controllers: it only groups processes, so a failure to use it costs no limit.
    fn is_named(&self) -> bool {
        self.controllers.iter().all(|name| name.starts_with("name=")) && !self.is_cgroup2()
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers
            .iter()
            .any(|name| name == controller || name.strip_prefix("name=") == Some(controller))
    }
}

/// A container's cgroup: where it is (or will be) in every hierarchy. Saved in the state file, so that no later
/// command looks at `/proc` to find it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cgroup {
    version: Version,
    hierarchies: Vec<Hierarchy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    rootless: bool,
    /// The spec named a path: then a missing permission is an error even without root.
    explicit: bool,
    preexisting: bool,
    /// `create` was given limits.
    #[serde(skip)]
    limited: bool,
    /// Directories made by `create`, for undoing it.
    #[serde(skip)]
    made: Vec<PathBuf>,
    /// With systemd, the unit (and so the cgroup) exists only once it has a process: limits wait for `join`.
    #[serde(skip)]
    pending: Option<Box<Pending>>,
}

/// What a systemd unit is started with.
#[derive(Debug, Clone)]
struct Pending {
    resources: LinuxResources,
    properties: Vec<Property>,
}

impl Cgroup {
    pub fn version(&self) -> Version {
        self.version
    }

    /// The systemd unit that owns the cgroup, if any.
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// Whether some of its directories were there before `create`.
    pub fn was_preexisting(&self) -> bool {
        self.preexisting
    }

    /// The directory for a v1 controller (`memory`, `cpuacct`, `systemd`), or on v2 for any controller.
    /// `""` is the cgroup2 directory (v2 and hybrid).
    pub fn path_of(&self, controller: &str) -> Option<&Path> {
        let found = match self.version {
            Version::V2 => self.hierarchies.first(),
            _ if controller.is_empty() => self.hierarchies.iter().find(|h| h.is_cgroup2()),
            _ => self.hierarchies.iter().find(|h| h.has(controller)),
        };
        found.map(|hierarchy| hierarchy.dir.as_path())
    }

    /// Writes files of cgroup v2 as `unified` of the spec has them.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn write_unified(&self, unified: &HashMap<String, String>) -> Result<()> {
        limits::write_unified(self, unified)
    }

    /// The memory cgroup, for reading. It need not be there.
    pub fn memory(&self) -> Option<MemoryCgroup> {
        let (version, hierarchy) = match self.version {
            Version::V2 => (ReadVersion::V2, self.hierarchies.first()?),
            _ => (ReadVersion::V1, self.hierarchies.iter().find(|h| h.has("memory"))?),
        };
        Some(MemoryCgroup { version, dir: hierarchy.dir.clone(), mount: hierarchy.mount.clone() })
    }

    /// The v1 hierarchies: the name each is mounted as (`memory`, `cpu,cpuacct`, `systemd`) and the container's
    /// directory in it. Empty on v2.
    pub fn v1_paths(&self) -> Vec<(String, PathBuf)> {
        let named = |h: &Hierarchy| match h.mount.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => h.controllers.join(","),
        };
        self.hierarchies
            .iter()
            .filter(|hierarchy| !hierarchy.is_cgroup2() && self.version != Version::V2)
            .map(|hierarchy| (named(hierarchy), hierarchy.dir.clone()))
            .collect()
    }

    /// The directory that stands for the whole cgroup: the v2 one, or the v1 `devices` one as in runc (any other
    /// controller's where there is no `devices` hierarchy).
    fn main_dir(&self) -> Option<&Path> {
        self.path_of("devices").or_else(|| {
            self.hierarchies.iter().find(|h| !h.is_named() && !h.is_cgroup2()).map(|h| h.dir.as_path())
        })
    }

    /// Whether the cgroup is there.
    pub fn exists(&self) -> Result<bool> {
        let Some(dir) = self.main_dir() else { return Ok(false) };
        dir.try_exists().map_err(|error| CgroupError::Read { path: dir.to_owned(), error })
    }

    /// What an update by `change` comes to, over what was `asked` for until now: what is not given, what is 0 where runc takes 0
    /// for "not given", and what is as it was stay out of it.
    ///
    /// # Errors
    /// Something cannot be set, or not by an update.
    pub fn plan_update(&self, change: &LinuxResources, asked: &LinuxResources) -> Result<LinuxResources> {
        limits::check(self.version, change)?;
        change::over(self.version, self.unit.is_some(), change, asked)
    }

    /// Writes what [`Self::plan_update`] returned to a running (or paused) container's cgroup. Device rules that did not
    /// change are never touched: something else may have added to them. The freezer is left alone.
    pub fn update(&self, planned: &LinuxResources) -> Result<()> {
        limits::write(self, planned, limits::Moment::Update)
    }
}
