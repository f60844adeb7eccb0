//! One memory cgroup of either version, read in one vocabulary: limit, usage, peak, high, swap, stat.

use std::path::PathBuf;

use super::error::CgroupError;
use super::locate::{Location, Version};
use super::pressure::Pressure;
use super::{processes, read, v1, v2};

/// A folder of the memory controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryCgroup {
    pub version: Version,
    pub dir: PathBuf,
    /// The mount point: no ancestor is looked for above it.
    pub mount: PathBuf,
}

/// Parts of memory.stat, in bytes, descendants included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    pub anon: u64,
    /// Page cache, shared memory and tmpfs included.
    pub file: u64,
    pub shmem: u64,
    pub inactive_file: u64,
    pub active_file: u64,
    /// Not told by v1.
    pub slab_reclaimable: u64,
    /// Page tables, stacks, slab and buffers of sockets; not told by v1, nor before Linux 5.18.
    pub kernel: Option<u64>,
}

impl Stat {
    /// What the kernel can take back without swap: page cache on the file lists and reclaimable slab.
    pub fn reclaimable(&self) -> u64 {
        self.inactive_file.saturating_add(self.active_file).saturating_add(self.slab_reclaimable)
    }
}

impl MemoryCgroup {
    /// The memory cgroup that accounts what lives at `location`: on v2 the nearest folder upwards in which the
    /// controller is enabled. The root of v2 accounts nothing: [`CgroupError::NotAccounted`].
    pub fn at(location: &Location) -> Result<Self, CgroupError> {
        let here = Self::of(location);
        if here.file(here.usage_file()).exists() {
            return Ok(here);
        }
        if !here.dir.is_dir() {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(CgroupError::read(&here.dir, missing));
        }
        let mut at = Some(here);
        while let Some(cgroup) = at {
            if cgroup.file(cgroup.usage_file()).exists() {
                return Ok(cgroup);
            }
            at = cgroup.parent();
        }
        Err(CgroupError::NotAccounted { path: location.dir.clone() })
    }

    /// The cgroup at `location`, whether or not anything is accounted there.
    #[must_use]
    pub fn of(location: &Location) -> Self {
        Self { version: location.version, dir: location.dir.clone(), mount: location.mount.clone() }
    }

    /// The cgroup above; `None` at the mount point.
    pub fn parent(&self) -> Option<Self> {
        if self.dir == self.mount {
            return None;
        }
        let dir = self.dir.parent()?.to_owned();
        Some(Self { version: self.version, dir, mount: self.mount.clone() })
    }

    /// This cgroup and those above it, nearest first.
    pub fn upwards(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// The path below the mount point, for people.
    pub fn name(&self) -> String {
        let below = self.dir.strip_prefix(&self.mount).unwrap_or(&self.dir);
        format!("/{}", below.display())
    }

    /// A file of this cgroup.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn usage_file(&self) -> &'static str {
        match self.version {
            Version::V1 => v1::USAGE,
            Version::V2 => v2::USAGE,
        }
    }

    /// The limit in bytes; `None` for none. On v2 a folder without the file (the root) has none.
    pub fn limit(&self) -> Result<Option<u64>, CgroupError> {
        match self.version {
            Version::V1 => Ok(v1::limit(read::number(&self.file(v1::LIMIT))?)),
            Version::V2 => self.v2_limit(v2::LIMIT).map(Option::flatten),
        }
    }

    /// False where limits here do not bind the cgroups below (v1 without hierarchy, before Linux 5.11).
    pub fn binds_descendants(&self) -> Result<bool, CgroupError> {
        match self.version {
            Version::V1 => Ok(read::number_if_there(&self.file(v1::USE_HIERARCHY))?.unwrap_or(1) != 0),
            Version::V2 => Ok(true),
        }
    }

    /// A v2 limit file: `None` where the file is not there, `Some(None)` for `max`.
    fn v2_limit(&self, name: &str) -> Result<Option<Option<u64>>, CgroupError> {
        let path = self.file(name);
        let Some(text) = read::text_if_there(&path)? else { return Ok(None) };
        v2::limit(&text).map(Some).ok_or_else(|| CgroupError::parse(&path, &text, "a limit"))
    }

