//! Limits of the spec as properties of a unit, as runc gives them (systemd.resource-control(5)). What systemd does
//! not know, or not yet in this version, is left to cgroupfs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::super::limits::memory::{given, swap_v2};
use super::super::{Cgroup, CgroupError, Result, cpuset, devices, knob};
use crate::systemd::{Basic, Property, Value};

/// What systemd takes for "no limit".
const INFINITY: u64 = u64::MAX;
/// Older versions do not know these.
const KNOWS_QUOTA_PERIOD: u32 = 242;
const KNOWS_CPUSETS: u32 = 244;
const KNOWS_IDLE: u32 = 252;
const KNOWS_OOM_POLICY: u32 = 253;
const DEFAULT_PERIOD: u64 = 100_000;

/// The limits of cgroup v2, of a systemd of `version`.
pub(super) fn limits(resources: &LinuxResources, version: u32) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    let mut add = |name: &str, value: Value| properties.push((name.to_owned(), value));
    if let Some(memory) = resources.memory() {
        // -1 is no limit; it becomes the largest number, as systemd wants it.
        let bytes = |limit: i64| u64::try_from(limit).unwrap_or(INFINITY).into();
        given(memory.limit()).into_iter().for_each(|limit| add("MemoryMax", bytes(limit)));
        given(memory.reservation()).into_iter().for_each(|limit| add("MemoryLow", bytes(limit)));
        swap_v2(memory, || None)?.into_iter().for_each(|limit| add("MemorySwapMax", bytes(limit)));
    }
    if let Some(cpu) = resources.cpu() {
        add_cpu(cpu, version, &mut add);
        let (cpus, mems) = cpuset::asked(Some(cpu));
        add_set("AllowedCPUs", cpus, version, &mut add)?;
        add_set("AllowedMemoryNodes", mems, version, &mut add)?;
    }
    if let Some(pids) = resources.pids() {
        add("TasksMax", tasks(u64::try_from(pids.limit()).unwrap_or(INFINITY)));
    }
    if let Some(unified) = resources.unified() {
        add_unified(unified, version, &mut add)?;
    }
    Ok(properties)
}

/// systemd has no 0 for tasks; with init in it, 1 is as little.
fn tasks(limit: u64) -> Value {
    limit.max(1).into()
}

fn add_cpu(cpu: &LinuxCpu, version: u32, add: &mut impl FnMut(&str, Value)) {
    let idle = cpu.idle() == Some(1) && version >= KNOWS_IDLE;
    match cpu.shares().filter(|shares| *shares != 0) {
        // A weight of 0 is idle.
        _ if idle => add("CPUWeight", 0.into()),
        Some(shares) => add("CPUWeight", weight(shares).into()),
        None => {}
    }
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    if quota != 0 || period != 0 {
        add_quota(quota, period, version, add);
    }
}

/// `quota`: microseconds in each `period`; 0 and less: no limit. Rounded up to whole percents, because systemd writes
/// down (and reads again, when it reloads) no more than these; cgroupfs gets the number itself.
fn add_quota(quota: i64, period: u64, version: u32, add: &mut impl FnMut(&str, Value)) {
    if period != 0 && version >= KNOWS_QUOTA_PERIOD {
        add("CPUQuotaPeriodUSec", period.into());
    }
    let per_second = match u64::try_from(quota) {
        Err(_) | Ok(0) => INFINITY,
        Ok(quota) => {
            let period = if period == 0 { DEFAULT_PERIOD } else { period };
            let exact = u128::from(quota) * 1_000_000 / u128::from(period);
            u64::try_from(exact.div_ceil(10_000) * 10_000).unwrap_or(INFINITY)
        }
    };
    add("CPUQuotaPerSecUSec", per_second.into());
}

