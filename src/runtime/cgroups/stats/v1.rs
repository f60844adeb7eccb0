//! Statistics of the v1 controllers.

use std::path::Path;

use super::super::{Cgroup, CgroupError, Result, knob};
use super::{
    CpuUsage, Hugetlb, Memory, MemoryEntry, Pids, Stats, Throttling, blkio, cpuset, hugepage_sizes, optional,
    read_table,
};

/// cpuacct.stat counts in ticks of 10 ms on every Linux architecture (USER_HZ).
const TICK_NS: u64 = 10_000_000;

pub(super) fn read(cgroup: &Cgroup) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(dir) = cgroup.path_of("cpuset") {
        stats.cpuset = cpuset::read(dir)?;
    }
    if let Some(dir) = cgroup.path_of("memory") {
        stats.memory = optional(read_memory(dir))?;
    }
    if let Some(dir) = cgroup.path_of("cpu") {
        stats.cpu.throttling = optional(read_throttling(dir))?;
    }
    if let Some(dir) = cgroup.path_of("cpuacct") {
        stats.cpu.usage = optional(read_cpu_usage(dir))?;
    }
    if let Some(dir) = cgroup.path_of("pids") {
        stats.pids = optional(read_pids(dir))?;
    }
    if let Some(dir) = cgroup.path_of("blkio") {
        stats.blkio = blkio::read_v1(dir)?;
    }
    if let Some(dir) = cgroup.path_of("hugetlb") {
        for size in hugepage_sizes() {
            stats.hugetlb.insert(size.clone(), optional(read_hugetlb(dir, &size))?);
        }
    }
    Ok(stats)
}

fn read_memory(dir: &Path) -> Result<Memory> {
    let raw = read_table(dir, "memory.stat")?;
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or_default(),
        usage: read_entry(dir, "memory")?,
        // Swap and kernel memory are counted only by some kernels.
        swap: optional(read_entry(dir, "memory.memsw"))?,
        kernel: optional(read_entry(dir, "memory.kmem"))?,
        kernel_tcp: optional(read_entry(dir, "memory.kmem.tcp"))?,
        raw,
        psi: None,
    })
}

fn read_entry(dir: &Path, prefix: &str) -> Result<MemoryEntry> {
    let number = |end: &str| knob::read_u64(dir, &format!("{prefix}.{end}"));
    Ok(MemoryEntry {
        usage: number("usage_in_bytes")?,
        max: number("max_usage_in_bytes")?,
        failcnt: number("failcnt")?,
        // Newer kernels have dropped memory.kmem's.
        limit: optional(number("limit_in_bytes"))?,
    })
}

fn read_throttling(dir: &Path) -> Result<Throttling> {
    let table = read_table(dir, "cpu.stat")?;
    let value = |key: &str| table.get(key).copied().unwrap_or_default();
    Ok(Throttling {
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_time: value("throttled_time"),
    })
}

fn read_cpu_usage(dir: &Path) -> Result<CpuUsage> {
    let ticks = read_table(dir, "cpuacct.stat")?;
    let time = |key: &str| ticks.get(key).copied().unwrap_or_default().saturating_mul(TICK_NS);
    let text = knob::read(dir, "cpuacct.usage_percpu")?;
    let percpu: Option<Vec<u64>> = text.split_whitespace().map(|value| value.parse().ok()).collect();
    let (percpu_user, percpu_kernel) = read_usage_all(dir)?;
    Ok(CpuUsage {
        total: knob::read_u64(dir, "cpuacct.usage")?,
        percpu: percpu.ok_or_else(|| CgroupError::parse(&dir.join("cpuacct.usage_percpu"), &text))?,
        percpu_kernel,
        percpu_user,
        kernel: time("system"),
        user: time("user"),
    })
}

/// User and kernel time of each CPU: lines of `cpu user system` below a heading.
fn read_usage_all(dir: &Path) -> Result<(Vec<u64>, Vec<u64>)> {
    let text = optional(knob::read(dir, "cpuacct.usage_all"))?;
    let parse = |line: &str| {
        let mut fields = line.split(' ').skip(1).map(|field| field.parse::<u64>().ok());
        Some((fields.next()??, fields.next()??))
    };
    let times: Option<Vec<_>> = text.lines().skip(1).map(parse).collect();
    let times = times.ok_or_else(|| CgroupError::parse(&dir.join("cpuacct.usage_all"), &text))?;
    Ok(times.into_iter().unzip())
}

fn read_pids(dir: &Path) -> Result<Pids> {
    let limit = knob::read_u64(dir, "pids.max")?;
    Ok(Pids {
        current: knob::read_u64(dir, "pids.current")?,
        limit: if limit == u64::MAX { 0 } else { limit },
    })
}

fn read_hugetlb(dir: &Path, size: &str) -> Result<Hugetlb> {
    let read = |prefix: &str| {
        let number = |end: &str| knob::read_u64(dir, &format!("{prefix}.{end}"));
        Ok(Hugetlb {
            usage: number("usage_in_bytes")?,
            max: number("max_usage_in_bytes")?,
            failcnt: number("failcnt")?,
        })
    };
    match read(&format!("hugetlb.{size}.rsvd")) {
        Err(error @ CgroupError::Open { .. }) if error.is_gone() => read(&format!("hugetlb.{size}")),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_without_swap_and_kernel_limit_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("memory.stat", "cache 4096\nrss 8192\n");
        for (name, value) in [("usage", "5"), ("max_usage", "9"), ("limit", "100")] {
            write(&format!("memory.{name}_in_bytes"), value);
        }
        write("memory.failcnt", "2\n");
        write("memory.kmem.usage_in_bytes", "3");
        write("memory.kmem.max_usage_in_bytes", "4");
        write("memory.kmem.failcnt", "0");
        let memory = read_memory(dir.path()).unwrap();
        assert_eq!(memory.usage, MemoryEntry { limit: 100, usage: 5, max: 9, failcnt: 2 });
        assert_eq!(memory.kernel, MemoryEntry { limit: 0, usage: 3, max: 4, failcnt: 0 });
        assert_eq!(memory.swap, MemoryEntry::default());
        assert_eq!((memory.cache, memory.raw["rss"]), (4096, 8192));
    }

    #[test]
    fn cpu_times_are_nanoseconds_and_by_cpu() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("cpuacct.stat", "user 3\nsystem 2\n");
        write("cpuacct.usage", "77\n");
        write("cpuacct.usage_percpu", "40 37 \n");
        write("cpuacct.usage_all", "cpu user system\n0 30 10\n1 30 7\n");
        let usage = read_cpu_usage(dir.path()).unwrap();
        assert_eq!((usage.user, usage.kernel, usage.total), (30_000_000, 20_000_000, 77));
        assert_eq!(usage.percpu, [40, 37]);
        assert_eq!((usage.percpu_user, usage.percpu_kernel), (vec![30, 30], vec![10, 7]));
    }
}
