//! Limits on v2, through the crate's v2 manager, with these corrections:
//! - its device step (see `devices`) is stopped by a rule that it cannot translate: all limits are written by
//!   then and no program has been loaded;
//! - swap is written here: the crate skips the value 0 (swap = limit, docker's "no swap", left swap unlimited)
//!   and fails where the kernel does not count swap;
//! - I/O weights are written here: the crate's conversion to io.weight overflows 16 bits, and it writes device weights
//!   without looking whether BFQ is there; so is `cpu.idle`, which must come before the weight, and burst,
//!   which may have to come after the quota;
//! - 0 for "not given" and empty cpusets do not reach it: it would take a quota of 0 for "no limit", a period of 0 as
//!   it is, and write the empty set;
//! - RDMA and `unified` are written here: it knows no RDMA, and writes a unified value of several lines at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use libcgroups::common::{CgroupManager, ControllerOpt};
use libcgroups::v2::devices::controller::DevicesControllerError;
use libcgroups::v2::devices::program::ProgramError;
use libcgroups::v2::manager::{Manager, V2ManagerError};
use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources};

use super::super::{Cgroup, CgroupError, Result, cpuset, knob};
use super::{Moment, memory, v2_io, write_rdma};

/// Refuses what v2 has no place for, before anything is made.
pub(super) fn check(resources: &LinuxResources) -> Result<()> {
    if let Some(cpu) = resources.cpu()
        && (cpu.realtime_runtime().unwrap_or(0) > 0 || cpu.realtime_period().unwrap_or(0) > 0)
    {
        return Err(CgroupError::InvalidLimit("realtime limits are not supported on cgroup v2".into()));
    }
    if resources.block_io().as_ref().is_some_and(|io| io.leaf_weight().unwrap_or(0) > 0) {
        return Err(CgroupError::InvalidLimit("cannot set leaf_weight with cgroupv2".into()));
    }
    let devices = resources.block_io().as_ref().and_then(|io| io.weight_device().as_ref());
    if devices.into_iter().flatten().any(|device| device.leaf_weight().unwrap_or(0) > 0) {
        return Err(CgroupError::InvalidLimit("cannot set leafWeight of a device with cgroupv2".into()));
    }
    for name in resources.unified().iter().flat_map(HashMap::keys) {
        if name.contains('/') {
            let text = format!("unified resource {name:?} must be a file name (no slashes)");
            return Err(CgroupError::InvalidLimit(text));
        }
    }
    Ok(())
}

pub(super) fn write(cgroup: &Cgroup, resources: &LinuxResources, moment: Moment) -> Result<()> {
    let Some(hierarchy) = cgroup.hierarchies.first() else {
        // Left out at creation for want of permission.
        return if super::any_asked(resources) { Err(CgroupError::NotExist) } else { Ok(()) };
    };
    let dir = hierarchy.dir.as_path();
    if let Some(memory) = resources.memory() {
        memory::check_usage(dir, memory)?;
        write_swap(dir, memory, moment)?;
    }
    let cpu = resources.cpu().as_ref();
    if let Some(idle) = cpu.and_then(LinuxCpu::idle) {
        knob::write(dir, "cpu.idle", &idle.to_string())?;
    }
    let late_burst = write_burst(dir, cpu)?;
    write_by_crate(&hierarchy.mount, dir, resources)?;
    if let Some(burst) = late_burst {
        knob::write(dir, "cpu.max.burst", &burst)?;
    }
    if let Some(io) = resources.block_io() {
        v2_io::write_weights(dir, io)?;
    }
    match resources.rdma() {
        Some(limits) => write_rdma(dir, limits),
        None => Ok(()),
    }
}