/// cgroup v1's shares (2 to 262144, 1024 by default) as v2's weight (1 to 10000, 100 by default): the curve through
/// these three points that runc, crun and the crate use for `cpu.weight`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "within 1 to 10000"
)]
fn weight(shares: u64) -> u64 {
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

fn add_set(name: &str, list: Option<&str>, version: u32, add: &mut impl FnMut(&str, Value)) -> Result<()> {
    let Some(list) = list.filter(|_| version >= KNOWS_CPUSETS) else { return Ok(()) };
    let invalid = || CgroupError::InvalidLimit(format!("invalid list of CPUs or memory nodes {list:?}"));
    let bits = bitmap(list).ok_or_else(invalid)?;
    add(name, Value::Array('y', bits.into_iter().map(Basic::Byte).collect()));
    Ok(())
}

/// `0-2,8` as bits, the first byte with the lowest numbers.
fn bitmap(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        for number in first..=last {
            let byte = usize::from(number / 8);
            bits.resize(bits.len().max(byte + 1), 0_u8);
            bits[byte] |= 1 << (number % 8);
        }
        if first > last {
            return None;
        }
    }
    (!bits.is_empty()).then_some(bits)
}

/// Files of cgroup v2 that have a property; the others are cgroupfs' alone.
fn add_unified(
    unified: &HashMap<String, String>,
    version: u32,
    add: &mut impl FnMut(&str, Value),
) -> Result<()> {
    for (file, text) in unified {
        let text = text.trim();
        let invalid =
            || CgroupError::InvalidLimit(format!("unified resource {file:?} value invalid: {text:?}"));
        let number = || if text == "max" { Ok(INFINITY) } else { text.parse().map_err(|_| invalid()) };
        match file.as_str() {
            "memory.high" => add("MemoryHigh", number()?.into()),
            "memory.low" => add("MemoryLow", number()?.into()),
            "memory.min" => add("MemoryMin", number()?.into()),
            "memory.max" => add("MemoryMax", number()?.into()),
            "memory.swap.max" => add("MemorySwapMax", number()?.into()),
            "pids.max" => add("TasksMax", tasks(number()?)),
            "cpu.idle" if text == "1" && version >= KNOWS_IDLE => add("CPUWeight", 0.into()),
            "cpu.weight" if unified.get("cpu.idle").is_none_or(|idle| idle.trim() != "1") => {
                add("CPUWeight", number()?.into());
            }
            "cpu.max" => {
                let mut words = text.split_whitespace();
                let quota = match words.next().ok_or_else(invalid)? {
                    "max" => 0,
                    quota => quota.parse().map_err(|_| invalid())?,
                };
                let period = words.next().map_or(Ok(DEFAULT_PERIOD), str::parse).map_err(|_| invalid())?;
                add_quota(quota, period, version, add);
            }
            "cpuset.cpus" => add_set("AllowedCPUs", Some(text), version, add)?,
            "cpuset.mems" => add_set("AllowedMemoryNodes", Some(text), version, add)?,
            _ => {}
        }
    }
    Ok(())
}

/// What control files say, as properties where there is one.
pub(super) fn of_files(files: &[(PathBuf, String)], version: u32) -> Result<Vec<Property>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (empty, given): (Vec<_>, Vec<_>) = files.iter().partition(|(_, text)| text.is_empty());
    let mut properties = Vec::new();
    let unified = given.into_iter().map(|(path, text)| (name(path), text.clone())).collect();
    add_unified(&unified, version, &mut |name, value| properties.push((name.to_owned(), value)))?;
    for (path, _) in empty.into_iter().filter(|_| version >= KNOWS_CPUSETS) {
        let set = match name(path).as_str() {
            "cpuset.cpus" => "AllowedCPUs",
            "cpuset.mems" => "AllowedMemoryNodes",
            _ => continue,
        };
        properties.push((set.to_owned(), Value::Array('y', Vec::new())));
    }
    Ok(properties)
}

/// Whether one OOM kill ends the whole unit; systemd takes it only when a unit starts.
pub(super) fn oom_policy(resources: &LinuxResources, version: u32) -> Result<Option<Property>> {
    let group = resources.unified().as_ref().and_then(|unified| unified.get("memory.oom.group"));
    let policy = match group.map(|text| text.trim()) {
        Some("0") => "continue",
        Some("1") => "kill",
        _ => return Ok(None),
    };
    Ok((version >= KNOWS_OOM_POLICY).then(|| ("OOMPolicy".to_owned(), policy.into())))
}

