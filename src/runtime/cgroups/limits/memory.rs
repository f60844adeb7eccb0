//! Memory and swap. The spec counts swap as v1 does: memory and swap together.

use std::path::Path;

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::super::{CgroupError, Result, knob};
use super::Moment;

const LIMIT: &str = "memory.limit_in_bytes";
const MEMSW: &str = "memory.memsw.limit_in_bytes";

/// Writes v1's limits. Of a new cgroup the limit is known to be the largest.
pub(super) fn write_v1(dir: &Path, memory: &LinuxMemory, moment: Moment) -> Result<()> {
    write_v1_limits(dir, memory, moment == Moment::Create)?;
    if let Some(reservation) = given(memory.reservation()) {
        knob::write(dir, "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(control) = oom_control(memory, moment) {
        knob::write(dir, "memory.oom_control", control)?;
    }
    // -1 means not given; it arrives as the largest number.
    match memory.swappiness().filter(|value| *value != u64::MAX) {
        None => Ok(()),
        Some(value @ 0..=100) => knob::write(dir, "memory.swappiness", &value.to_string()),
        Some(value) => Err(CgroupError::InvalidLimit(format!(
            "invalid memory swappiness value: {value} (valid range is 0-100)"
        ))),
    }
}

/// What is to be written to v1's memory.oom_control: an update may also enable the killer again.
pub(super) fn oom_control(memory: &LinuxMemory, moment: Moment) -> Option<&'static str> {
    match memory.disable_oom_killer() {
        Some(true) => Some("1"),
        Some(false) if moment == Moment::Update => Some("0"),
        _ => None,
    }
}

/// The kernel keeps limit ≤ memsw at every moment, so the order depends on where the limits are now.
fn write_v1_limits(dir: &Path, memory: &LinuxMemory, fresh: bool) -> Result<()> {
    let limit = given(memory.limit());
    let mut swap = given(memory.swap());
    // No limit at all is meant, not one on swap alone; there is none where swap is not counted.
    if limit == Some(-1) && swap.is_none() && dir.join(MEMSW).exists() {
        swap = Some(-1);
    }
    let swap_first = match (limit, swap) {
        (Some(_), Some(-1)) => true,
        (Some(_), Some(swap)) if !fresh => {
            u64::try_from(swap).is_ok_and(|swap| knob::read_u64(dir, LIMIT).is_ok_and(|now| now < swap))
        }
        _ => false,
    };
    let write_swap = || match swap {
        Some(swap) => knob::write(dir, MEMSW, &swap.to_string()),
        None => Ok(()),
    };
    if swap_first {
        write_swap()?;
    }
    if let Some(limit) = limit {
        write_v1_limit(dir, limit)?;
    }
    if swap_first { Ok(()) } else { write_swap() }
}

fn write_v1_limit(dir: &Path, limit: i64) -> Result<()> {
    match knob::write(dir, LIMIT, &limit.to_string()) {
        // Usage could not be brought below the new limit.
        Err(error) if error.errno() == Some(nix::errno::Errno::EBUSY) => {
            let usage = knob::read_u64(dir, "memory.usage_in_bytes")?;
            let peak = knob::read_u64(dir, "memory.max_usage_in_bytes")?;
            Err(CgroupError::InvalidLimit(format!(
                "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
            )))
        }
        result => result,
    }
}

/// v2's memory.swap.max, from the spec's limits: `None` leaves it, -1 is no limit. An update may give the swap
/// limit alone; then `current` is the memory limit in force (-1: none).
pub(in crate::runtime::cgroups) fn swap_v2(
    memory: &LinuxMemory,
    current: impl FnOnce() -> Option<i64>,
) -> Result<Option<i64>> {
    let invalid = |text: String| Err(CgroupError::InvalidLimit(text));
    match (given(memory.limit()), given(memory.swap())) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (limit, Some(swap)) => match limit.or_else(current) {
            None => invalid("unable to set swap limit without memory limit".into()),
            Some(-1) => Ok(Some(swap)),
            Some(limit) if limit < 0 => invalid(format!("invalid memory value: {limit}")),
            Some(limit) if swap < limit => invalid("memory+swap limit should be >= memory limit".into()),
            Some(limit) => Ok(Some(swap - limit)),
        },
    }
}

