//! Cgroups owned by systemd: a transient unit is started with init in it, its properties get the limits that systemd
//! knows, and cgroupfs gets all of them (as in runc, so that nothing depends on systemd's version).
//!
//! The crate's manager talks to systemd, with these corrections:
//! - it resets quota and period whenever *any* cpu field is given: they are filled in from cpu.max;
//! - 0 for "not given" is an error to it for memory, and "no limit" for pids (which is 1 in runc);
//! - cpusets (sent in a type that systemd refuses), throttling and `unified` (weights converted twice, "max"
//!   refused) go only to cgroupfs;
//! - it reads and writes v2 files: on v1 it starts, feeds and stops the unit in the `name=systemd` hierarchy, and
//!   limits go only to cgroupfs, which `Delegate=` leaves alone.

use std::path::{Path, PathBuf};

use libcgroups::common::{CgroupManager, ControllerOpt};
use libcgroups::systemd::manager::{Manager, PROCESS_IN_CGROUP_TIMEOUT_DURATION};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use serde::{Deserialize, Serialize};

use super::{Cgroup, CgroupError, Result, Version, knob};

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
    let uid = nix::unistd::geteuid();
    let service = format!("user@{uid}.service");
    let own = own.and_then(|own| own.strip_prefix("/").ok());
    let found = own.and_then(|own| own.ancestors().find(|part| part.ends_with(&service)));
    match found {
        Some(path) => path.to_path_buf(),
        None => Path::new("user.slice").join(format!("user-{uid}.slice")).join(service),
    }
}

fn failed(unit: &Unit, error: &(dyn std::error::Error + 'static)) -> CgroupError {
    CgroupError::Systemd { unit: unit.unit_name(), reason: error.to_string() }
}

fn connect(unit: &Unit, cgroup: &Cgroup) -> Result<Manager> {
    let hierarchy = match cgroup.version {
        Version::V2 => cgroup.hierarchies.first(),
        Version::V1 | Version::Hybrid => cgroup.hierarchies.iter().find(|h| h.has("systemd")),
    };
    let root =
        hierarchy.map(|h| h.mount.clone()).ok_or_else(|| CgroupError::NoHierarchy("name=systemd".into()))?;
    let path = PathBuf::from(format!("{}:{}:{}", unit.slice, unit.prefix, unit.name));
    let name = unit.name.clone();
    Manager::new(root, path, name, !cgroup.rootless, PROCESS_IN_CGROUP_TIMEOUT_DURATION)
        .map_err(|error| failed(unit, &error))
}

/// Starts the unit with `pid` in it, or moves `pid` to it if it runs.
pub(super) fn start(unit: &Unit, cgroup: &Cgroup, pid: Pid) -> Result<()> {
    let pid = nix_of_libcgroups::unistd::Pid::from_raw(pid.as_raw());
    connect(unit, cgroup)?.add_task(pid).map_err(|error| failed(unit, &error))
}

/// Stops the unit; fine if there is none, or no systemd any more.
pub(super) fn stop(unit: &Unit, cgroup: &Cgroup) -> Result<()> {
    if !libcgroups::systemd::booted() {
        return Ok(());
    }
    connect(unit, cgroup)?.remove().map_err(|error| failed(unit, &error))
}

/// Gives the unit the limits that systemd knows.
pub(super) fn set_properties(unit: &Unit, cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    let (Version::V2, Some(dir)) = (cgroup.version, cgroup.path_of("")) else { return Ok(()) };
    let known = known_part(resources, dir);
    if known == LinuxResources::default() {
        return Ok(());
    }
    let options = ControllerOpt {
        resources: &known,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    connect(unit, cgroup)?.apply(&options).map_err(|error| failed(unit, &error))
}

fn known_part(resources: &LinuxResources, dir: &Path) -> LinuxResources {
    let mut known = LinuxResources::default();
    known
        .set_cpu(resources.cpu().as_ref().and_then(|cpu| known_cpu(cpu, dir)))
        .set_memory(resources.memory().as_ref().and_then(|memory| known_memory(memory, dir)))
        .set_pids((*resources.pids()).map(|pids| {
            let mut known = LinuxPids::default();
            known.set_limit(if pids.limit() == 0 { 1 } else { pids.limit() });
            known
        }));
    known
}

fn known_cpu(cpu: &LinuxCpu, dir: &Path) -> Option<LinuxCpu> {
    let shares = cpu.shares().filter(|value| *value != 0);
    let quota = cpu.quota().filter(|value| *value != 0);
    let period = cpu.period().filter(|value| *value != 0);
    if shares.is_none() && quota.is_none() && period.is_none() {
        return None;
    }
    // "max 100000", or "50000 100000"
    let now = knob::read(dir, "cpu.max").unwrap_or_default();
    let mut now = now.split_whitespace().map(|number| number.parse::<i64>().ok());
    let (quota_now, period_now) = (now.next().flatten(), now.next().flatten());
    let mut known = LinuxCpu::default();
    known
        .set_shares(shares)
        .set_quota(quota.or(quota_now))
        .set_period(period.or(period_now.and_then(|period| u64::try_from(period).ok())));
    Some(known)
}

fn known_memory(memory: &LinuxMemory, dir: &Path) -> Option<LinuxMemory> {
    use super::limits::memory::given;
    let (limit, swap, reservation) =
        (given(memory.limit()), given(memory.swap()), given(memory.reservation()));
    if limit.is_none() && swap.is_none() && reservation.is_none() {
        return None;
    }
    let mut known = LinuxMemory::default();
    known.set_limit(limit).set_reservation(reservation);
    match swap {
        // The crate has no place for a swap limit without a memory limit.
        Some(swap) if swap > 0 && limit == Some(-1) => {
            tracing::debug!("swap limit {swap} goes to cgroupfs only")
        }
        Some(swap) if swap > 0 && limit.is_none() => {
            let now = knob::read_u64(dir, "memory.max").ok().and_then(|limit| i64::try_from(limit).ok());
            known.set_limit(now).set_swap(now.map(|_| swap));
        }
        swap => {
            known.set_swap(swap);
        }
    }
    Some(known)
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

    #[test]
    fn quota_in_force_is_kept_when_only_shares_change() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cpu.max"), "50000 100000\n").unwrap();
        let cpu: LinuxCpu = serde_json::from_str(r#"{"shares": 200, "quota": 0}"#).unwrap();
        let known = known_cpu(&cpu, dir.path()).unwrap();
        assert_eq!((known.quota(), known.period()), (Some(50000), Some(100_000)));
        let cpu: LinuxCpu = serde_json::from_str(r#"{"cpus": "0"}"#).unwrap();
        assert!(known_cpu(&cpu, dir.path()).is_none());
    }
}