/// Device rules: all denied but for a list, or systemd's default where nothing is.
pub(super) fn devices(cgroup: &Cgroup, resources: &LinuxResources) -> Result<Vec<Property>> {
    // The user's own manager may not set them.
    if cgroup.rootless {
        return Ok(Vec::new());
    }
    let Some(allowed) = devices::allowed(resources)? else {
        return Ok(vec![
            ("DevicePolicy".to_owned(), "auto".into()),
            ("DeviceAllow".to_owned(), Value::Pairs(Vec::new())),
        ]);
    };
    Ok(vec![("DevicePolicy".to_owned(), "strict".into()), ("DeviceAllow".to_owned(), Value::Pairs(allowed))])
}

/// `resources` of an update with what one property needs of the limits in force beside what is given: a quota its
/// period, a swap limit the limit of memory.
pub(super) fn completed(resources: &LinuxResources, dir: &Path) -> LinuxResources {
    let mut all = LinuxResources::default();
    all.set_cpu(resources.cpu().as_ref().map(|cpu| with_quota_in_force(cpu, dir)))
        .set_memory(resources.memory().as_ref().map(|memory| with_limit_in_force(memory, dir)))
        .set_pids(resources.pids().as_ref().map(|pids| {
            let mut copy = LinuxPids::default();
            copy.set_limit(pids.limit());
            copy
        }))
        .set_unified(resources.unified().clone());
    all
}

fn with_quota_in_force(cpu: &LinuxCpu, dir: &Path) -> LinuxCpu {
    let mut all = cpu.clone();
    let (quota, period) = (cpu.quota().filter(|n| *n != 0), cpu.period().filter(|n| *n != 0));
    if quota.is_none() && period.is_none() {
        return all;
    }
    // "max 100000", or "50000 100000"
    let now = knob::read(dir, "cpu.max").unwrap_or_default();
    let mut now = now.split_whitespace();
    let quota_now = now.next().and_then(|word| word.parse().ok());
    let period_now = now.next().and_then(|word| word.parse().ok());
    all.set_quota(quota.or(quota_now)).set_period(period.or(period_now));
    all
}