/// Hands the crate what it writes correctly.
fn write_by_crate(mount: &Path, dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(mut sound) = sound_part(resources) else { return Ok(()) };
    let mut stopper = LinuxDeviceCgroup::default();
    stopper.set_typ(Some(LinuxDeviceType::U)).set_access(Some("r".into()));
    sound.set_devices(Some(vec![stopper]));
    let options = ControllerOpt {
        resources: &sound,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    let below = dir.strip_prefix(mount).map(Path::to_path_buf).unwrap_or_else(|_| PathBuf::from(dir));
    let manager =
        Manager::new(mount.to_path_buf(), below).map_err(|error| CgroupError::from_crate(&error))?;
    match manager.apply(&options) {
        Err(V2ManagerError::DevicesController(DevicesControllerError::Program(
            ProgramError::DeviceNotSupported(_),
        ))) => Ok(()),
        Err(error) => Err(CgroupError::from_crate(&error)),
        Ok(()) => Err(CgroupError::Crate("the device step of libcgroups was not stopped".into())),
    }
}

/// What is given of cpu, cpuset, memory, pids, hugetlb and throttling, without what is corrected elsewhere.
fn sound_part(resources: &LinuxResources) -> Option<LinuxResources> {
    let mut sound = LinuxResources::default();
    sound
        .set_cpu(resources.cpu().as_ref().and_then(sound_cpu))
        .set_memory(resources.memory().as_ref().and_then(sound_memory))
        .set_pids(*resources.pids())
        .set_hugepage_limits(resources.hugepage_limits().clone().filter(|limits| !limits.is_empty()))
        .set_block_io(resources.block_io().as_ref().and_then(v2_io::throttling));
    (sound != LinuxResources::default()).then_some(sound)
}

fn sound_cpu(cpu: &LinuxCpu) -> Option<LinuxCpu> {
    let (cpus, mems) = cpuset::asked(Some(cpu));
    let mut sound = LinuxCpu::default();
    sound
        .set_shares(cpu.shares().filter(|value| *value != 0))
        .set_quota(cpu.quota().filter(|value| *value != 0))
        .set_period(cpu.period().filter(|value| *value != 0))
        .set_cpus(cpus.map(str::to_owned))
        .set_mems(mems.map(str::to_owned));
    (sound != LinuxCpu::default()).then_some(sound)
}

fn sound_memory(asked: &LinuxMemory) -> Option<LinuxMemory> {
    let mut sound = LinuxMemory::default();
    sound.set_limit(memory::given(asked.limit())).set_reservation(memory::given(asked.reservation()));
    if sound == LinuxMemory::default() {
        return None;
    }
    if sound.limit() == Some(-1) {
        // Without a swap value the crate would write memory.swap.max too; it skips 0.
        sound.set_swap(Some(0));
    }
    Some(sound)
}

/// Before memory.max, as in runc.
fn write_swap(dir: &Path, asked: &LinuxMemory, moment: Moment) -> Result<()> {
    let current = || match moment {
        Moment::Update => match knob::read_u64(dir, "memory.max") {
            Ok(u64::MAX) => Some(-1),
            Ok(limit) => i64::try_from(limit).ok(),
            Err(_) => None,
        },
        Moment::Create | Moment::CreateInExisting => None,
    };
    let Some(swap) = memory::swap_v2(asked, current)? else { return Ok(()) };
    let text = if swap == -1 { "max".to_owned() } else { swap.to_string() };
    match knob::write(dir, "memory.swap.max", &text) {
        // Where swap is not counted there is none to limit, and none to allow.
        Err(error) if error.is_gone() && (swap == -1 || swap == 0) => Ok(()),
        result => result,
    }
}

/// Returns the burst if it has to wait for the new quota.
fn write_burst(dir: &Path, cpu: Option<&LinuxCpu>) -> Result<Option<String>> {
    let Some(burst) = cpu.and_then(LinuxCpu::burst) else { return Ok(None) };
    let quota_follows = cpu.and_then(LinuxCpu::quota).unwrap_or(0) != 0;
    match knob::write(dir, "cpu.max.burst", &burst.to_string()) {
        Err(error) if quota_follows && error.errno() == Some(nix::errno::Errno::EINVAL) => {
            Ok(Some(burst.to_string()))
        }
        result => result.map(|()| None),
    }
}

/// The spec's raw files; each line of a value is a write of its own.
pub(in crate::runtime::cgroups) fn write_unified(
    cgroup: &Cgroup,
    unified: &HashMap<String, String>,
) -> Result<()> {
    let dir = cgroup.path_of("").ok_or(CgroupError::NotExist)?;
    for (name, value) in unified {
        for line in value.split_inclusive('\n') {
            knob::write(dir, name, line).map_err(|error| explain_unified(dir, name, error))?;
        }
    }
    Ok(())
}

fn explain_unified(dir: &Path, name: &str, error: CgroupError) -> CgroupError {
    let text = match name.split_once('.') {
        None => format!("unified resource {name:?} must be in the form CONTROLLER.PARAMETER"),
        Some((controller, _)) => {
            let there = knob::read(dir, "cgroup.controllers").unwrap_or_default();
            let available = controller == "cgroup" || there.split_whitespace().any(|name| name == controller);
            if available || !(error.is_gone() || error.is_permission()) {
                format!("unable to set unified resource {name:?}: {error}")
            } else {
                format!("unified resource {name:?} can't be set: controller {controller:?} not available")
            }
        }
    };
    CgroupError::InvalidLimit(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroups::lab::v2_fixture;

    #[test]
    fn limits_reach_their_files_and_no_program_is_loaded() {
        let (root, cgroup) = v2_fixture(&[
            ("memory.max", "max"),
            ("memory.low", "0"),
            ("memory.swap.max", "max"),
            ("cpu.weight", "100"),
            ("cpu.max", "max 100000"),
            ("pids.max", "max"),
            ("cpuset.cpus", ""),
        ]);
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":67108864,"swap":67108864,"reservation":1048576,"kernel":0},
                "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0","mems":""},
                "pids":{"limit":0},"devices":[{"allow":false,"access":"rwm"}]}"#,
        )
        .unwrap();
        write(&cgroup, &resources, Moment::Create).unwrap();
        let read = |name: &str| knob::read(&root.path().join("box"), name).unwrap();
        assert_eq!(read("memory.max"), "67108864");
        assert_eq!(read("memory.low"), "1048576");
        assert!(read("memory.swap.max").starts_with('0'));
        assert!(read("cpu.weight").starts_with("100"));
        assert!(read("cpu.max").starts_with("50000 100000"));
        assert!(read("pids.max").starts_with('1'));
        assert!(read("cpuset.cpus").starts_with('0'));
    }

    #[test]
    fn zeros_of_docker_update_leave_everything_alone() {
        let (root, cgroup) = v2_fixture(&[("cpu.max", "50000 100000"), ("memory.max", "4096")]);
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":0,"reservation":0,"kernel":0},"blockIO":{"weight":0},
                "cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}"#,
        )
        .unwrap();
        write(&cgroup, &resources, Moment::Update).unwrap();
        let read = |name: &str| knob::read(&root.path().join("box"), name).unwrap();
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_eq!(read("memory.max"), "4096");
    }

    #[test]
    fn a_limit_without_its_controller_is_an_error() {
        let (_root, cgroup) = v2_fixture(&[]);
        let resources: LinuxResources = serde_json::from_str(r#"{"pids":{"limit":5}}"#).unwrap();
        let error = write(&cgroup, &resources, Moment::Create).unwrap_err();
        assert!(error.to_string().ends_with("box/pids.max: no such file or directory"), "{error}");
    }

    #[test]
    fn swap_alone_counts_from_the_memory_limit_in_force() {
        let (root, cgroup) = v2_fixture(&[("memory.max", "1000\n"), ("memory.swap.max", "max")]);
        let resources: LinuxResources = serde_json::from_str(r#"{"memory":{"swap":1500}}"#).unwrap();
        write(&cgroup, &resources, Moment::Update).unwrap();
        assert!(knob::read(&root.path().join("box"), "memory.swap.max").unwrap().starts_with("500"));
    }

    #[test]
    fn unified_values_are_explained_in_runcs_words() {
        let (root, cgroup) = v2_fixture(&[("io.max", ""), ("cgroup.controllers", "cpu io\n")]);
        let unified = HashMap::from([("io.max".to_owned(), "7:0 riops=1\n7:1 riops=2\n".to_owned())]);
        write_unified(&cgroup, &unified).unwrap();
        assert!(knob::read(&root.path().join("box"), "io.max").unwrap().starts_with("7:1 riops=2"));
        let unified = HashMap::from([("memory.min".to_owned(), "1".to_owned())]);
        assert_eq!(
            write_unified(&cgroup, &unified).unwrap_err().to_string(),
            "unified resource \"memory.min\" can't be set: controller \"memory\" not available"
        );
    }
}
