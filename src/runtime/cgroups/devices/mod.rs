//! Which devices the container may use: the spec's rules, then the ones that every runc container has.
//!
//! The crate's own device step is never used: on both versions it runs on *every* write of a limit, puts its
//! fixed list (with the host's console, 5:1) on top, starts from "allow all" on v1, replaces the filter of a running
//! container with that list on v2, and gives up where RLIMIT_MEMLOCK cannot be raised. Its translation of rules
//! into a BPF program and its bpf(2) calls are used.

mod rules;
mod v1;
mod v2;

use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::limits::Moment;
use super::{Cgroup, CgroupError, Result, Version};
use rules::{Rule, Rules};

/// What runc appends for everybody, and what therefore no spec can deny: mknod of anything, null, random, full,
/// tty, zero, urandom, pseudo terminals, and /dev/net/tun.
const DEFAULTS: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 11] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(10), Some(200), "rwm"),
];

/// Puts the spec's rules and the defaults into force.
pub(super) fn write(cgroup: &Cgroup, resources: &LinuxResources, moment: Moment) -> Result<()> {
    let asked = resources.devices().as_deref().unwrap_or_default();
    let target = target(asked)?;
    let result = match (cgroup.version, cgroup.path_of("devices")) {
        (Version::V2, Some(dir)) => v2::write(dir, &target),
        (_, Some(dir)) => v1::write(dir, &target, moment == Moment::Create),
        (_, None) => Err(CgroupError::NoHierarchy("devices".into())),
    };
    match result {
        // Rules that change are never left out.
        result if moment == Moment::Update => result,
        // Without the privilege the rules cannot be written, and mknod of other devices does not work either.
        Err(error) if cgroup.rootless || in_user_namespace() => {
            tracing::debug!("device rules left out: {error}");
            Ok(())
        }
        // Without a filter nothing is denied, which is just what was asked for.
        Err(error) if cgroup.version == Version::V2 && target.denies_nothing() => {
            tracing::debug!("device rules left out: {error}");
            Ok(())
        }
        result => result,
    }
}

fn target(asked: &[LinuxDeviceCgroup]) -> Result<Rules> {
    let mut rules = Rules::deny_all();
    for (position, device) in asked.iter().enumerate() {
        rules.apply(&Rule::from_spec(position, device)?)?;
    }
    for (kind, major, minor, access) in DEFAULTS {
        rules.apply(&Rule::new(kind, major, minor, access, true)?)?;
    }
    Ok(rules)
}

/// What is allowed where the rest is denied, as systemd writes it: `/dev/char/1:3` or `char-*`, and `rwm`. `None`: nothing
/// is denied.
pub(super) fn allowed(resources: &LinuxResources) -> Result<Option<Vec<(String, String)>>> {
    let target = target(resources.devices().as_deref().unwrap_or_default())?;
    if target.default_allow {
        // systemd has no words for "all but"; the filter of cgroupfs denies the rest.
        return Ok(None);
    }
    let groups = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    Ok(Some(target.exceptions().flat_map(|rule| rule.for_systemd(&groups)).collect()))
}

/// Whether this process is in a user namespace of its own: the initial one maps all ids to themselves.
fn in_user_namespace() -> bool {
    let Ok(map) = std::fs::read_to_string(Path::new("/proc/self/uid_map")) else { return false };
    let fields: Vec<&str> = map.split_whitespace().collect();
    fields != ["0", "0", "4294967295"]
}

/// Whether the rules of an update are others than those `asked` for until now. Without any it changes none.
pub(super) fn differ(change: &LinuxResources, asked: &LinuxResources) -> Result<bool> {
    match change.devices().as_deref().unwrap_or_default() {
        [] => Ok(false),
        rules => Ok(target(rules)? != target(asked.devices().as_deref().unwrap_or_default())?),
    }
}

/// Checks the rules without writing them, so that a bad one is told before anything is made.
pub(super) fn check(resources: &LinuxResources) -> Result<()> {
    target(resources.devices().as_deref().unwrap_or_default()).map(drop)
}
