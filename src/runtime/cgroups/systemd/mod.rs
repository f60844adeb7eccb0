//! Cgroups owned by systemd: a transient unit is started with init in it and the limits that systemd knows, and
//! cgroupfs gets all of them (as in runc, so that nothing depends on systemd's version).
//!
//! Not the crate's manager, because it cannot say all that runc says to systemd, and says some of it wrong: it starts
//! units without device rules, an OOM policy or properties from annotations, and joins a foreign unit of the same
//! name; limits come in a later call, when the process runs without them already; it resets quota and period whenever
//! *any* cpu field is given, sends cpusets in a type that systemd refuses, converts weights twice, takes 0 for a
//! value, polls every 20 ms for the process, and asks `busctl` who it is. Its D-Bus code is private to it.
//!
//! On v1 only device rules go to systemd (it writes its own over everybody's when it reloads); limits are cgroupfs'
//! alone, which `Delegate=` leaves in peace.

mod annotations;
mod properties;

use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

pub(super) use annotations::from_annotations;

use super::{Cgroup, CgroupError, Result, Version};
use crate::systemd::{Basic, Manager, ManagerError, Property, Value, booted};

/// A systemd unit, from the spec's `slice:prefix:name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    slice: String,
    prefix: String,
    name: String,
}

impl Unit {
    pub(super) fn parse(path: Option<&Path>, id: &str, rootless: bool) -> Result<Self> {
        let default_slice = if rootless { "user.slice" } else { "system.slice" };
        let Some(path) = path else {
            return Ok(Self { slice: default_slice.into(), prefix: "rt".into(), name: id.into() });
        };
        let text = path.to_string_lossy();
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            return Err(CgroupError::NotSliceForm(text.into_owned()));
        };
        let slice = if slice.is_empty() { default_slice } else { slice };
        Ok(Self { slice: slice.into(), prefix: (*prefix).into(), name: (*name).into() })
    }

    pub(super) fn slice(&self) -> &str {
        &self.slice
    }

    /// `prefix-name.scope`, or the name itself if it is a slice.
    pub fn unit_name(&self) -> String {
        if self.name.ends_with(".slice") {
            return self.name.clone();
        }
        format!("{}-{}.scope", self.prefix, self.name)
    }

    /// What every unit of a container has, as in runc.
    fn description(&self, pid: Pid) -> Vec<Property> {
        let strings = |text: &str| Value::Array('s', vec![Basic::Text(text.to_owned())]);
        let mut properties = vec![(
            "Description".to_owned(),
            Value::from(format!("libcontainer container {}", self.name).as_str()),
        )];
        if self.unit_name().ends_with(".slice") {
            properties.push(("Wants".to_owned(), strings(&self.slice)));
        } else {
            properties.push(("Slice".to_owned(), Value::from(self.slice.as_str())));
            properties.push(("Delegate".to_owned(), Value::from(true)));
        }
        let pids = vec![Basic::U32(pid.as_raw().unsigned_abs())];
        properties.push(("PIDs".to_owned(), Value::Array('u', pids)));
        for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
            properties.push((accounting.to_owned(), Value::from(true)));
        }
        properties.push(("DefaultDependencies".to_owned(), Value::from(false)));
        properties
    }
}

/// The directories of a slice: `a-b.slice` is `a.slice/a-b.slice`, `-.slice` is the root.
pub(super) fn expand_slice(slice: &str) -> Result<PathBuf> {
    let invalid = || CgroupError::InvalidSlice(slice.to_owned());
    let name = slice.strip_suffix(".slice").filter(|_| !slice.contains('/')).ok_or_else(invalid)?;
    let mut path = PathBuf::new();
    if name == "-" {
        return Ok(path);
    }
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return Err(invalid());
        }
        prefix.push_str(part);
        path.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Ok(path)
}

/// The cgroup of the user's systemd, below which all its units are: the part of the own path up to
/// `user@UID.service`, or where that usually is.
pub(super) fn user_manager(own: Option<&Path>) -> PathBuf {
    let uid = crate::systemd::user();
    let service = format!("user@{uid}.service");
    let own = own.and_then(|own| own.strip_prefix("/").ok());
    let found = own.and_then(|own| own.ancestors().find(|part| part.ends_with(&service)));
    match found {
        Some(path) => path.to_path_buf(),
        None => Path::new("user.slice").join(format!("user-{uid}.slice")).join(service),
    }
}

fn failed(unit: &Unit) -> impl Fn(ManagerError) -> CgroupError {
    let unit = unit.unit_name();
    move |error| CgroupError::Systemd { unit: unit.clone(), reason: error.to_string() }
}