    /// Memory charged now, in bytes, descendants included.
    pub fn usage(&self) -> Result<u64, CgroupError> {
        read::number(&self.file(self.usage_file()))
    }

    /// Memory in use by the kernel's statistics, in bytes: usage without the charges that each CPU holds in stock (up
    /// to 64 pages), which the kernel calls in at the limit. Exact when more than 64 pages a CPU were charged since the
    /// statistics were last flushed (memcg_vmstats_needs_flush, mm/memcontrol.c). `None` where the kernel does not tell.
    pub fn charged(&self) -> Result<Option<u64>, CgroupError> {
        let stat = self.stat()?;
        let kernel = match self.version {
            Version::V1 => read::number_if_there(&self.file(v1::KERNEL_USAGE))?,
            Version::V2 => stat.kernel,
        };
        Ok(kernel.map(|kernel| stat.anon + stat.file + kernel))
    }

    /// The highest usage recorded; `None` on v2 before Linux 5.19.
    pub fn peak(&self) -> Result<Option<u64>, CgroupError> {
        match self.version {
            Version::V1 => read::number_if_there(&self.file(v1::PEAK)),
            Version::V2 => read::number_if_there(&self.file(v2::PEAK)),
        }
    }

    /// memory.high in bytes; `None` for none, and on v1, which has none.
    pub fn high(&self) -> Result<Option<u64>, CgroupError> {
        match self.version {
            Version::V1 => Ok(None),
            Version::V2 => self.v2_limit(v2::HIGH).map(Option::flatten),
        }
    }

    /// How many bytes this cgroup may still move to swap; `None` for no bound of its own.
    pub fn swap_room(&self) -> Result<Option<u64>, CgroupError> {
        match self.version {
            Version::V1 => {
                if read::number_if_there(&self.file(v1::SWAPPINESS))? == Some(0) {
                    return Ok(Some(0));
                }
                let Some(both) = read::number_if_there(&self.file(v1::MEMSW_LIMIT))?.and_then(v1::limit)
                else {
                    return Ok(None);
                };
                let limit = v1::limit(read::number(&self.file(v1::LIMIT))?).unwrap_or(both);
                Ok(Some(both.saturating_sub(limit)))
            }
            Version::V2 => {
                let Some(max) = self.v2_limit(v2::SWAP_LIMIT)?.flatten() else { return Ok(None) };
                let used = read::number_if_there(&self.file(v2::SWAP_USAGE))?.unwrap_or(0);
                Ok(Some(max.saturating_sub(used)))
            }
        }
    }

    /// The swap limit as the kernel has it (v1: memory plus swap); `None` for none or where it is not accounted.
    pub fn swap_limit(&self) -> Result<Option<u64>, CgroupError> {
        match self.version {
            Version::V1 => Ok(read::number_if_there(&self.file(v1::MEMSW_LIMIT))?.and_then(v1::limit)),
            Version::V2 => self.v2_limit(v2::SWAP_LIMIT).map(Option::flatten),
        }
    }

    /// False where hits of the limit show in no counter: v1 charges memory and swap together first, and where that limit
    /// is not above the memory limit, neither failcnt rises (measured on Linux 6.18; OOM kills are counted as ever).
    pub fn counts_hits(&self) -> Result<bool, CgroupError> {
        match self.version {
            Version::V1 => match self.swap_limit()? {
                Some(both) => {
                    Ok(v1::limit(read::number(&self.file(v1::LIMIT))?).is_some_and(|limit| limit < both))
                }
                None => Ok(true),
            },
            Version::V2 => Ok(true),
        }
    }

    /// Puts the peak back to what is in use now; false where that cannot be. v2 does it for one reader alone (the peak
    /// of a descriptor, Linux 6.12).
    pub fn reset_peak(&self) -> bool {
        self.version == Version::V1 && std::fs::write(self.file(v1::PEAK), "0").is_ok()
    }