/// The memory part of an update as v2 needs it. A new limit alone leaves memory and swap together as they were asked
/// for, as on v1 where the kernel counts them so (and as in runc): swap gets what the new limit leaves of it, and a limit
/// above it is refused. A swap limit that was given in v2's own words, by `unified`, is not part of such a total.
pub(in super::super) fn with_total(change: &LinuxMemory, asked: &LinuxResources) -> LinuxMemory {
    let mut all = *change;
    let own_words = asked.unified().as_ref().is_some_and(|unified| unified.contains_key("memory.swap.max"));
    let total = asked.memory().as_ref().and_then(LinuxMemory::swap).filter(|total| *total > 0 && !own_words);
    if given(change.limit()).is_some_and(|limit| limit > 0) && given(change.swap()).is_none() {
        all.set_swap(total);
    }
    all
}

/// Refuses a limit at or below what is in use, when the spec asks for this check (v2 would kill instead).
pub(super) fn check_usage(dir: &Path, memory: &LinuxMemory) -> Result<()> {
    if memory.check_before_update() != Some(true) {
        return Ok(());
    }
    // Best effort, as in runc.
    let Ok(usage) = knob::read_u64(dir, "memory.current") else { return Ok(()) };
    for (name, limit) in [("memory+swap", memory.swap()), ("memory", memory.limit())] {
        if let Some(limit) = limit.filter(|limit| u64::try_from(*limit).is_ok_and(|l| l > 0 && l <= usage)) {
            return Err(CgroupError::InvalidLimit(format!(
                "rejecting {name} limit {limit} <= usage {usage}"
            )));
        }
    }
    Ok(())
}

