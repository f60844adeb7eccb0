//! Files of the v2 memory controller (Documentation/admin-guide/cgroup-v2.rst).

pub const PROCS: &str = "cgroup.procs";
pub const LIMIT: &str = "memory.max";
pub const USAGE: &str = "memory.current";
/// Since Linux 5.19.
pub const PEAK: &str = "memory.peak";
pub const HIGH: &str = "memory.high";
/// Keys `low high max oom oom_kill oom_group_kill`, descendants included.
pub const EVENTS: &str = "memory.events";
/// As [`EVENTS`], this level alone: tells where a limit was hit.
pub const EVENTS_LOCAL: &str = "memory.events.local";
pub const STAT: &str = "memory.stat";
pub const SWAP_LIMIT: &str = "memory.swap.max";
pub const SWAP_USAGE: &str = "memory.swap.current";
pub const OOM_GROUP: &str = "memory.oom.group";
pub const PRESSURE: &str = "memory.pressure";
pub const CGROUP_EVENTS: &str = "cgroup.events";
pub const CONTROLLERS: &str = "cgroup.controllers";
pub const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

/// The limit a v2 text means: `Some(None)` for `max`, `None` where it is no limit at all.
pub fn limit(text: &str) -> Option<Option<u64>> {
    match text.trim_end() {
        "max" => Some(None),
        number => super::read::decimal(number).map(Some),
    }
}
