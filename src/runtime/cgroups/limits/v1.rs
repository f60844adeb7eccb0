//! Limits on v1, written here and not by the crate's v1 manager, whose `apply` cannot be made right from outside:
//! - it writes its own device list on every call, to a running container too, and fails without a devices
//!   hierarchy; as it goes through its controllers in random order, it cannot be stopped before that;
//! - it knows one path for all hierarchies, where the default and relative paths differ by hierarchy;
//! - it writes pids.limit 0 as "max", `memory.oom_control` 0 on every update, kernel memory limits that kernels
//!   have dropped, memsw where swap is not counted, and several network priorities in one write (the kernel takes the
//!   first); it has no leaf and device weights, no RDMA, and neither retries period, burst and real-time
//!   values in the other order nor reads shares back;
//! - it reads mountinfo and /proc/self/cgroup again for each of 12 controllers, and warns the user of each
//!   controller that is not there.

use std::path::Path;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxResources};

use super::super::{Cgroup, CgroupError, Result, cpuset, knob};
use super::{Moment, memory, v1_blkio, v1_cpu, write_rdma};

pub(super) fn write(cgroup: &Cgroup, resources: &LinuxResources, moment: Moment) -> Result<()> {
    let dir = |controller: &str| {
        cgroup.path_of(controller).ok_or_else(|| CgroupError::NoController(controller.to_owned()))
    };
    if let Some(cpu) = resources.cpu() {
        // At creation cpuset::fill has done it.
        if moment == Moment::Update && cpuset::asked(Some(cpu)) != (None, None) {
            cpuset::write(dir("cpuset")?, Some(cpu))?;
        }
        if v1_cpu::is_asked(cpu) {
            v1_cpu::write(dir("cpu")?, cpu)?;
        }
    }
    if let Some(asked) = resources.memory().as_ref().filter(|memory| is_memory_asked(memory, moment)) {
        memory::write_v1(dir("memory")?, asked, moment)?;
    }
    if let Some(pids) = resources.pids() {
        write_pids(dir("pids")?, pids)?;
    }
    if let Some(io) = resources.block_io().as_ref().filter(|io| !super::is_empty(io)) {
        v1_blkio::write(dir("blkio")?, io)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        write_hugetlb(dir("hugetlb")?, limit)?;
    }
    if let Some(network) = resources.network() {
        write_network(network, dir)?;
    }
    match resources.rdma().as_ref().filter(|limits| !limits.is_empty()) {
        Some(limits) => write_rdma(dir("rdma")?, limits),
        None => Ok(()),
    }
}

fn is_memory_asked(asked: &oci_spec::runtime::LinuxMemory, moment: Moment) -> bool {
    [asked.limit(), asked.swap(), asked.reservation()].iter().any(|limit| memory::given(*limit).is_some())
        || memory::oom_control(asked, moment).is_some()
        || asked.swappiness().is_some()
}

/// 0 becomes 1 as in runc: systemd cannot set 0, and init counts already.
fn write_pids(dir: &Path, pids: &LinuxPids) -> Result<()> {
    let limit = match pids.limit() {
        0 => "1".to_owned(),
        limit @ 1.. => limit.to_string(),
        _ => "max".to_owned(),
    };
    knob::write(dir, "pids.max", &limit)
}

/// The limit, and where the kernel has it the limit of reservations.
fn write_hugetlb(dir: &Path, limit: &LinuxHugepageLimit) -> Result<()> {
    let (size, bytes) = (limit.page_size(), limit.limit().to_string());
    knob::write(dir, &format!("hugetlb.{size}.limit_in_bytes"), &bytes)?;
    match knob::write(dir, &format!("hugetlb.{size}.rsvd.limit_in_bytes"), &bytes) {
        Err(error) if error.is_gone() => Ok(()),
        result => result,
    }
}

fn write_network<'a>(network: &LinuxNetwork, dir: impl Fn(&str) -> Result<&'a Path>) -> Result<()> {
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        knob::write(dir("net_cls")?, "net_cls.classid", &class.to_string())?;
    }
    for entry in network.priorities().iter().flatten() {
        let line = format!("{} {}", entry.name(), entry.priority());
        knob::write(dir("net_prio")?, "net_prio.ifpriomap", &line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_limit_of_zero_is_one_and_negative_is_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pids.max"), "").unwrap();
        for (limit, written) in [(0, "1"), (-1, "max"), (20, "20")] {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            std::fs::write(dir.path().join("pids.max"), "").unwrap();
            write_pids(dir.path(), &pids).unwrap();
            assert_eq!(knob::read(dir.path(), "pids.max").unwrap(), written);
        }
    }

    #[test]
    fn hugetlb_reservation_limit_is_optional() {
        let dir = tempfile::tempdir().unwrap();
        let limit: LinuxHugepageLimit =
            serde_json::from_str(r#"{"pageSize": "2MB", "limit": 4096}"#).unwrap();
        assert!(write_hugetlb(dir.path(), &limit).is_err());
        std::fs::write(dir.path().join("hugetlb.2MB.limit_in_bytes"), "").unwrap();
        write_hugetlb(dir.path(), &limit).unwrap();
        assert_eq!(knob::read(dir.path(), "hugetlb.2MB.limit_in_bytes").unwrap(), "4096");
    }
}
