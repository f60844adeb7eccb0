//! Statistics in the shape of runc's `events` (its `types/events.go`): same names, same omissions.
//!
//! Read here: the crate's statistics have v2's failcnt from the wrong key, no oom_kill, no peak where there is one,
//! no cpuset and no per-cpu times, and they fail as a whole when one optional file is missing.

mod blkio;
mod cpuset;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{Cgroup, CgroupError, Result, Version, knob};

/// The `data` of a `stats` event.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Stats {
    pub cpu: Cpu,
    pub cpuset: CpuSet,
    pub memory: Memory,
    pub pids: Pids,
    pub blkio: Blkio,
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Not supported here; runc prints an empty object without Intel RDT.
    pub intel_rdt: IntelRdt,
    /// runc fills this only for networks that no engine configures; always null.
    pub network_interfaces: Option<()>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct IntelRdt {}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Cpu {
    #[serde(skip_serializing_if = "is_default")]
    pub usage: CpuUsage,
    #[serde(skip_serializing_if = "is_default")]
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// CPU time in nanoseconds (`percpu_kernel`/`percpu_user` as the kernel gives them).
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_default")]
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

/// Quota enforcement; the time in nanoseconds.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_default")]
    pub periods: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_periods: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_time: u64,
}

/// Pressure stall information: percentages, and the total in microseconds.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Psi {
    pub some: PsiData,
    pub full: PsiData,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct PsiData {
    #[serde(serialize_with = "as_go_prints")]
    pub avg10: f64,
    #[serde(serialize_with = "as_go_prints")]
    pub avg60: f64,
    #[serde(serialize_with = "as_go_prints")]
    pub avg300: f64,
    pub total: u64,
}

/// v1 cpuset; all zero on v2, as in runc.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory in bytes. `swap` is memory and swap together on both versions.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Memory {
    #[serde(skip_serializing_if = "is_default")]
    pub cache: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub usage: MemoryEntry,
    #[serde(skip_serializing_if = "is_default")]
    pub swap: MemoryEntry,
    #[serde(skip_serializing_if = "is_default")]
    pub kernel: MemoryEntry,
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_default")]
    pub kernel_tcp: MemoryEntry,
    /// memory.stat as it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Bytes; `failcnt` is how often the limit was hit (`max` in memory.events on v2).
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct MemoryEntry {
    pub limit: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    pub failcnt: u64,
}

/// Number of tasks; a limit of 0 is none.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Pids {
    #[serde(skip_serializing_if = "is_default")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct BlkioEntry {
    #[serde(skip_serializing_if = "is_default")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    #[serde(skip_serializing_if = "is_default")]
    pub value: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Hugetlb {
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    pub failcnt: u64,
}

/// Whole numbers without a fraction.
fn as_go_prints<S: serde::Serializer>(value: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match *value {
        whole @ 0.0..=100.0 if whole.fract() == 0.0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number up to 100"
            )]
            let whole = whole as u8;
            serializer.serialize_u8(whole)
        }
        other => serializer.serialize_f64(other),
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Cgroup {
    /// Reads the statistics. What the host has no controller for stays zero.
    pub fn stats(&self) -> Result<Stats> {
        match self.version {
            Version::V2 => v2::read(self.path_of("").ok_or(CgroupError::NotExist)?),
            Version::V1 | Version::Hybrid => v1::read(self),
        }
    }
}

/// memory.stat and the like; a line that is no `key number` is an error.
fn read_table(dir: &Path, name: &str) -> Result<BTreeMap<String, u64>> {
    let text = knob::read(dir, name)?;
    text.lines()
        .map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), knob::number(value)?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| CgroupError::parse(&dir.join(name), &text))
}

/// Names of the host's huge page sizes as cgroup files have them (`2MB`), from the names in
/// /sys/kernel/mm/hugepages (`hugepages-2048kB`).
fn hugepage_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries.filter_map(|entry| hugepage_size(&entry.file_name().to_string_lossy())).collect()
}

fn hugepage_size(folder: &str) -> Option<String> {
    let kib: u64 = folder.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        0x10_0000.. => format!("{}GB", kib >> 20),
        0x400.. => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

/// A missing file is what an absent or not enabled controller looks like.
fn optional<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(error) if error.is_gone() => Ok(T::default()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_statistics_look_like_runcs() {
        let text = serde_json::to_string(&Stats::default()).unwrap();
        assert_eq!(
            text,
            "{\"cpu\":{},\"cpuset\":{\"cpu_exclusive\":0,\"mem_hardwall\":0,\"mem_exclusive\":0,\
             \"memory_migrate\":0,\"memory_spread_page\":0,\"memory_spread_slab\":0,\"memory_pressure\":0,\
             \"sched_load_balance\":0,\"sched_relax_domain_level\":0},\"memory\":{},\"pids\":{},\"blkio\":{},\
             \"hugetlb\":{},\"intel_rdt\":{},\"network_interfaces\":null}"
        );
    }

    #[test]
    fn whole_percentages_have_no_fraction() {
        let psi = PsiData { avg10: 0.0, avg60: 1.25, avg300: 100.0, total: 7 };
        let text = serde_json::to_string(&psi).unwrap();
        assert_eq!(text, r#"{"avg10":0,"avg60":1.25,"avg300":100,"total":7}"#);
    }

    #[test]
    fn hugepage_sizes_are_named_as_the_kernel_does() {
        let names = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "other"];
        let sizes: Vec<_> = names.iter().map(|name| hugepage_size(name)).collect();
        assert_eq!(sizes, [Some("64KB".into()), Some("2MB".into()), Some("1GB".into()), None]);
    }
}
