//! v1 cpuset's settings.

use std::path::Path;

use super::super::{CgroupError, Result, knob};
use super::{CpuSet, optional};

pub(super) fn read(dir: &Path) -> Result<CpuSet> {
    let number = |name: &str| optional(knob::read_u64(dir, name));
    Ok(CpuSet {
        cpus: read_set(dir, "cpuset.cpus")?,
        cpu_exclusive: number("cpuset.cpu_exclusive")?,
        mems: read_set(dir, "cpuset.mems")?,
        mem_hardwall: number("cpuset.mem_hardwall")?,
        mem_exclusive: number("cpuset.mem_exclusive")?,
        memory_migrate: number("cpuset.memory_migrate")?,
        memory_spread_page: number("cpuset.memory_spread_page")?,
        memory_spread_slab: number("cpuset.memory_spread_slab")?,
        memory_pressure: number("cpuset.memory_pressure")?,
        sched_load_balance: number("cpuset.sched_load_balance")?,
        // The one that can be negative (-1: the kernel decides).
        sched_relax_domain_level: optional(
            knob::read(dir, "cpuset.sched_relax_domain_level")
                .map(|text| text.trim().parse().unwrap_or_default()),
        )?,
    })
}

fn read_set(dir: &Path, name: &str) -> Result<Vec<u16>> {
    let text = optional(knob::read(dir, name))?;
    parse_set(text.trim()).ok_or_else(|| CgroupError::parse(&dir.join(name), &text))
}

/// `0-2,7` as numbers.
fn parse_set(text: &str) -> Option<Vec<u16>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_spelled_out() {
        assert_eq!(parse_set("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(parse_set(""), Some(vec![]));
        assert_eq!(parse_set("x"), None);
    }
}
