//! Writing limits: what is common to the versions, and checks before anything is made.

pub(super) mod memory;
mod v1;
mod v1_blkio;
mod v1_cpu;
mod v2;
mod v2_io;

use oci_spec::runtime::{LinuxBlockIo, LinuxRdma, LinuxResources};
use std::collections::HashMap;
use std::path::Path;

pub(super) use self::v2::write_unified;
use super::{Cgroup, CgroupError, Result, Version, devices, knob, systemd};

/// When limits are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// All directories are new.
    Create,
    /// Some were there before (or systemd made them).
    CreateInExisting,
    /// The container runs.
    Update,
}

/// Refuses what can be refused by looking at it.
pub(super) fn check(version: Version, resources: &LinuxResources) -> Result<()> {
    let unified = resources.unified().as_ref().is_some_and(|unified| !unified.is_empty());
    if unified && version != Version::V2 {
        return Err(CgroupError::UnifiedOnV1);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        // The size becomes a part of a file name.
        if limit.page_size().contains('/') {
            return Err(CgroupError::InvalidLimit(format!("invalid hugepage size {:?}", limit.page_size())));
        }
    }
    if version == Version::V2 {
        v2::check(resources)?;
    }
    Ok(())
}

/// Writes what `resources` gives.
pub(super) fn write(cgroup: &Cgroup, resources: &LinuxResources, moment: Moment) -> Result<()> {
    if let Some(memory) = resources.memory()
        && (memory.kernel().is_some_and(|limit| limit != 0)
            || memory.kernel_tcp().is_some_and(|limit| limit != 0))
    {
        tracing::warn!("Kernel memory settings are ignored and will be removed");
    }
    // A unit is started with its limits.
    if let Some(unit) = cgroup.unit.as_ref().filter(|_| moment == Moment::Update) {
        systemd::update(unit, cgroup, resources)?;
    }
    match cgroup.version {
        Version::V2 => v2::write(cgroup, resources, moment)?,
        Version::V1 | Version::Hybrid => v1::write(cgroup, resources, moment)?,
    }
    // An update without rules leaves those that there are.
    if moment != Moment::Update || resources.devices().is_some() {
        devices::write(cgroup, resources, moment)?;
    }
    match (cgroup.version, resources.unified()) {
        // Last, so that it wins over the other fields.
        (Version::V2, Some(unified)) => v2::write_unified(cgroup, unified),
        _ => Ok(()),
    }
}

/// Whether any limit is asked for that needs a controller (v2: device rules and freezing need none).
pub(super) fn any_asked(resources: &LinuxResources) -> bool {
    needs_domain(resources)
        || resources.pids().is_some()
        || resources.unified().as_ref().is_some_and(|unified| !unified.is_empty())
        || resources.rdma().as_ref().is_some_and(|limits| !limits.is_empty())
        || super::cpuset::asked(resources.cpu().as_ref()) != (None, None)
}

/// Whether a limit is asked for whose controller cannot work on threads.
pub(super) fn needs_domain(resources: &LinuxResources) -> bool {
    let memory = resources.memory().as_ref().is_some_and(|memory| {
        [memory.limit(), memory.reservation(), memory.swap()].iter().any(|limit| limit.unwrap_or(0) != 0)
    });
    let cpu = resources.cpu().as_ref().is_some_and(|cpu| {
        let given = [cpu.shares(), cpu.period()].iter().any(|value| value.unwrap_or(0) != 0);
        given || cpu.quota().unwrap_or(0) != 0 || cpu.idle().is_some() || cpu.burst().is_some()
    });
    let io = resources.block_io().as_ref().is_some_and(|io| !is_empty(io));
    let hugetlb = resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty());
    memory || cpu || io || hugetlb
}

fn is_empty(io: &LinuxBlockIo) -> bool {
    let none = |list: &Option<Vec<_>>| list.as_ref().is_none_or(Vec::is_empty);
    io.weight().unwrap_or(0) == 0
        && io.leaf_weight().unwrap_or(0) == 0
        && io.weight_device().as_ref().is_none_or(Vec::is_empty)
        && none(io.throttle_read_bps_device())
        && none(io.throttle_write_bps_device())
        && none(io.throttle_read_iops_device())
        && none(io.throttle_write_iops_device())
}

/// RDMA has the same file on both versions; the crate knows it on neither.
fn write_rdma(dir: &Path, limits: &HashMap<String, LinuxRdma>) -> Result<()> {
    for (device, limit) in limits {
        let mut line = device.clone();
        for (name, value) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
            if let Some(value) = value {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        knob::write(dir, "rdma.max", &line)?;
    }
    Ok(())
}

/// Retries what the kernel refuses only because of a value that is about to change: the two writes are tried in
/// their usual order, and the refused first one once more after the second.
fn write_pair(dir: &Path, first: (&str, Option<String>), second: (&str, Option<String>)) -> Result<()> {
    let mut again = None;
    if let (name, Some(value)) = first {
        match knob::write(dir, name, &value) {
            Err(error) if error.errno() == Some(nix::errno::Errno::EINVAL) && second.1.is_some() => {
                again = Some((name, value));
            }
            result => result?,
        }
    }
    if let (name, Some(value)) = second {
        knob::write(dir, name, &value)?;
    }
    match again {
        Some((name, value)) => knob::write(dir, name, &value),
        None => Ok(()),
    }
}
