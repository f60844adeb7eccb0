//! What an update changes of what was asked for before: engines send the whole resources again, and what is equal is left alone.

use std::fmt;

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::{CgroupError, Result, Version, devices, limits};

/// A value that is given and has no place in the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unplaced {
    field: &'static str,
    value: String,
    why: &'static str,
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, why } = self;
        write!(f, "{field} {value}: {why}")
    }
}

/// The part of `change` that is to be written, over what was `asked` for until now. `unit`: systemd owns the cgroup.
///
/// # Errors
/// A value that the kernel has no place for is another than before.
pub(super) fn over(
    version: Version,
    unit: bool,
    change: &LinuxResources,
    asked: &LinuxResources,
) -> Result<LinuxResources> {
    let before = unplaced(version, asked);
    if let Some(new) = unplaced(version, change).into_iter().find(|new| !before.contains(new)) {
        return Err(CgroupError::InvalidLimit(format!("cannot set {new}")));
    }
    let mut new = change.clone();
    let memory = change.memory().as_ref().map(|memory| {
        let mut memory =
            if version == Version::V2 { limits::memory::with_total(memory, asked) } else { *memory };
        let disabled = |memory: &LinuxMemory| memory.disable_oom_killer().unwrap_or(false);
        if disabled(&memory) == asked.memory().as_ref().is_some_and(disabled) {
            memory.set_disable_oom_killer(None);
        }
        memory
    });
    new.set_memory(memory);
    if version == Version::V2 {
        // What is left of it is as it was.
        new.set_network(None);
    }
    if !devices::differ(change, asked)? {
        new.set_devices(None);
    } else if unit && version != Version::V2 {
        // It denies all for a moment, which a container that runs would see.
        let text = "cannot change device rules of a unit of systemd on cgroup v1".to_owned();
        return Err(CgroupError::InvalidLimit(text));
    }
    Ok(new)
}

/// What the kernel has no place for, in the spec's names. Values that mean "not given" are none; what stops a create too is
/// found by [`limits::check`].
pub(super) fn unplaced(version: Version, resources: &LinuxResources) -> Vec<Unplaced> {
    let mut found = Vec::new();
    let mut add = |field, value: String, why| found.push(Unplaced { field, value, why });
    if let Some(memory) = resources.memory() {
        if memory.use_hierarchy() == Some(false) {
            add("memory.useHierarchy", "false".to_owned(), "the kernel always accounts the whole hierarchy");
        }
        if version == Version::V2 {
            // -1 arrives as the largest number.
            let swappiness = memory.swappiness().filter(|value| *value != u64::MAX);
            swappiness.into_iter().for_each(|value| add("memory.swappiness", value.to_string(), NOT_ON_V2));
            if memory.disable_oom_killer() == Some(true) {
                add("memory.disableOOMKiller", "true".to_owned(), NOT_ON_V2);
            }
        }
    }
    if let Some(network) = resources.network().as_ref().filter(|_| version == Version::V2) {
        if let Some(class) = network.class_id().filter(|class| *class != 0) {
            add("network.classID", class.to_string(), NOT_ON_V2);
        }
        for entry in network.priorities().iter().flatten() {
            add("network.priorities", format!("{} {}", entry.name(), entry.priority()), NOT_ON_V2);
        }
    }
    found
}

