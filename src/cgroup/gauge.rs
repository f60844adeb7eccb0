//! What a live view reads of one memory cgroup, again and again: few files, each kept open once it was read.
//! A descriptor saves 4 µs a reading; of many containers each costs kernel memory and, after a second of other work,
//! some 1.7 µs of cache misses a read (measured on Linux 6.18), so what need not be read is not opened either.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::counters::oom_kills_below;
use super::error::CgroupError;
use super::locate::Version;
use super::memory::MemoryCgroup;
use super::read::{self, Kept};
use super::{v1, v2};

/// Room for /proc/vmstat: some 200 lines, 4 KiB.
const VMSTAT_BYTES: usize = 16384;

/// The files of one cgroup.
#[derive(Debug)]
pub struct Gauge {
    cgroup: MemoryCgroup,
    usage: Kept,
    peak: Option<Kept>,
    /// `None` at the root of v2.
    limit: Option<Kept>,
    stat: Kept,
    /// v1 memory and swap together.
    swap: OnceCell<Option<Kept>>,
    oom: OnceCell<Option<Kept>>,
}

impl Gauge {
    /// Opens what each reading needs.
    ///
    /// # Errors
    /// The cgroup is gone, or lacks a file that each has.
    pub fn open(cgroup: MemoryCgroup) -> Result<Self, CgroupError> {
        let file = |name: &str| cgroup.file(name);
        let (usage, peak, limit, stat) = match cgroup.version {
            Version::V1 => (
                Kept::open(file(v1::USAGE))?,
                Kept::open_if_there(file(v1::PEAK))?,
                Some(Kept::open(file(v1::LIMIT))?),
                Kept::open(file(v1::STAT))?,
            ),
            Version::V2 => (
                Kept::open(file(v2::USAGE))?,
                Kept::open_if_there(file(v2::PEAK))?,
                Kept::open_if_there(file(v2::LIMIT))?,
                Kept::open(file(v2::STAT))?,
            ),
        };
        Ok(Self { cgroup, usage, peak, limit, stat, swap: OnceCell::new(), oom: OnceCell::new() })
    }

    /// The cgroup that is read.
    #[must_use]
    pub fn cgroup(&self) -> &MemoryCgroup {
        &self.cgroup
    }

    /// Memory charged now, in bytes.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn usage(&self) -> Result<u64, CgroupError> {
        self.usage.number()
    }

    /// The highest usage recorded, in bytes; `None` on v2 before Linux 5.19.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn peak(&self) -> Result<Option<u64>, CgroupError> {
        self.peak.as_ref().map(Kept::number).transpose()
    }

    /// The cgroup's own limit in bytes; `None` for none.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn limit(&self) -> Result<Option<u64>, CgroupError> {
        self.limit.as_ref().map_or(Ok(None), |file| limit_in(file, self.cgroup.version))
    }

    /// Page cache that lies idle, in bytes, descendants included: `inactive_file` of memory.stat.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn idle_cache(&self) -> Result<u64, CgroupError> {
        let key = match self.cgroup.version {
            Version::V1 => "total_inactive_file",
            Version::V2 => "inactive_file",
        };
        self.stat.with_text(|text| Some(read::keyed(text, key).unwrap_or(0)), "statistics")
    }

    /// Bytes in swap, beside the `usage` read just before; 0 where swap is not accounted.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn swap(&self, usage: u64) -> Result<u64, CgroupError> {
        let name = match self.cgroup.version {
            Version::V1 => v1::MEMSW_USAGE,
            Version::V2 => v2::SWAP_USAGE,
        };
        let value = self.lazily(&self.swap, name)?.map_or(Ok(0), Kept::number)?;
        Ok(match self.cgroup.version {
            Version::V1 => value.saturating_sub(usage),
            Version::V2 => value,
        })
    }

    /// OOM kills counted for this cgroup; v2: and below.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn oom_kill(&self) -> Result<u64, CgroupError> {
        let name = match self.cgroup.version {
            Version::V1 => v1::OOM_CONTROL,
            Version::V2 => v2::EVENTS,
        };
        // Before Linux 4.13 the key is not there, and nothing can be said of kills.
        let count = |text: &str| Some(read::keyed(text, "oom_kill").unwrap_or(0));
        self.lazily(&self.oom, name)?.map_or(Ok(0), |file| file.with_text(count, "a list of events"))
    }

    /// OOM kills of the whole subtree; nothing is kept open.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn oom_kills_below(&self) -> Result<u64, CgroupError> {
        oom_kills_below(&self.cgroup)
    }

    fn lazily<'a>(
        &self,
        slot: &'a OnceCell<Option<Kept>>,
        name: &str,
    ) -> Result<Option<&'a Kept>, CgroupError> {
        if slot.get().is_none() {
            let _ = slot.set(Kept::open_if_there(self.cgroup.file(name))?);
        }
        Ok(slot.get().and_then(Option::as_ref))
    }
}

