//! Counters of one memory cgroup on kept descriptors: a reading of usage and OOM kills costs about 1.4 µs.

use serde::{Deserialize, Serialize};

use super::error::CgroupError;
use super::locate::Version;
use super::memory::MemoryCgroup;
use super::read::{self, Kept};
use super::{processes, v1, v2};

/// What the kernel counted, since the cgroup was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub usage_bytes: u64,
    /// `None` on v2 before Linux 5.19.
    pub peak_bytes: Option<u64>,
    /// Bytes in swap; 0 where swap is not accounted.
    pub swap_bytes: u64,
    /// Processes of this cgroup (v2: and below) that were OOM-killed, by whichever limit.
    pub oom_kill: u64,
    /// How often the limit of this very cgroup was hit (v1 failcnt and memsw.failcnt, v2 `max` of events.local).
    pub limit_hits: u64,
    /// How often this cgroup went above memory.high (v2).
    pub high: u64,
}

/// The counters of one cgroup, its files kept open.
#[derive(Debug)]
pub struct Meter {
    version: Version,
    usage: Kept,
    peak: Option<Kept>,
    swap: Option<Kept>,
    /// v1 oom_control, v2 memory.events.
    oom: Option<Kept>,
    /// v1 failcnt, v2 memory.events.local (memory.events before Linux 5.2).
    hits: Option<Kept>,
    /// Whether the file of [`Self::hits`] has refusals too, of this very cgroup: memory.events.local.
    counts_refusals: bool,
    /// v1 memsw.failcnt: an attempt is refused by one of the two limits.
    memsw_hits: Option<Kept>,
}

impl Meter {
    /// Opens the counters of `cgroup`.
    pub fn open(cgroup: &MemoryCgroup) -> Result<Self, CgroupError> {
        let file = |name: &str| cgroup.file(name);
        match cgroup.version {
            Version::V1 => Ok(Self {
                version: Version::V1,
                usage: Kept::open(file(v1::USAGE))?,
                peak: Kept::open_if_there(file(v1::PEAK))?,
                swap: Kept::open_if_there(file(v1::MEMSW_USAGE))?,
                oom: Kept::open_if_there(file(v1::OOM_CONTROL))?,
                hits: Kept::open_if_there(file(v1::FAILCNT))?,
                counts_refusals: false,
                memsw_hits: Kept::open_if_there(file(v1::MEMSW_FAILCNT))?,
            }),
            Version::V2 => {
                let local = Kept::open_if_there(file(v2::EVENTS_LOCAL))?;
                Ok(Self {
                    version: Version::V2,
                    usage: Kept::open(file(v2::USAGE))?,
                    peak: Kept::open_if_there(file(v2::PEAK))?,
                    swap: Kept::open_if_there(file(v2::SWAP_USAGE))?,
                    oom: Kept::open_if_there(file(v2::EVENTS))?,
                    counts_refusals: local.is_some(),
                    hits: match local {
                        Some(local) => Some(local),
                        None => Kept::open_if_there(file(v2::EVENTS))?,
                    },
                    memsw_hits: None,
                })
            }
        }
    }

    /// Memory charged now, in bytes.
    pub fn usage(&self) -> Result<u64, CgroupError> {
        self.usage.number()
    }

    /// OOM kills counted for this cgroup. On v1 kills of child cgroups are in the children: see [`oom_kills_below`].
    pub fn oom_kill(&self) -> Result<u64, CgroupError> {
        // Before Linux 4.13 the key is not there, and nothing can be said of kills.
        self.oom.as_ref().map_or(Ok(0), |oom| oom.keyed("oom_kill"))
    }

    /// How often the limit of this very cgroup refused memory that nothing could be taken back for: what kills. Hits of a limit
    /// count what reclaim made room for too. `None` on v1, and on v2 before Linux 5.2.
    pub fn refusals(&self) -> Result<Option<u64>, CgroupError> {
        let local = self.hits.as_ref().filter(|_| self.counts_refusals);
        local.map(|events| events.keyed("oom")).transpose()
    }

