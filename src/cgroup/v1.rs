//! Files of the v1 memory controller (Documentation/admin-guide/cgroup-v1/memory.rst).

pub const PROCS: &str = "cgroup.procs";
pub const KERNEL_USAGE: &str = "memory.kmem.usage_in_bytes";
pub const LIMIT: &str = "memory.limit_in_bytes";
pub const USAGE: &str = "memory.usage_in_bytes";
pub const PEAK: &str = "memory.max_usage_in_bytes";
/// How often the limit was hit at this level; not summed over children.
pub const FAILCNT: &str = "memory.failcnt";
/// Memory plus swap. Absent without swap accounting.
pub const MEMSW_LIMIT: &str = "memory.memsw.limit_in_bytes";
pub const MEMSW_USAGE: &str = "memory.memsw.usage_in_bytes";
/// As [`FAILCNT`]. Memory and swap are charged first: where both limits are equal, this one alone counts.
pub const MEMSW_FAILCNT: &str = "memory.memsw.failcnt";
pub const SWAPPINESS: &str = "memory.swappiness";
/// Keys `oom_kill_disable`, `under_oom`, `oom_kill` (this cgroup alone, not its children).
pub const OOM_CONTROL: &str = "memory.oom_control";
pub const STAT: &str = "memory.stat";
/// 0 where the limits of ancestors do not count (kernels before 5.11).
pub const USE_HIERARCHY: &str = "memory.use_hierarchy";
pub const FREEZER_STATE: &str = "freezer.state";

/// A limit at or above this is none: the counter's page-rounded LONG_MAX on 64 bit reads 9223372036854771712.
const UNLIMITED_FROM: u64 = 0x7fff_ffff_ffff_0000;

/// The limit a v1 file means; `None` for none.
pub fn limit(bytes: u64) -> Option<u64> {
    (bytes < UNLIMITED_FROM).then_some(bytes)
}