fn with_limit_in_force(memory: &LinuxMemory, dir: &Path) -> LinuxMemory {
    let mut all = *memory;
    if given(memory.limit()).is_none() && given(memory.swap()).is_some_and(|swap| swap > 0) {
        let now = knob::read_u64(dir, "memory.max").ok().and_then(|limit| i64::try_from(limit).ok());
        all.set_limit(now);
        if now.is_none() {
            // Swap is counted with memory, which has no limit: cgroupfs says what is wrong with that.
            all.set_swap(None);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Vec<Property> {
        let mut properties = limits(&serde_json::from_str(json).unwrap(), 257).unwrap();
        properties.sort_by(|a, b| a.0.cmp(&b.0));
        properties
    }

    fn numbers(json: &str) -> Vec<(String, u64)> {
        let number = |value: &Value| match value {
            Value::One(Basic::U64(number)) => *number,
            other => panic!("{other:?}"),
        };
        of(json).iter().map(|(name, value)| (name.clone(), number(value))).collect()
    }

    fn is(found: Vec<(String, u64)>, expected: &[(&str, u64)]) {
        assert_eq!(found, expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>());
    }

    #[test]
    fn memory_has_a_limit_a_reservation_and_swap_of_its_own() {
        is(
            numbers(r#"{"memory":{"limit":1000,"swap":1500,"reservation":500}}"#),
            &[("MemoryLow", 500), ("MemoryMax", 1000), ("MemorySwapMax", 500)],
        );
        is(numbers(r#"{"memory":{"limit":-1}}"#), &[("MemoryMax", INFINITY), ("MemorySwapMax", INFINITY)]);
        is(numbers(r#"{"memory":{"limit":0,"swap":0}}"#), &[]);
        is(numbers(r#"{"pids":{"limit":0}}"#), &[("TasksMax", 1)]);
        is(numbers(r#"{"pids":{"limit":-1}}"#), &[("TasksMax", INFINITY)]);
    }

    #[test]
    fn quotas_are_rounded_up_to_percents_of_a_second() {
        let quota =
            |json| numbers(json).into_iter().find(|(name, _)| name == "CPUQuotaPerSecUSec").unwrap().1;
        assert_eq!(quota(r#"{"cpu":{"quota":25000,"period":100000}}"#), 250_000);
        assert_eq!(quota(r#"{"cpu":{"quota":25001,"period":100000}}"#), 260_000);
        assert_eq!(quota(r#"{"cpu":{"quota":5000}}"#), 50_000);
        assert_eq!(quota(r#"{"cpu":{"quota":-1,"period":100000}}"#), INFINITY);
        assert_eq!(quota(r#"{"unified":{"cpu.max":"max 50000"}}"#), INFINITY);
        assert_eq!(quota(r#"{"unified":{"cpu.max":"30000"}}"#), 300_000);
        assert!(of(r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":""}}"#).is_empty());
    }

    #[test]
    fn weights_go_through_the_defaults_and_the_ends() {
        assert_eq!([2, 1024, 262_144, 1, 22_000].map(weight), [1, 100, 10_000, 1, 1204]);
        is(numbers(r#"{"cpu":{"shares":1024}}"#), &[("CPUWeight", 100)]);
        is(numbers(r#"{"cpu":{"shares":1024,"idle":1}}"#), &[("CPUWeight", 0)]);
        is(numbers(r#"{"unified":{"cpu.weight":"7","cpu.idle":"1"}}"#), &[("CPUWeight", 0)]);
    }

    #[test]
    fn sets_are_bytes_with_the_lowest_numbers_first() {
        assert_eq!(bitmap("0-2,8"), Some(vec![0b111, 1]));
        assert_eq!(bitmap(" 9 - 10 ,"), Some(vec![0, 0b110]));
        for bad in ["", ",", "a", "3-1", "1-", "70000"] {
            assert_eq!(bitmap(bad), None, "{bad}");
        }
        let properties = of(r#"{"cpu":{"cpus":"1","mems":"0"}}"#);
        assert_eq!(properties[0], ("AllowedCPUs".to_owned(), Value::Array('y', vec![Basic::Byte(2)])));
        assert_eq!(properties[1].0, "AllowedMemoryNodes");
        assert!(limits(&serde_json::from_str(r#"{"cpu":{"cpus":"1"}}"#).unwrap(), 240).unwrap().is_empty());
    }

    #[test]
    fn unified_files_are_properties_where_there_is_one() {
        is(
            numbers(
                r#"{"unified":{"memory.high":"max","memory.min":" 5 ","pids.max":"0","memory.oom.group":"1"}}"#,
            ),
            &[("MemoryHigh", INFINITY), ("MemoryMin", 5), ("TasksMax", 1)],
        );
        let bad: LinuxResources = serde_json::from_str(r#"{"unified":{"memory.high":"much"}}"#).unwrap();
        let error = limits(&bad, 257).unwrap_err().to_string();
        assert_eq!(error, r#"unified resource "memory.high" value invalid: "much""#);
        let policy = |text: &str| {
            oom_policy(&serde_json::from_str(text).unwrap(), 257).unwrap().map(|(_, value)| value)
        };
        assert_eq!(policy(r#"{"unified":{"memory.oom.group":"1"}}"#), Some("kill".into()));
        assert_eq!(policy("{}"), None);
    }

    #[test]
    fn an_update_keeps_the_other_half_of_what_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cpu.max"), "50000 100000\n").unwrap();
        std::fs::write(dir.path().join("memory.max"), "1000\n").unwrap();
        let all = |json: &str| completed(&serde_json::from_str(json).unwrap(), dir.path());
        let cpu = all(r#"{"cpu":{"quota":20000}}"#).cpu().clone().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(20_000), Some(100_000)));
        let cpu = all(r#"{"cpu":{"shares":200,"quota":0}}"#).cpu().clone().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(0), None));
        let memory = (*all(r#"{"memory":{"swap":1500}}"#).memory()).unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(1000), Some(1500)));
    }
}
