//! A change of resources, merged into what was asked before.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use super::limits::memory::given;

/// Before version 1.3 of the spec a pids limit of 0 is none, and engines of that time write it for "unlimited".
pub fn drop_zero_pids(resources: &mut LinuxResources, oci_version: &str) {
    let mut numbers = oci_version.split('.').map(str::parse::<u64>);
    let is_old = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (1, 3),
        _ => false,
    };
    if is_old && resources.pids().is_some_and(|pids| pids.limit() == 0) {
        resources.set_pids(None);
    }
}

/// Merges an update into the resources asked for so far: what is not given (or 0 where that means it) stays.
pub fn merge_resources(asked: &mut LinuxResources, change: &LinuxResources) {
    if let Some(mut unified) = asked.unified().clone() {
        // A file that was given by name wins over the fields; now a field is newer.
        unified.retain(|file, _| !replaces(change, file));
        asked.set_unified(Some(unified));
    }
    if let Some(rules) = change.devices() {
        asked.set_devices(Some(rules.clone()));
    }
    if let Some(change) = change.memory() {
        let mut memory = asked.memory().unwrap_or_default();
        merge_memory(&mut memory, change);
        asked.set_memory(Some(memory));
    }
    if let Some(change) = change.cpu() {
        let mut cpu = asked.cpu().clone().unwrap_or_default();
        merge_cpu(&mut cpu, change);
        asked.set_cpu(Some(cpu));
    }
    if let Some(pids) = change.pids() {
        asked.set_pids(Some(*pids));
    }
    if let Some(change) = change.block_io() {
        let mut io = asked.block_io().clone().unwrap_or_default();
        merge_block_io(&mut io, change);
        asked.set_block_io(Some(io));
    }
    if let Some(change) = change.hugepage_limits() {
        let mut limits = asked.hugepage_limits().clone().unwrap_or_default();
        for limit in change {
            limits.retain(|known| known.page_size() != limit.page_size());
            limits.push(limit.clone());
        }
        asked.set_hugepage_limits(Some(limits));
    }
    if let Some(change) = change.unified() {
        let mut unified = asked.unified().clone().unwrap_or_default();
        unified.extend(change.clone());
        asked.set_unified(Some(unified));
    }
    if let Some(network) = change.network() {
        asked.set_network(Some(network.clone()));
    }
    if let Some(change) = change.rdma() {
        let mut rdma = asked.rdma().clone().unwrap_or_default();
        rdma.extend(change.clone());
        asked.set_rdma(Some(rdma));
    }
}

/// Whether a field of `change` is written to this file of cgroup v2.
fn replaces(change: &LinuxResources, file: &str) -> bool {
    let memory = |field: fn(&LinuxMemory) -> Option<i64>| {
        change.memory().as_ref().is_some_and(|memory| given(field(memory)).is_some())
    };
    let cpu = |field: fn(&LinuxCpu) -> bool| change.cpu().as_ref().is_some_and(field);
    match file {
        "memory.max" => memory(LinuxMemory::limit),
        "memory.swap.max" => memory(LinuxMemory::swap),
        "memory.low" => memory(LinuxMemory::reservation),
        "pids.max" => change.pids().is_some(),
        "cpu.weight" => cpu(|cpu| cpu.shares().unwrap_or(0) != 0),
        "cpu.max" => cpu(|cpu| cpu.quota().unwrap_or(0) != 0),
        "cpu.max.burst" => cpu(|cpu| cpu.burst().is_some()),
        "cpu.idle" => cpu(|cpu| cpu.idle().is_some()),
        "cpuset.cpus" => cpu(|cpu| cpu.cpus().as_ref().is_some_and(|list| !list.is_empty())),
        "cpuset.mems" => cpu(|cpu| cpu.mems().as_ref().is_some_and(|list| !list.is_empty())),
        _ => false,
    }
}

fn merge_memory(memory: &mut LinuxMemory, change: &LinuxMemory) {
    let old = *memory;
    let swap = match (given(change.limit()), given(change.swap())) {
        // Without a limit, swap is not limited either.
        (Some(-1), None) => Some(-1),
        (_, swap) => swap.or(old.swap()),
    };
    memory
        .set_limit(given(change.limit()).or(old.limit()))
        .set_swap(swap)
        .set_reservation(given(change.reservation()).or(old.reservation()))
        .set_swappiness(change.swappiness().or(old.swappiness()))
        .set_disable_oom_killer(change.disable_oom_killer().or(old.disable_oom_killer()));
}

fn merge_cpu(cpu: &mut LinuxCpu, change: &LinuxCpu) {
    fn number<T: PartialEq + Default>(new: Option<T>, old: Option<T>) -> Option<T> {
        new.filter(|new| *new != T::default()).or(old)
    }
    fn text(new: &Option<String>, old: &Option<String>) -> Option<String> {
        new.clone().filter(|new| !new.is_empty()).or_else(|| old.clone())
    }
    let old = cpu.clone();
    cpu.set_shares(number(change.shares(), old.shares()))
        .set_quota(number(change.quota(), old.quota()))
        .set_period(number(change.period(), old.period()))
        .set_realtime_runtime(number(change.realtime_runtime(), old.realtime_runtime()))
        .set_realtime_period(number(change.realtime_period(), old.realtime_period()))
        .set_burst(change.burst().or(old.burst()))
        .set_idle(change.idle().or(old.idle()))
        .set_cpus(text(change.cpus(), old.cpus()))
        .set_mems(text(change.mems(), old.mems()));
    if change.idle().is_some() && change.shares().is_none() {
        // The kernel takes no weight for an idle group.
        cpu.set_shares(None);
    }
}