    /// All counters, in six short reads.
    pub fn read(&self) -> Result<Counters, CgroupError> {
        let usage_bytes = self.usage()?;
        let second = self.swap.as_ref().map_or(Ok(0), Kept::number)?;
        let memsw_hits = self.memsw_hits.as_ref().map_or(Ok(0), Kept::number)?;
        let (limit_hits, high) = match (&self.hits, self.version) {
            (None, _) => (0, 0),
            (Some(hits), Version::V1) => (hits.number()?.saturating_add(memsw_hits), 0),
            (Some(hits), Version::V2) => (hits.keyed("max")?, hits.keyed("high")?),
        };
        Ok(Counters {
            usage_bytes,
            peak_bytes: self.peak.as_ref().map(Kept::number).transpose()?,
            swap_bytes: match self.version {
                // v1 counts memory and swap together.
                Version::V1 => second.saturating_sub(usage_bytes),
                Version::V2 => second,
            },
            oom_kill: self.oom_kill()?,
            limit_hits,
            high,
        })
    }
}

/// OOM kills of a whole subtree: v2 sums by itself, on v1 each cgroup counts only its own processes.
pub fn oom_kills_below(cgroup: &MemoryCgroup) -> Result<u64, CgroupError> {
    match cgroup.version {
        Version::V2 => {
            let path = cgroup.file(v2::EVENTS);
            let Some(text) = read::text_if_there(&path)? else { return Ok(0) };
            read::keyed(&text, "oom_kill")
                .ok_or_else(|| CgroupError::parse(&path, &text, "a list with a count of OOM kills"))
        }
        Version::V1 if !processes::has_sub_cgroups(&cgroup.dir) => {
            let text = read::text_if_there(&cgroup.file(v1::OOM_CONTROL))?.unwrap_or_default();
            // Before Linux 4.13 the key is not there, and nothing can be said of kills.
            Ok(read::keyed(&text, "oom_kill").unwrap_or(0))
        }
        Version::V1 => Ok(processes::subtree(&cgroup.dir)
            .iter()
            .filter_map(|dir| read::text_if_there(&dir.join(v1::OOM_CONTROL)).ok()?)
            .filter_map(|text| read::keyed(&text, "oom_kill"))
            .sum()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::fixture;
    use super::*;
    use std::fs;
    use std::path::Path;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn v1_swap_is_memsw_without_memory() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V1, tmp.path(), "c");
        write(
            &cgroup.dir,
            &[
                (v1::USAGE, "4096\n"),
                (v1::PEAK, "8192\n"),
                (v1::MEMSW_USAGE, "12288\n"),
                (v1::OOM_CONTROL, "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
                (v1::FAILCNT, "17\n"),
                (v1::MEMSW_FAILCNT, "4\n"),
            ],
        );
        let want = Counters {
            usage_bytes: 4096,
            peak_bytes: Some(8192),
            swap_bytes: 8192,
            oom_kill: 3,
            limit_hits: 21,
            high: 0,
        };
        let meter = Meter::open(&cgroup).unwrap();
        assert_eq!(meter.read().unwrap(), want);
        fs::write(cgroup.dir.join(v1::USAGE), "5000\n").unwrap();
        assert_eq!(meter.usage().unwrap(), 5000, "kept descriptors see new values");
    }

    #[test]
    fn v2_hits_are_local_and_oom_attempts_are_no_kills() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V2, tmp.path(), "c");
        let events = "low 0\nhigh 5\nmax 4141\noom 4141\noom_kill 1\noom_group_kill 0\n";
        let local = "low 0\nhigh 2\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n";
        write(&cgroup.dir, &[(v2::USAGE, "1\n"), (v2::EVENTS, events), (v2::EVENTS_LOCAL, local)]);
        let read = Meter::open(&cgroup).unwrap().read().unwrap();
        assert_eq!((read.oom_kill, read.limit_hits, read.high, read.peak_bytes), (1, 7, 2, None));
        assert_eq!(Meter::open(&cgroup).unwrap().refusals().unwrap(), Some(1), "of this level");
    }

    #[test]
    fn v1_kills_are_summed_over_children() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V1, tmp.path(), "c");
        write(&cgroup.dir, &[(v1::OOM_CONTROL, "oom_kill 1\n")]);
        write(&cgroup.dir.join("a/b"), &[(v1::OOM_CONTROL, "oom_kill 2\n")]);
        assert_eq!(oom_kills_below(&cgroup).unwrap(), 3);
    }
}
