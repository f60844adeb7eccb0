//! Whose limit an out-of-memory condition came from, as far as the counters tell.

use super::error::CgroupError;
use super::locate::Version;
use super::memory::MemoryCgroup;
use super::{read, v1, v2};

/// Charges come in batches: the peak may stay so far below a limit that was hit. 64 pages for each of 16 CPUs.
const SLACK_BYTES: u64 = 64 * 4096 * 16;

/// Whether a process needed memory that the limit of this very cgroup refused, at least once since it was made.
///
/// v2 counts that (`oom` of memory.events.local). v1 does not: there, a limit that was hit and a peak at the limit
/// are taken for it, which reclaim alone can bring about as well; where hits are not counted, the peak alone.
///
/// # Errors
/// The cgroup is gone or its files cannot be understood.
pub fn refused_memory(cgroup: &MemoryCgroup) -> Result<bool, CgroupError> {
    let Some(limit) = cgroup.limit()? else { return Ok(false) };
    match cgroup.version {
        Version::V2 => {
            let local = match read::text_if_there(&cgroup.file(v2::EVENTS_LOCAL))? {
                Some(local) => Some(local),
                // Before Linux 5.2: descendants included.
                None => read::text_if_there(&cgroup.file(v2::EVENTS))?,
            };
            Ok(local.and_then(|text| read::keyed(&text, "oom")).unwrap_or(0) > 0)
        }
        Version::V1 => {
            let count = |name: &str| read::number_if_there(&cgroup.file(name)).map(|n| n.unwrap_or(0));
            let hits = count(v1::FAILCNT)?.max(count(v1::MEMSW_FAILCNT)?);
            let peak = cgroup.peak()?.unwrap_or(0);
            Ok((hits > 0 || !cgroup.counts_hits()?)
                && peak >= limit.saturating_sub(SLACK_BYTES.min(limit / 16)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::fixture;
    use super::*;
    use std::fs;

    #[test]
    fn v2_tells_it_by_the_local_count_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V2, tmp.path(), "c");
        fs::create_dir_all(&cgroup.dir).unwrap();
        let write = |name: &str, text: &str| fs::write(cgroup.dir.join(name), text).unwrap();
        write(v2::LIMIT, "67108864\n");
        write(v2::EVENTS, "max 3\noom 2\noom_kill 2\n");
        write(v2::EVENTS_LOCAL, "max 3\noom 0\noom_kill 2\n");
        assert!(!refused_memory(&cgroup).unwrap(), "the kill came from above");
        write(v2::EVENTS_LOCAL, "max 3\noom 1\noom_kill 2\n");
        assert!(refused_memory(&cgroup).unwrap());
        write(v2::LIMIT, "max\n");
        assert!(!refused_memory(&cgroup).unwrap());
    }

    #[test]
    fn v1_tells_it_by_a_hit_limit_and_a_peak_there() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V1, tmp.path(), "c");
        fs::create_dir_all(&cgroup.dir).unwrap();
        let write = |name: &str, text: &str| fs::write(cgroup.dir.join(name), text).unwrap();
        write(v1::LIMIT, "67108864\n");
        write(v1::FAILCNT, "0\n");
        write(v1::PEAK, "67108864\n");
        assert!(!refused_memory(&cgroup).unwrap());
        write(v1::FAILCNT, "9\n");
        assert!(refused_memory(&cgroup).unwrap());
        write(v1::PEAK, "33554432\n");
        assert!(!refused_memory(&cgroup).unwrap());
    }
}
