//! v1 cpu: shares, quota and period, burst, idle, and the real-time share.

use std::path::Path;

use oci_spec::runtime::LinuxCpu;

use super::super::{CgroupError, Result, knob};
use super::write_pair;

/// Whether anything for the cpu controller is given.
pub(super) fn is_asked(cpu: &LinuxCpu) -> bool {
    let numbers = [cpu.shares(), cpu.period(), cpu.realtime_period()];
    numbers.iter().any(|value| value.unwrap_or(0) != 0)
        || cpu.quota().unwrap_or(0) != 0
        || cpu.realtime_runtime().unwrap_or(0) != 0
        || cpu.burst().is_some()
        || cpu.idle().is_some()
}

pub(super) fn write(dir: &Path, cpu: &LinuxCpu) -> Result<()> {
    // Before a process comes in: a real-time process is refused by a group without real-time share.
    write_real_time(dir, cpu)?;
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        write_shares(dir, shares)?;
    }
    write_quota(dir, cpu)?;
    match cpu.idle() {
        Some(idle) => knob::write(dir, "cpu.idle", &idle.to_string()),
        None => Ok(()),
    }
}

/// The kernel cuts shares to its range without an error.
fn write_shares(dir: &Path, shares: u64) -> Result<()> {
    knob::write(dir, "cpu.shares", &shares.to_string())?;
    let real = knob::read_u64(dir, "cpu.shares")?;
    let which = match shares.cmp(&real) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => "maximum",
        std::cmp::Ordering::Less => "minimum",
    };
    Err(CgroupError::InvalidLimit(format!("the {which} allowed cpu-shares is {real}")))
}

/// A new period (or burst) may not fit the old quota: then it is written again after the quota.
fn write_quota(dir: &Path, cpu: &LinuxCpu) -> Result<()> {
    let period = cpu.period().filter(|period| *period != 0).map(|period| period.to_string());
    let quota = cpu.quota().filter(|quota| *quota != 0).map(|quota| quota.to_string());
    let Some(burst) = cpu.burst() else {
        return write_pair(dir, ("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota));
    };
    let burst_name = "cpu.cfs_burst_us";
    let early = knob::write(dir, burst_name, &burst.to_string());
    write_pair(dir, ("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota.clone()))?;
    match early {
        Err(error) if error.errno() == Some(nix::errno::Errno::EINVAL) && quota.is_some() => {
            knob::write(dir, burst_name, &burst.to_string())
        }
        result => result,
    }
}

/// Period and runtime depend on each other in the same way.
fn write_real_time(dir: &Path, cpu: &LinuxCpu) -> Result<()> {
    let period = cpu.realtime_period().filter(|period| *period != 0).map(|period| period.to_string());
    let runtime = cpu.realtime_runtime().filter(|runtime| *runtime != 0).map(|runtime| runtime.to_string());
    write_pair(dir, ("cpu.rt_period_us", period), ("cpu.rt_runtime_us", runtime))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(json: &str) -> LinuxCpu {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn zeros_are_not_asked_but_idle_and_burst_of_zero_are() {
        assert!(!is_asked(&cpu(r#"{"shares":0,"quota":0,"period":0,"realtimePeriod":0,"cpus":"0"}"#)));
        assert!(is_asked(&cpu(r#"{"idle":0}"#)));
        assert!(is_asked(&cpu(r#"{"burst":0}"#)));
        assert!(is_asked(&cpu(r#"{"quota":-1}"#)));
    }

    #[test]
    fn each_value_goes_to_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_burst_us", "cpu.idle"];
        for name in names {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        write(dir.path(), &cpu(r#"{"shares":100,"quota":500,"period":1000,"burst":7,"idle":1}"#)).unwrap();
        let texts = names.map(|name| knob::read(dir.path(), name).unwrap());
        assert_eq!(texts, ["100", "1000", "500", "7", "1"]);
    }
}