    /// memory.oom.group: one kill takes the whole cgroup. v1 has no such thing.
    pub fn oom_group(&self) -> Result<bool, CgroupError> {
        match self.version {
            Version::V1 => Ok(false),
            Version::V2 => Ok(read::number_if_there(&self.file(v2::OOM_GROUP))? == Some(1)),
        }
    }

    /// v1 `oom_kill_disable`: a task that hits the limit hangs instead of being killed.
    pub fn oom_disabled(&self) -> Result<bool, CgroupError> {
        match self.version {
            Version::V1 => {
                let text = read::text_if_there(&self.file(v1::OOM_CONTROL))?.unwrap_or_default();
                Ok(read::keyed(&text, "oom_kill_disable") == Some(1))
            }
            Version::V2 => Ok(false),
        }
    }

    /// memory.stat, descendants included.
    pub fn stat(&self) -> Result<Stat, CgroupError> {
        let text = match self.version {
            Version::V1 => read::text(&self.file(v1::STAT))?,
            Version::V2 => read::text(&self.file(v2::STAT))?,
        };
        Ok(parse_stat(&text, self.version))
    }

    /// Pressure of this cgroup itself; `None` on v1 and where the kernel has no PSI.
    pub fn pressure(&self) -> Result<Option<Pressure>, CgroupError> {
        if self.version == Version::V1 {
            return Ok(None);
        }
        let text = read::text_if_there(&self.file(v2::PRESSURE))?;
        Ok(text.as_deref().and_then(Pressure::parse))
    }

    /// The processes of this cgroup and all below it.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        processes::of_subtree(&self.dir)
    }
}

pub(super) fn parse_stat(text: &str, version: Version) -> Stat {
    let mut stat = Stat::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        let Some(value) = read::decimal(value) else { continue };
        let slot = match (version, key) {
            (Version::V2, "anon") | (Version::V1, "total_rss") => &mut stat.anon,
            (Version::V2, "file") | (Version::V1, "total_cache") => &mut stat.file,
            (Version::V2, "shmem") | (Version::V1, "total_shmem") => &mut stat.shmem,
            (Version::V2, "inactive_file") | (Version::V1, "total_inactive_file") => &mut stat.inactive_file,
            (Version::V2, "active_file") | (Version::V1, "total_active_file") => &mut stat.active_file,
            (Version::V2, "slab_reclaimable") => &mut stat.slab_reclaimable,
            (Version::V2, "kernel") => {
                stat.kernel = Some(value + stat.kernel.unwrap_or(0));
                continue;
            }
            // Comes after `kernel`, and is not part of it.
            (Version::V2, "sock") => {
                stat.kernel = stat.kernel.map(|kernel| kernel + value);
                continue;
            }
            _ => continue,
        };
        *slot = value;
    }
    stat
}

/// The mount point and folder of a test's fixture tree.
#[cfg(test)]
pub(crate) fn fixture(version: Version, mount: &std::path::Path, below: &str) -> MemoryCgroup {
    MemoryCgroup { version, dir: mount.join(below), mount: mount.to_owned() }
}