/// Starts the unit with `pid` in it and all limits that systemd knows. `more`: what annotations ask for.
pub(super) fn start(
    unit: &Unit,
    cgroup: &Cgroup,
    pid: Pid,
    resources: &LinuxResources,
    more: &[Property],
) -> Result<()> {
    let mut manager = Manager::connect(cgroup.rootless).map_err(failed(unit))?;
    let mut properties = unit.description(pid);
    properties.extend(properties::devices(cgroup, resources)?);
    if cgroup.version == Version::V2 {
        let version = manager.version().map_err(failed(unit))?;
        properties.extend(properties::limits(resources, version)?);
        properties.extend(properties::oom_policy(resources, version)?);
    }
    // Last, so that it wins: a property that is given twice has its last value.
    properties.extend(more.iter().cloned());
    let name = unit.unit_name();
    let mut started = manager.start_unit(&name, &properties);
    if started.as_ref().is_err_and(|error| error.is("UnitExists")) {
        // A unit that failed keeps its name until somebody has seen it.
        let _ = manager.reset_failed(&name);
        started = manager.start_unit(&name, &properties);
    }
    started.map_err(failed(unit))
}

/// Stops the unit; fine if there is none, or no systemd any more. A unit that never got the container's cgroup is
/// somebody else's of the same name.
pub(super) fn stop(unit: &Unit, cgroup: &Cgroup) -> Result<()> {
    if !booted() {
        return Ok(());
    }
    let mut manager = Manager::connect(cgroup.rootless).map_err(failed(unit))?;
    let name = unit.unit_name();
    let stopped = if cgroup.exists()? { manager.stop_unit(&name) } else { Ok(()) };
    // A unit whose processes failed would keep its name.
    let _ = manager.reset_failed(&name);
    match stopped {
        Err(error) if !error.is("NoSuchUnit") => Err(failed(unit)(error)),
        _ => Ok(()),
    }
}

/// Gives a running unit the limits that systemd knows, and device rules where they change.
pub(super) fn update(unit: &Unit, cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    let (Version::V2, Some(dir)) = (cgroup.version, cgroup.path_of("")) else { return Ok(()) };
    let mut manager = Manager::connect(cgroup.rootless).map_err(failed(unit))?;
    let version = manager.version().map_err(failed(unit))?;
    let mut properties = properties::limits(&properties::completed(resources, dir), version)?;
    if resources.devices().is_some() {
        properties.extend(other_devices(cgroup, resources)?);
    }
    if properties.is_empty() {
        return Ok(());
    }
    manager.set_properties(&unit.unit_name(), &properties).map_err(failed(unit))
}

/// Gives a running unit what the control `files` said before an update, and the device rules of `asked`.
pub(super) fn set_back(
    unit: &Unit,
    cgroup: &Cgroup,
    files: &[(PathBuf, String)],
    asked: Option<&LinuxResources>,
) -> Result<()> {
    if cgroup.version != Version::V2 {
        return Ok(());
    }
    let mut manager = Manager::connect(cgroup.rootless).map_err(failed(unit))?;
    let version = manager.version().map_err(failed(unit))?;
    let mut properties = properties::of_files(files, version)?;
    if let Some(asked) = asked {
        properties.extend(other_devices(cgroup, asked)?);
    }
    if properties.is_empty() {
        return Ok(());
    }
    manager.set_properties(&unit.unit_name(), &properties).map_err(failed(unit))
}

/// Device rules that take the place of those that a unit has: a list is added to the one there is, and an empty one takes that
/// away.
fn other_devices(cgroup: &Cgroup, resources: &LinuxResources) -> Result<Vec<Property>> {
    let mut properties = vec![("DeviceAllow".to_owned(), Value::Pairs(Vec::new()))];
    properties.extend(properties::devices(cgroup, resources)?);
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_comes_from_the_three_parts() {
        let unit = Unit::parse(Some(Path::new("a-b.slice:docker:77")), "id", false).unwrap();
        assert_eq!(unit.unit_name(), "docker-77.scope");
        assert_eq!(expand_slice(unit.slice()).unwrap(), Path::new("a.slice/a-b.slice"));
        let slice = Unit::parse(Some(Path::new(":x:pod.slice")), "id", true).unwrap();
        assert_eq!((slice.slice(), slice.unit_name().as_str()), ("user.slice", "pod.slice"));
        assert_eq!(Unit::parse(None, "id", false).unwrap().unit_name(), "rt-id.scope");
        let error = Unit::parse(Some(Path::new("/a/b")), "id", false).unwrap_err();
        assert!(error.to_string().contains("\"slice:prefix:name\" for systemd cgroups, got \"/a/b\""));
    }

    #[test]
    fn slices_are_expanded_and_odd_ones_refused() {
        assert_eq!(expand_slice("-.slice").unwrap(), Path::new(""));
        for bad in ["a", "/a.slice", "-a.slice", "a--b.slice", ".slice"] {
            assert!(expand_slice(bad).is_err(), "{bad}");
        }
    }
}