/// How many processes the host has OOM-killed since it was started, whichever limit it was: `oom_kill` of /proc/vmstat, as old
/// as the count of a cgroup (Linux 4.13) and counted in the same place.
#[derive(Debug)]
pub struct HostKills(Kept);

impl HostKills {
    /// `None` where the kernel does not tell.
    #[must_use]
    pub fn open(path: PathBuf) -> Option<Self> {
        let counter = Self(Kept::open(path).ok()?);
        counter.read().map(|_| counter)
    }

    /// The count now; `None` where it cannot be read.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        self.0.with_pieces(&mut [0; VMSTAT_BYTES], |text| read::keyed(text, "oom_kill"))
    }
}

/// The limit that a kept file tells, in bytes; `None` for none.
pub(super) fn limit_in(file: &Kept, version: Version) -> Result<Option<u64>, CgroupError> {
    match version {
        Version::V1 => Ok(v1::limit(file.number()?)),
        Version::V2 => file.with_text(v2::limit, "a limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::fixture;
    use super::*;
    use std::fs;

    #[test]
    fn both_versions_tell_the_same_and_kept_files_see_new_values() {
        let tmp = tempfile::tempdir().unwrap();
        let files: [(Version, &[(&str, &str)]); 2] = [
            (
                Version::V1,
                &[
                    (v1::USAGE, "4096\n"),
                    (v1::PEAK, "8192\n"),
                    (v1::LIMIT, "65536\n"),
                    (v1::MEMSW_USAGE, "5096\n"),
                    (v1::OOM_CONTROL, "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
                    (v1::STAT, "inactive_file 1\ntotal_inactive_file 77\n"),
                ],
            ),
            (
                Version::V2,
                &[
                    (v2::USAGE, "4096\n"),
                    (v2::PEAK, "8192\n"),
                    (v2::LIMIT, "65536\n"),
                    (v2::SWAP_USAGE, "1000\n"),
                    (v2::EVENTS, "max 9\noom 9\noom_kill 3\noom_group_kill 0\n"),
                    (v2::STAT, "anon 1\ninactive_file 77\nworkingset_refault_file 5\n"),
                ],
            ),
        ];
        for (version, files) in files {
            let cgroup = fixture(version, tmp.path(), &version.to_string());
            fs::create_dir_all(&cgroup.dir).unwrap();
            files.iter().for_each(|(name, text)| fs::write(cgroup.file(name), text).unwrap());
            let gauge = Gauge::open(cgroup.clone()).unwrap();
            assert_eq!((gauge.usage().unwrap(), gauge.peak().unwrap()), (4096, Some(8192)));
            assert_eq!((gauge.limit().unwrap(), gauge.swap(4096).unwrap()), (Some(65536), 1000));
            assert_eq!((gauge.idle_cache().unwrap(), gauge.oom_kill().unwrap()), (77, 3));
            assert_eq!(gauge.oom_kills_below().unwrap(), 3);
            let limit = if version == Version::V1 { "9223372036854771712\n" } else { "max\n" };
            fs::write(cgroup.file(if version == Version::V1 { v1::LIMIT } else { v2::LIMIT }), limit)
                .unwrap();
            assert_eq!(gauge.limit().unwrap(), None);
        }
    }
}
