//! Statistics of a v2 cgroup. Controllers that are not enabled for it have no files and stay zero.

use std::path::Path;

use nix::errno::Errno;

use super::super::{CgroupError, Result, knob};
use super::{
    Cpu, Hugetlb, Memory, MemoryEntry, Pids, Psi, PsiData, Stats, blkio, hugepage_sizes, optional, read_table,
};

pub(super) fn read(dir: &Path) -> Result<Stats> {
    let mut stats = Stats {
        pids: read_pids(dir)?,
        memory: optional(read_memory(dir))?,
        blkio: optional(blkio::read_v2(dir))?,
        cpu: optional(read_cpu(dir))?,
        ..Stats::default()
    };
    stats.cpu.psi = read_psi(dir, "cpu.pressure")?;
    stats.memory.psi = read_psi(dir, "memory.pressure")?;
    stats.blkio.psi = read_psi(dir, "io.pressure")?;
    if has_hugetlb(dir) {
        for size in hugepage_sizes() {
            stats.hugetlb.insert(size.clone(), optional(read_hugetlb(dir, &size))?);
        }
    }
    Ok(stats)
}

fn has_hugetlb(dir: &Path) -> bool {
    let controllers = knob::read(dir, "cgroup.controllers").unwrap_or_default();
    controllers.split_whitespace().any(|name| name == "hugetlb")
}

/// Without the controller the processes are counted.
fn read_pids(dir: &Path) -> Result<Pids> {
    let Some(current) = knob::read_optional_u64(dir, "pids.current")? else {
        let list = match knob::read(dir, "cgroup.procs") {
            Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => knob::read(dir, "cgroup.threads")?,
            list => list?,
        };
        return Ok(Pids { current: list.lines().count() as u64, limit: 0 });
    };
    let limit = knob::read_u64(dir, "pids.max")?;
    Ok(Pids { current, limit: if limit == u64::MAX { 0 } else { limit } })
}

fn read_memory(dir: &Path) -> Result<Memory> {
    let raw = read_table(dir, "memory.stat")?;
    let usage = read_entry(dir, "memory")?;
    // v1 counts swap together with memory; peaks cannot be added.
    let mut swap = optional(read_entry(dir, "memory.swap"))?;
    swap.usage = swap.usage.saturating_add(usage.usage);
    if swap.limit != u64::MAX {
        swap.limit = swap.limit.saturating_add(usage.limit);
    }
    swap.max = 0;
    Ok(Memory { cache: raw.get("file").copied().unwrap_or_default(), usage, swap, raw, ..Memory::default() })
}

/// `prefix` is memory or memory.swap. The peaks came with Linux 5.19 and 6.5.
fn read_entry(dir: &Path, prefix: &str) -> Result<MemoryEntry> {
    let events = format!("{prefix}.events");
    Ok(MemoryEntry {
        usage: knob::read_u64(dir, &format!("{prefix}.current"))?,
        limit: knob::read_u64(dir, &format!("{prefix}.max"))?,
        max: optional(knob::read_u64(dir, &format!("{prefix}.peak")))?,
        failcnt: optional(knob::read_key(dir, &events, "max"))?,
    })
}

fn read_cpu(dir: &Path) -> Result<Cpu> {
    let table = read_table(dir, "cpu.stat")?;
    let count = |key: &str| table.get(key).copied().unwrap_or_default();
    let time = |key: &str| count(key).saturating_mul(1000);
    let mut cpu = Cpu::default();
    cpu.usage.total = time("usage_usec");
    cpu.usage.user = time("user_usec");
    cpu.usage.kernel = time("system_usec");
    cpu.throttling.periods = count("nr_periods");
    cpu.throttling.throttled_periods = count("nr_throttled");
    cpu.throttling.throttled_time = time("throttled_usec");
    Ok(cpu)
}

fn read_hugetlb(dir: &Path, size: &str) -> Result<Hugetlb> {
    let usage = match knob::read_optional_u64(dir, &format!("hugetlb.{size}.rsvd.current"))? {
        Some(usage) => usage,
        None => knob::read_u64(dir, &format!("hugetlb.{size}.current"))?,
    };
    let failcnt = knob::read_key(dir, &format!("hugetlb.{size}.events"), "max")?;
    Ok(Hugetlb { usage, max: 0, failcnt })
}

/// `None` where the kernel gives none (no PSI, switched off for the cgroup, or needing `psi=1` at boot).
fn read_psi(dir: &Path, name: &str) -> Result<Option<Psi>> {
    let text = match knob::read(dir, name) {
        Err(error) if error.is_gone() || error.errno() == Some(Errno::EOPNOTSUPP) => return Ok(None),
        text => text?,
    };
    let mut psi = Psi::default();
    for line in text.lines() {
        let Some((kind, values)) = line.split_once(' ') else { continue };
        let target = match kind {
            "some" => &mut psi.some,
            "full" => &mut psi.full,
            _ => continue,
        };
        *target = parse_psi(values).ok_or_else(|| CgroupError::parse(&dir.join(name), line))?;
    }
    Ok(Some(psi))
}

/// `avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse_psi(values: &str) -> Option<PsiData> {
    let mut data = PsiData::default();
    for field in values.split_whitespace() {
        let (key, value) = field.split_once('=')?;
        match key {
            "avg10" => data.avg10 = value.parse().ok()?,
            "avg60" => data.avg60 = value.parse().ok()?,
            "avg300" => data.avg300 = value.parse().ok()?,
            "total" => data.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_is_read_in_v1s_terms() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("memory.stat", "anon 10\nfile 20\n");
        write("memory.current", "30\n");
        write("memory.max", "100\n");
        write("memory.peak", "50\n");
        write("memory.events", "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\n");
        write("memory.swap.current", "5\n");
        write("memory.swap.max", "7\n");
        write("cpu.stat", "usage_usec 9\nuser_usec 4\nsystem_usec 5\n");
        write("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\n");
        write("cgroup.procs", "1\n2\n");
        let stats = read(dir.path()).unwrap();
        assert_eq!(stats.memory.usage, MemoryEntry { limit: 100, usage: 30, max: 50, failcnt: 6 });
        assert_eq!(stats.memory.swap, MemoryEntry { limit: 107, usage: 35, max: 0, failcnt: 0 });
        assert_eq!(stats.memory.cache, 20);
        assert_eq!(stats.cpu.usage.total, 9000);
        assert_eq!(stats.pids, Pids { current: 2, limit: 0 });
        let psi = stats.cpu.psi.unwrap();
        assert_eq!((psi.some.avg10, psi.some.total), (1.5, 12));
        assert!(stats.memory.psi.is_none());
    }
}