fn merge_block_io(io: &mut LinuxBlockIo, change: &LinuxBlockIo) {
    let weight = change.weight().filter(|weight| *weight != 0).or(io.weight());
    let leaf_weight = change.leaf_weight().filter(|weight| *weight != 0).or(io.leaf_weight());
    let devices = |old: &Option<Vec<_>>, new: &Option<Vec<_>>| merge_throttling(old, new);
    let read_bps = devices(io.throttle_read_bps_device(), change.throttle_read_bps_device());
    let write_bps = devices(io.throttle_write_bps_device(), change.throttle_write_bps_device());
    let read_iops = devices(io.throttle_read_iops_device(), change.throttle_read_iops_device());
    let write_iops = devices(io.throttle_write_iops_device(), change.throttle_write_iops_device());
    let weights = merge_weights(io.weight_device(), change.weight_device());
    io.set_weight(weight)
        .set_leaf_weight(leaf_weight)
        .set_weight_device(weights)
        .set_throttle_read_bps_device(read_bps)
        .set_throttle_write_bps_device(write_bps)
        .set_throttle_read_iops_device(read_iops)
        .set_throttle_write_iops_device(write_iops);
}

fn merge_throttling(
    old: &Option<Vec<LinuxThrottleDevice>>,
    new: &Option<Vec<LinuxThrottleDevice>>,
) -> Option<Vec<LinuxThrottleDevice>> {
    let Some(new) = new else { return old.clone() };
    let mut merged = old.clone().unwrap_or_default();
    for device in new {
        merged.retain(|known| (known.major(), known.minor()) != (device.major(), device.minor()));
        merged.push(*device);
    }
    Some(merged)
}

fn merge_weights(
    old: &Option<Vec<LinuxWeightDevice>>,
    new: &Option<Vec<LinuxWeightDevice>>,
) -> Option<Vec<LinuxWeightDevice>> {
    let Some(new) = new else { return old.clone() };
    let mut merged = old.clone().unwrap_or_default();
    for device in new {
        // A new entry with only one of its two weights leaves the other: both entries are written, in order.
        let complete = device.weight().is_some() && device.leaf_weight().is_some();
        merged.retain(|known| {
            let replaced = complete
                || (known.weight().is_some(), known.leaf_weight().is_some())
                    == (device.weight().is_some(), device.leaf_weight().is_some());
            !(replaced && (known.major(), known.minor()) == (device.major(), device.minor()))
        });
        merged.push(*device);
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_resources(text: &[u8]) -> serde_json::Result<LinuxResources> {
        serde_json::from_slice(text)
    }

    #[test]
    fn zeros_of_an_update_keep_what_was_asked() {
        let mut asked = parse_resources(
            br#"{"memory":{"limit":64,"swap":128},"cpu":{"quota":5,"cpus":"0"},"devices":[{"allow":false,"access":"rwm"}],
                 "blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":0,"rate":1}]}}"#,
        )
        .unwrap();
        let change = parse_resources(
            br#"{"memory":{"limit":0,"reservation":0,"kernel":0},"cpu":{"quota":0,"period":9,"cpus":""},
                 "blockIO":{"weight":0,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}]},"pids":{"limit":3}}"#,
        )
        .unwrap();
        merge_resources(&mut asked, &change);
        let memory = asked.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap(), memory.reservation()), (Some(64), Some(128), None));
        let cpu = asked.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period(), cpu.cpus().as_deref()), (Some(5), Some(9), Some("0")));
        let io = asked.block_io().as_ref().unwrap();
        assert_eq!(io.weight(), None);
        let rates: Vec<_> = io.throttle_read_bps_device().iter().flatten().map(|d| d.rate()).collect();
        assert_eq!(rates, [7]);
        assert_eq!(asked.pids().unwrap().limit(), 3);
        assert_eq!(asked.devices().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn a_newer_field_takes_the_place_of_a_file_that_was_given_by_name() {
        let mut asked = parse_resources(
            br#"{"memory":{"limit":64},"unified":{"memory.max":"48","memory.high":"40","pids.max":"7","cpu.max":"1 2"}}"#,
        )
        .unwrap();
        let change = br#"{"memory":{"limit":56},"cpu":{"quota":0},"pids":{"limit":9}}"#;
        merge_resources(&mut asked, &parse_resources(change).unwrap());
        let mut files: Vec<_> = asked.unified().as_ref().unwrap().keys().cloned().collect();
        files.sort_unstable();
        assert_eq!(files, ["cpu.max", "memory.high"]);
    }

    #[test]
    fn removing_the_memory_limit_removes_the_swap_limit() {
        let mut asked = parse_resources(br#"{"memory":{"limit":64,"swap":128}}"#).unwrap();
        merge_resources(&mut asked, &parse_resources(br#"{"memory":{"limit":-1}}"#).unwrap());
        assert_eq!(asked.memory().unwrap().swap(), Some(-1));
    }
}