/// 0 means not given, in runc and so for every engine.
pub(in super::super) fn given(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(json: &str) -> LinuxMemory {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn swap_is_converted_for_v2() {
        let swap = |json: &str| swap_v2(&memory(json), || Some(64)).unwrap();
        assert_eq!(swap(r#"{"limit": 64, "swap": 128}"#), Some(64));
        assert_eq!(swap(r#"{"limit": 64, "swap": 64}"#), Some(0));
        assert_eq!(swap(r#"{"limit": 64}"#), None);
        assert_eq!(swap(r#"{"limit": 64, "swap": 0}"#), None);
        assert_eq!(swap(r#"{"limit": -1}"#), Some(-1));
        assert_eq!(swap(r#"{"limit": -1, "swap": 128}"#), Some(128));
        assert_eq!(swap(r#"{"swap": -1}"#), Some(-1));
        assert_eq!(swap(r#"{"swap": 100}"#), Some(36));
    }

    /// What is in memory.swap.max after an update, where a memory limit of 32 was asked for at create.
    fn updated(asked: &str, change: &str) -> std::result::Result<Option<i64>, String> {
        let all = with_total(&memory(change), &serde_json::from_str(asked).unwrap());
        swap_v2(&all, || Some(32)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_update_of_the_limit_alone_keeps_memory_and_swap_together() {
        const TOTAL: &str = r#"{"memory": {"limit": 32, "swap": 64}}"#;
        const NO_SWAP: &str = r#"{"memory": {"limit": 32, "swap": 32}}"#;
        const NOT_GIVEN: &str = r#"{"memory": {"limit": 32}}"#;
        const ANY_SWAP: &str = r#"{"memory": {"limit": 32, "swap": -1}}"#;
        const NO_LIMIT: &str = r#"{"memory": {"limit": -1, "swap": -1}}"#;
        const OWN_WORDS: &str =
            r#"{"memory": {"limit": 32, "swap": 64}, "unified": {"memory.swap.max": "7"}}"#;
        let too_little = Err("memory+swap limit should be >= memory limit".to_owned());
        for (asked, change, swap) in [
            // The limit alone.
            (TOTAL, r#"{"limit": 48}"#, Ok(Some(16))),
            (TOTAL, r#"{"limit": 16}"#, Ok(Some(48))),
            (TOTAL, r#"{"limit": 64}"#, Ok(Some(0))),
            (TOTAL, r#"{"limit": 80}"#, too_little.clone()),
            (TOTAL, r#"{"limit": 48, "swap": 0}"#, Ok(Some(16))),
            (NO_SWAP, r#"{"limit": 16}"#, Ok(Some(16))),
            (NO_SWAP, r#"{"limit": 48}"#, too_little.clone()),
            (NOT_GIVEN, r#"{"limit": 48}"#, Ok(None)),
            (ANY_SWAP, r#"{"limit": 48}"#, Ok(None)),
            (NO_LIMIT, r#"{"limit": 48}"#, Ok(None)),
            (OWN_WORDS, r#"{"limit": 48}"#, Ok(None)),
            ("{}", r#"{"limit": 48}"#, Ok(None)),
            // No limit takes that of swap away, too.
            (TOTAL, r#"{"limit": -1}"#, Ok(Some(-1))),
            // Swap alone is counted from the limit in force.
            (TOTAL, r#"{"swap": 96}"#, Ok(Some(64))),
            (TOTAL, r#"{"swap": 32}"#, Ok(Some(0))),
            (TOTAL, r#"{"swap": 16}"#, too_little.clone()),
            (TOTAL, r#"{"swap": -1}"#, Ok(Some(-1))),
            (NOT_GIVEN, r#"{"swap": 48}"#, Ok(Some(16))),
            // Both.
            (TOTAL, r#"{"limit": 48, "swap": 48}"#, Ok(Some(0))),
            (TOTAL, r#"{"limit": 80, "swap": 96}"#, Ok(Some(16))),
            (TOTAL, r#"{"limit": 80, "swap": 64}"#, too_little.clone()),
            (TOTAL, r#"{"limit": 80, "swap": -1}"#, Ok(Some(-1))),
            (TOTAL, r#"{"limit": -1, "swap": 64}"#, Ok(Some(64))),
            // Neither.
            (TOTAL, r#"{"limit": 0, "swap": 0}"#, Ok(None)),
            (TOTAL, r#"{"reservation": 8}"#, Ok(None)),
        ] {
            assert_eq!(updated(asked, change), swap, "{change} over {asked}");
        }
    }

    #[test]
    fn impossible_swap_is_refused_in_runcs_words() {
        let error = |json: &str, current| swap_v2(&memory(json), || current).unwrap_err().to_string();
        assert_eq!(error(r#"{"swap": 9}"#, None), "unable to set swap limit without memory limit");
        assert_eq!(error(r#"{"swap": 9, "limit": 10}"#, None), "memory+swap limit should be >= memory limit");
    }

    #[test]
    fn v1_raises_swap_first_and_lowers_it_last() {
        let dir = tempfile::tempdir().unwrap();
        let set = |limit: &str| {
            std::fs::write(dir.path().join(LIMIT), limit).unwrap();
            std::fs::write(dir.path().join(MEMSW), "9").unwrap();
        };
        // In a folder the order shows by which file cannot be written.
        set("30");
        std::fs::remove_file(dir.path().join(MEMSW)).unwrap();
        let wanted = memory(r#"{"limit": 60, "swap": 80}"#);
        assert!(write_v1(dir.path(), &wanted, Moment::Update).is_err());
        assert_eq!(knob::read(dir.path(), LIMIT).unwrap(), "30");
        assert!(write_v1(dir.path(), &wanted, Moment::Create).is_err());
        assert_eq!(knob::read(dir.path(), LIMIT).unwrap(), "60");
    }

    #[test]
    fn v1_without_limit_takes_the_swap_limit_away_only_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LIMIT), "30").unwrap();
        write_v1(dir.path(), &memory(r#"{"limit": -1}"#), Moment::Update).unwrap();
        std::fs::write(dir.path().join(MEMSW), "40").unwrap();
        write_v1(dir.path(), &memory(r#"{"limit": -1}"#), Moment::Update).unwrap();
        assert_eq!(knob::read(dir.path(), MEMSW).unwrap(), "-1");
        assert_eq!(knob::read(dir.path(), LIMIT).unwrap(), "-1");
    }

    #[test]
    fn usage_above_a_checked_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("memory.current"), "2048\n").unwrap();
        let error = |json: &str| check_usage(dir.path(), &memory(json)).map_err(|e| e.to_string());
        assert_eq!(
            error(r#"{"limit": 1024, "checkBeforeUpdate": true}"#).unwrap_err(),
            "rejecting memory limit 1024 <= usage 2048"
        );
        assert_eq!(
            error(r#"{"limit": 1024, "swap": 2048, "checkBeforeUpdate": true}"#).unwrap_err(),
            "rejecting memory+swap limit 2048 <= usage 2048"
        );
        assert!(error(r#"{"limit": 1024}"#).is_ok());
        assert!(error(r#"{"limit": -1, "checkBeforeUpdate": true}"#).is_ok());
    }
}