#[cfg(test)]
mod tests {
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
    fn v1_unlimited_is_a_number_not_a_word() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V1, tmp.path(), "c");
        write(&cgroup.dir, &[(v1::LIMIT, "9223372036854771712\n"), (v1::USAGE, "1048576\n")]);
        assert_eq!(cgroup.limit().unwrap(), None);
        write(&cgroup.dir, &[(v1::LIMIT, "67108864\n")]);
        assert_eq!(cgroup.limit().unwrap(), Some(67_108_864));
        assert_eq!(cgroup.usage().unwrap(), 1_048_576);
        assert_eq!(cgroup.peak().unwrap(), None);
    }

    #[test]
    fn v1_swap_room_is_what_memsw_leaves_above_the_limit() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V1, tmp.path(), "c");
        write(&cgroup.dir, &[(v1::LIMIT, "67108864\n"), (v1::MEMSW_LIMIT, "100663296\n")]);
        assert_eq!(cgroup.swap_room().unwrap(), Some(33_554_432));
        write(&cgroup.dir, &[(v1::MEMSW_LIMIT, "9223372036854771712\n")]);
        assert_eq!(cgroup.swap_room().unwrap(), None);
        write(&cgroup.dir, &[(v1::SWAPPINESS, "0\n")]);
        assert_eq!(cgroup.swap_room().unwrap(), Some(0));
    }

    #[test]
    fn a_v1_limit_that_memory_and_swap_share_counts_no_hits() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V1, tmp.path(), "c");
        write(&cgroup.dir, &[(v1::LIMIT, "67108864\n")]);
        assert!(cgroup.counts_hits().unwrap());
        for (both, counts) in [("67108864\n", false), ("67112960\n", true), ("9223372036854771712\n", true)] {
            write(&cgroup.dir, &[(v1::MEMSW_LIMIT, both)]);
            assert_eq!(cgroup.counts_hits().unwrap(), counts, "{both}");
        }
    }

    #[test]
    fn v2_reads_max_numbers_and_absent_files() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V2, tmp.path(), "a/b");
        write(
            &cgroup.dir,
            &[
                (v2::LIMIT, "max\n"),
                (v2::USAGE, "4096\n"),
                (v2::HIGH, "52428800\n"),
                (v2::SWAP_LIMIT, "1048576\n"),
                (v2::SWAP_USAGE, "4096\n"),
                (v2::OOM_GROUP, "1\n"),
            ],
        );
        assert_eq!(cgroup.limit().unwrap(), None);
        assert_eq!(cgroup.high().unwrap(), Some(52_428_800));
        assert_eq!(cgroup.peak().unwrap(), None);
        assert_eq!(cgroup.swap_room().unwrap(), Some(1_044_480));
        assert!(cgroup.oom_group().unwrap());
        assert_eq!(cgroup.pressure().unwrap(), None);
    }

    #[test]
    fn a_v2_process_is_accounted_where_the_controller_is_enabled() {
        let tmp = tempfile::tempdir().unwrap();
        write(&tmp.path().join("a"), &[(v2::USAGE, "1\n")]);
        fs::create_dir_all(tmp.path().join("a/b/c")).unwrap();
        let location = |below: &str| Location {
            version: Version::V2,
            path: format!("/{below}"),
            mount: tmp.path().to_owned(),
            dir: tmp.path().join(below),
        };
        assert_eq!(MemoryCgroup::at(&location("a/b/c")).unwrap().dir, tmp.path().join("a"));
        fs::create_dir_all(tmp.path().join("x")).unwrap();
        assert!(matches!(MemoryCgroup::at(&location("x")), Err(CgroupError::NotAccounted { .. })));
        assert!(MemoryCgroup::at(&location("gone")).unwrap_err().is_missing());
    }

    #[test]
    fn stat_speaks_one_language_for_both_versions() {
        let v1 = "cache 1\nrss 1\ntotal_cache 30\ntotal_rss 40\ntotal_shmem 5\ntotal_inactive_file 10\ntotal_active_file 15\n";
        let v2 = "anon 40\nfile 30\nkernel 6\nsock 1\nshmem 5\ninactive_file 10\nactive_file 15\nslab_reclaimable 7\nslab 9\n";
        let one = parse_stat(v1, Version::V1);
        let two = parse_stat(v2, Version::V2);
        assert_eq!(Stat { slab_reclaimable: 7, kernel: Some(7), ..one }, two);
        assert_eq!(two.reclaimable(), 32);
    }

    #[test]
    fn broken_numbers_are_errors_with_the_path() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V2, tmp.path(), "c");
        write(&cgroup.dir, &[(v2::LIMIT, "lots\n"), (v2::USAGE, "\n")]);
        let message = cgroup.limit().unwrap_err().to_string();
        assert!(message.contains("memory.max") && message.contains("lots"), "{message}");
        assert!(cgroup.usage().is_err());
    }
}