const NOT_ON_V2: &str = "not supported on cgroup v2";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::lab::{fixture, hierarchy};
    use super::*;
    use crate::runtime::bundle;

    /// The spec's names of fields.
    const NAMES: [&str; 45] = [
        "memory",
        "cpu",
        "pids",
        "blockIO",
        "hugepageLimits",
        "network",
        "rdma",
        "unified",
        "devices",
        "limit",
        "reservation",
        "swap",
        "kernel",
        "kernelTCP",
        "swappiness",
        "disableOOMKiller",
        "useHierarchy",
        "checkBeforeUpdate",
        "shares",
        "quota",
        "burst",
        "period",
        "realtimeRuntime",
        "realtimePeriod",
        "cpus",
        "mems",
        "idle",
        "weight",
        "leafWeight",
        "weightDevice",
        "throttleReadBpsDevice",
        "throttleWriteBpsDevice",
        "throttleReadIOPSDevice",
        "throttleWriteIOPSDevice",
        "major",
        "minor",
        "rate",
        "pageSize",
        "classID",
        "priorities",
        "name",
        "priority",
        "allow",
        "type",
        "access",
    ];

    fn parse_resources(text: &[u8]) -> crate::runtime::error::Result<LinuxResources> {
        bundle::parse_resources(text, std::path::Path::new("resources"))
    }

    /// What becomes of a field of an update.
    enum Fate {
        /// A file gets this text.
        Written(&'static str, &'static str),
        /// An error with these words.
        Refused(&'static str),
        /// A warning says that no kernel has it any more, as runc's.
        Warned,
    }
    use Fate::{Refused, Warned, Written};

    /// Each field of the spec's resources, as an update gives it, and what becomes of it on v1 and on v2.
    #[rustfmt::skip]
    const FIELDS: [(&str, Fate, Fate); 39] = [
        (r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#,
            Written("devices.allow", "c 1:11 r"), Refused("device filter")), // it needs a real cgroup: see live.rs
        (r#"{"memory":{"limit":48}}"#, Written("memory.limit_in_bytes", "48"), Written("memory.max", "48")),
        (r#"{"memory":{"limit":48,"swap":64}}"#,
            Written("memory.memsw.limit_in_bytes", "64"), Written("memory.swap.max", "16")),
        (r#"{"memory":{"reservation":8}}"#, Written("memory.soft_limit_in_bytes", "8"), Written("memory.low", "8")),
        (r#"{"memory":{"kernel":8}}"#, Warned, Warned),
        (r#"{"memory":{"kernelTCP":8}}"#, Warned, Warned),
        (r#"{"memory":{"swappiness":7}}"#, Written("memory.swappiness", "7"), Refused("memory.swappiness 7")),
        (r#"{"memory":{"disableOOMKiller":true}}"#,
            Written("memory.oom_control", "1"), Refused("memory.disableOOMKiller true")),
        (r#"{"memory":{"useHierarchy":false}}"#,
            Refused("memory.useHierarchy false"), Refused("memory.useHierarchy false")),
        // v1's kernel itself refuses a limit below what is in use.
        (r#"{"memory":{"limit":48,"checkBeforeUpdate":true}}"#,
            Written("memory.limit_in_bytes", "48"), Refused("rejecting memory limit 48 <= usage 1000")),
        (r#"{"cpu":{"shares":1024}}"#, Written("cpu.shares", "1024"), Written("cpu.weight", "100")),
        (r#"{"cpu":{"quota":5000}}"#, Written("cpu.cfs_quota_us", "5000"), Written("cpu.max", "5000")),
        (r#"{"cpu":{"quota":-1,"period":5000}}"#, Written("cpu.cfs_period_us", "5000"), Written("cpu.max", "max 5000")),
        (r#"{"cpu":{"burst":5}}"#, Written("cpu.cfs_burst_us", "5"), Written("cpu.max.burst", "5")),
        (r#"{"cpu":{"idle":1}}"#, Written("cpu.idle", "1"), Written("cpu.idle", "1")),
        (r#"{"cpu":{"realtimeRuntime":5}}"#, Written("cpu.rt_runtime_us", "5"), Refused("realtime limits")),
        (r#"{"cpu":{"realtimePeriod":5}}"#, Written("cpu.rt_period_us", "5"), Refused("realtime limits")),
        (r#"{"cpu":{"cpus":"1"}}"#, Written("cpuset.cpus", "1"), Written("cpuset.cpus", "1")),
        (r#"{"cpu":{"mems":"1"}}"#, Written("cpuset.mems", "1"), Written("cpuset.mems", "1")),
        (r#"{"pids":{"limit":5}}"#, Written("pids.max", "5"), Written("pids.max", "5")),
        (r#"{"blockIO":{"weight":10}}"#, Written("blkio.weight", "10"), Written("io.bfq.weight", "10")),
        (r#"{"blockIO":{"leafWeight":10}}"#, Written("blkio.leaf_weight", "10"), Refused("leaf_weight")),
        (r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#,
            Written("blkio.weight_device", "8:0 10"), Written("io.bfq.weight", "8:0 10")),
        (r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":10}]}}"#,
            Written("blkio.leaf_weight_device", "8:0 10"), Refused("leafWeight")),
        (r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}]}}"#,
            Written("blkio.throttle.read_bps_device", "8:0 9"), Written("io.max", "8:0 rbps=9")),
        (r#"{"blockIO":{"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":9}]}}"#,
            Written("blkio.throttle.write_bps_device", "8:0 9"), Written("io.max", "8:0 wbps=9")),
        (r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":9}]}}"#,
            Written("blkio.throttle.read_iops_device", "8:0 9"), Written("io.max", "8:0 riops=9")),
        (r#"{"blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":9}]}}"#,
            Written("blkio.throttle.write_iops_device", "8:0 9"), Written("io.max", "8:0 wiops=9")),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#,
            Written("hugetlb.2MB.limit_in_bytes", "4096"), Written("hugetlb.2MB.max", "4096")),
        (r#"{"network":{"classID":5}}"#, Written("net_cls.classid", "5"), Refused("network.classID 5")),
        (r#"{"network":{"priorities":[{"name":"lo","priority":3}]}}"#,
            Written("net_prio.ifpriomap", "lo 3"), Refused("network.priorities lo 3")),
        (r#"{"rdma":{"mlx":{"hcaHandles":3}}}"#,
            Written("rdma.max", "mlx hca_handle=3"), Written("rdma.max", "mlx hca_handle=3")),
        (r#"{"rdma":{"mlx":{"hcaObjects":3}}}"#,
            Written("rdma.max", "mlx hca_object=3"), Written("rdma.max", "mlx hca_object=3")),
        (r#"{"unified":{"memory.high":"5"}}"#, Refused("cannot use unified on cgroup v1"), Written("memory.high", "5")),
        // Values that runc takes for "not given", and engines send as such.
        (r#"{"memory":{"limit":0,"swap":0,"reservation":0,"kernel":0,"disableOOMKiller":false,"useHierarchy":true}}"#,
            Warned, Warned),
        (r#"{"cpu":{"shares":0,"quota":0,"period":0,"realtimeRuntime":0,"realtimePeriod":0,"cpus":"","mems":""}}"#,
            Warned, Warned),
        (r#"{"blockIO":{"weight":0,"leafWeight":0,"weightDevice":[]}}"#, Warned, Warned),
        (r#"{"network":{"classID":0,"priorities":[]},"pids":{}}"#, Warned, Warned),
        (r#"{"devices":[],"hugepageLimits":[],"rdma":{},"memory":{"swappiness":18446744073709551615}}"#, Warned, Warned),
    ];

    const V1: [&str; 11] = [
        "cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "devices", "net_cls", "net_prio", "rdma",
        "freezer",
    ];

    /// Every control file that a field of [`FIELDS`] is about, and what it says before.
    fn files(version: Version) -> Vec<(String, &'static str)> {
        let mut names = vec![("memory.current".to_owned(), "1000")];
        for (_, v1, v2) in &FIELDS {
            match if version == Version::V2 { v2 } else { v1 } {
                Written(name, _) if names.iter().all(|(known, _)| known != name) => {
                    names.push(((*name).to_owned(), ""));
                }
                _ => {}
            }
        }
        names.extend([("devices.list".to_owned(), ""), ("devices.deny".to_owned(), "")]);
        names
    }

    fn update(
        version: Version,
        change: &LinuxResources,
        asked: &LinuxResources,
    ) -> (Result<()>, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        let controllers: &[&str] = if version == Version::V2 { &[] } else { &V1 };
        let cgroup = fixture(version, vec![hierarchy(controllers, root.path())]);
        fs::create_dir(root.path().join("box")).unwrap();
        for (name, text) in files(version) {
            fs::write(root.path().join("box").join(name), text).unwrap();
        }
        let planned = cgroup.plan_update(change, asked);
        (planned.and_then(|planned| cgroup.update(&planned)), root)
    }

    #[test]
    fn no_field_of_an_update_is_ignored_in_silence() {
        for (json, v1, v2) in &FIELDS {
            let change = parse_resources(json.as_bytes()).unwrap();
            for (version, fate) in [(Version::V1, v1), (Version::V2, v2)] {
                let (result, root) = update(version, &change, &LinuxResources::default());
                let read = |name: &str| fs::read_to_string(root.path().join("box").join(name)).unwrap();
                match fate {
                    Written(name, text) => {
                        result.unwrap_or_else(|error| panic!("{json} on {version:?}: {error}"));
                        let said = read(name);
                        // A folder keeps all that was written to v1's list in one line.
                        let one = said.lines().next() == Some(*text)
                            || *name == "devices.allow" && said.contains(text);
                        assert!(one, "{json} on {version:?}: {said}");
                    }
                    Refused(words) => {
                        let error = result.expect_err(json).to_string();
                        assert!(error.contains(words), "{json} on {version:?}: {error}");
                    }
                    Warned => {
                        result.unwrap_or_else(|error| panic!("{json} on {version:?}: {error}"));
                        for (name, before) in files(version) {
                            assert_eq!(read(&name), before, "{json} on {version:?}: {name}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_table_has_every_field_of_the_spec() {
        let table: String = FIELDS.iter().map(|(json, ..)| *json).collect();
        for name in NAMES {
            assert!(table.contains(&format!("\"{name}\"")), "{name}");
        }
        // rdma's fields are read in the spec's own case.
        assert!(table.contains("hcaHandles") && table.contains("hcaObjects"));
    }

    #[test]
    fn what_create_was_given_may_be_given_again() {
        let all = br#"{"memory":{"limit":48,"swappiness":7,"disableOOMKiller":true,"useHierarchy":false},
            "network":{"classID":5,"priorities":[{"name":"lo","priority":3}]},"pids":{"limit":5},
            "devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
        let asked = parse_resources(all).unwrap();
        for version in [Version::V1, Version::V2] {
            let (result, root) = update(version, &asked, &asked);
            result.unwrap();
            let said = fs::read_to_string(root.path().join("box/pids.max")).unwrap();
            assert_eq!(said.trim(), "5");
        }
        // The same rules in other words are the same, and are not loaded again.
        let rules = br#"{"devices":[{"allow":false,"type":"a","access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"},
            {"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}]}"#;
        let planned = over(Version::V2, false, &parse_resources(rules).unwrap(), &asked).unwrap();
        assert_eq!(planned.devices(), &None);
        let other = parse_resources(br#"{"memory":{"swappiness":8}}"#).unwrap();
        let error = over(Version::V2, false, &other, &asked).unwrap_err().to_string();
        assert_eq!(error, "cannot set memory.swappiness 8: not supported on cgroup v2");
        let less = parse_resources(br#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
        assert!(over(Version::V2, true, &less, &asked).unwrap().devices().is_some());
        let error = over(Version::V1, true, &less, &asked).unwrap_err().to_string();
        assert_eq!(error, "cannot change device rules of a unit of systemd on cgroup v1");
    }

    #[test]
    fn an_oom_killer_that_was_disabled_is_enabled_again() {
        let of = |json: &[u8]| parse_resources(json).unwrap();
        let disabled = of(br#"{"memory":{"disableOOMKiller":true}}"#);
        let enabled = of(br#"{"memory":{"disableOOMKiller":false}}"#);
        let (result, root) = update(Version::V1, &enabled, &disabled);
        result.unwrap();
        assert_eq!(fs::read_to_string(root.path().join("box/memory.oom_control")).unwrap(), "0");
    }
}
