//! What is known of a container's end: numbers and facts, read from the kernel and from rt's own records.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::end::End;
use super::kernel_log::{self, Victim};
use super::proofs::Proofs;
use crate::cgroup::counters::oom_kills_below;
use crate::cgroup::limiter::limits_upwards;
use crate::cgroup::locate::{locate_dir, mounts};
use crate::cgroup::oom::refused_memory;
use crate::cgroup::pressure::{Pressure, of_folder};
use crate::cgroup::{CgroupError, Limiter, MemoryCgroup, Meter, Version};
use crate::proof::journal;

/// What the container was doing when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// It lives.
    Alive,
    /// It was deleted before it was started.
    NotStarted,
    /// It was deleted, and thereby killed, while it lived.
    Deleted,
    /// It had ended.
    Stopped,
}

/// A signal that was sent with `kill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentSignal {
    pub signal: i32,
    /// RFC 3339, UTC.
    pub at: String,
}

/// Everything that a death is explained from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub found: Found,
    /// In the pid namespace of rt.
    pub init_pid: Option<i32>,
    /// How init ended; `None` where nobody told rt.
    pub end: Option<End>,
    /// The last signal sent with `kill` that could end a process.
    pub signal: Option<SentSignal>,
    /// `None` where the cgroup had gone, or never was.
    pub memory: Option<Memory>,
    /// Init, where the kernel's log has it as the victim of an OOM kill and nothing else is left of its cgroup: systemd
    /// removes that of a unit whose processes have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub victim: Option<Victim>,
}

/// What the kernel counted for the container; shares of proofs and of earlier users of the cgroup taken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub version: Version,
    /// The cgroup below the mount point.
    pub path: String,
    /// Its own limit; `None` for none.
    pub limit_bytes: Option<u64>,
    /// As the kernel has it.
    pub peak_bytes: Option<u64>,
    /// The container's own; `None` where it cannot be told from that of somebody else.
    pub own_peak_bytes: Option<u64>,
    /// The own peak is the one from before the first proof, which drove the kernel's up.
    pub own_peak_before_proofs: bool,
    pub oom_kills: u64,
    /// How often its own limit was hit.
    pub limit_hits: u64,
    /// Whose limit the OOM kills came from; `None` without any.
    pub culprit: Option<Culprit>,
    /// From the kernel's log, where that may be read.
    #[serde(default)]
    pub victims: Vec<Victim>,
    #[serde(default)]
    pub proofs: Proofs,
    pub stall: Option<Stall>,
}

/// Whose limit OOM kills came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "whose", rename_all = "kebab-case")]
pub enum Culprit {
    /// The container's own.
    Own { limit_bytes: u64 },
    /// One above.
    Above { path: String, limit_bytes: Option<u64> },
    /// No limit: the host's memory was used up.
    Host,
    /// A limit within the container, or one that does not show.
    Unknown,
}

/// Time in which tasks waited for memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Some task waited.
    pub some_us: u64,
    /// All tasks waited.
    pub full_us: u64,
}

/// What a cgroup that was there before the container had counted already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Baseline {
    pub oom_kills: u64,
    pub limit_hits: u64,
    pub peak_bytes: Option<u64>,
    pub stall: Option<Stall>,
}

/// Where the evidence is.
#[derive(Debug)]
pub struct Place<'a> {
    pub cgroup: MemoryCgroup,
    /// The folder of the unified hierarchy, which records pressure under a v1 limit too.
    pub unified: Option<&'a Path>,
    /// The folder with the journal of proofs.
    pub records: &'a Path,
    /// `None` where the cgroup was made for the container.
    pub baseline: Option<Baseline>,
    pub init_pid: Option<i32>,
    /// How long after boot init was started; older lines of the kernel's log are not the container's.
    pub init_since_boot: Option<Duration>,
}

impl Place<'_> {
    /// What the cgroup has counted up to now.
    ///
    /// # Errors
    /// It is gone, or its files cannot be understood.
    pub fn counted(&self) -> Result<Baseline, CgroupError> {
        let counters = Meter::open(&self.cgroup)?.read()?;
        let oom_kills = match self.cgroup.version {
            Version::V1 if has_sub_cgroups(&self.cgroup.dir) => oom_kills_below(&self.cgroup)?,
            _ => counters.oom_kill,
        };
        let stall =
            self.unified.and_then(of_folder).map(|Pressure { some_total_us, full_total_us, .. }| Stall {
                some_us: some_total_us,
                full_us: full_total_us,
            });
        Ok(Baseline { oom_kills, limit_hits: counters.limit_hits, peak_bytes: counters.peak_bytes, stall })
    }

    /// All that is known of the container's memory.
    ///
    /// # Errors
    /// As [`Self::counted`].
    pub fn memory(&self) -> Result<Memory, CgroupError> {
        let now = self.counted()?;
        let before = self.baseline.unwrap_or_default();
        let proofs = journal::text(self.records).map(|text| Proofs::read(&text)).unwrap_or_default();
        let (own_peak_bytes, own_peak_before_proofs) = own_peak(&now, &before, &proofs);
        let mut memory = Memory {
            version: self.cgroup.version,
            path: self.cgroup.name(),
            limit_bytes: self.cgroup.limit()?,
            peak_bytes: now.peak_bytes,
            own_peak_bytes,
            own_peak_before_proofs,
            oom_kills: now.oom_kills.saturating_sub(before.oom_kills).saturating_sub(proofs.oom_kills),
            limit_hits: now.limit_hits.saturating_sub(before.limit_hits).saturating_sub(proofs.limit_hits),
            culprit: None,
            victims: Vec::new(),
            stall: now.stall.map(|now| now.since(before.stall.unwrap_or_default())),
            proofs,
        };
        if memory.oom_kills > 0 {
            self.name_the_culprit(&mut memory, &limits_upwards(&self.cgroup)?);
        }
        Ok(memory)
    }

    /// Init as the victim of an OOM kill by the kernel's log, which outlives the cgroup.
    #[must_use]
    pub fn victim(&self) -> Option<Victim> {
        kernel_log::victims(&self.cgroup.name(), self.log_since())
            .into_iter()
            .rfind(|victim| Some(victim.pid) == self.init_pid)
    }

    fn log_since(&self) -> Option<Duration> {
        self.init_since_boot.map(kernel_log::log_time)
    }

    fn name_the_culprit(&self, memory: &mut Memory, limits: &[Limiter]) {
        // The log names cgroups from the root of the hierarchy, of which a part may be mounted.
        let root_path = |cgroup: &MemoryCgroup| {
            mounts().and_then(|mounts| locate_dir(&cgroup.dir, &mounts)).map(|location| location.path).ok()
        };
        let own_path = root_path(&self.cgroup);
        let mut victims =
            own_path.as_deref().map(|path| kernel_log::victims(path, self.log_since())).unwrap_or_default();
        victims.retain(|victim| !memory.proofs.workers.contains(&victim.pid));
        // What is above that many is of an earlier container with this cgroup's name.
        let kills = usize::try_from(memory.oom_kills).unwrap_or(usize::MAX);
        memory.victims = victims.split_off(victims.len().saturating_sub(kills));
        let named =
            |path: &str| limits.iter().find(|limit| root_path(&limit.cgroup).as_deref() == Some(path));
        let init = memory.victims.iter().rfind(|victim| Some(victim.pid) == self.init_pid);
        memory.culprit = Some(match init.or(memory.victims.last()) {
            Some(Victim { limiter: None, .. }) => Culprit::Host,
            Some(Victim { limiter: Some(path), .. }) => match named(path) {
                Some(limit) => culprit(limit),
                None if own_path.as_ref().is_some_and(|own| kernel_log::is_within(path, own)) => {
                    Culprit::Unknown
                }
                None => Culprit::Above { path: path.clone(), limit_bytes: None },
            },
            None => self.culprit_by_counters(limits),
        });
    }

    fn culprit_by_counters(&self, limits: &[Limiter]) -> Culprit {
        let refused = |limit: &&Limiter| refused_memory(&limit.cgroup).unwrap_or(false);
        match limits.iter().find(refused) {
            Some(limit) => culprit(limit),
            // On v1, where kills are counted in the sub-cgroup of the victim alone, so are its limit's hits.
            None if has_sub_cgroups(&self.cgroup.dir) => Culprit::Unknown,
            None => Culprit::Host,
        }
    }
}

fn culprit(limit: &Limiter) -> Culprit {
    match limit.own {
        true => Culprit::Own { limit_bytes: limit.limit_bytes },
        false => Culprit::Above { path: limit.cgroup.name(), limit_bytes: Some(limit.limit_bytes) },
    }
}

fn has_sub_cgroups(dir: &Path) -> bool {
    // The number of links tells it without reading the folder.
    std::fs::metadata(dir).is_ok_and(|metadata| metadata.nlink() > 2)
}

impl Stall {
    fn since(self, before: Self) -> Self {
        Self {
            some_us: self.some_us.saturating_sub(before.some_us),
            full_us: self.full_us.saturating_sub(before.full_us),
        }
    }
}

/// The container's own peak, and whether that is the one from before the first proof.
fn own_peak(now: &Baseline, before: &Baseline, proofs: &Proofs) -> (Option<u64>, bool) {
    if now.peak_bytes <= before.peak_bytes {
        return (None, false);
    }
    let touched = proofs.unfinished > 0 || proofs.peak_after_bytes.is_some();
    if touched && (proofs.unfinished > 0 || now.peak_bytes <= proofs.peak_after_bytes) {
        return (proofs.peak_before_bytes, true);
    }
    (now.peak_bytes, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::memory::fixture;
    use crate::cgroup::v2;
    use std::fs;

    fn counted(peak: u64) -> Baseline {
        Baseline { peak_bytes: Some(peak), ..Baseline::default() }
    }

    #[test]
    fn the_peak_that_a_proof_made_is_not_the_containers() {
        let proofs = |unfinished, after| Proofs {
            unfinished,
            peak_before_bytes: Some(5),
            peak_after_bytes: after,
            ..Proofs::default()
        };
        let none = Baseline::default();
        assert_eq!(own_peak(&counted(9), &none, &Proofs::default()), (Some(9), false));
        assert_eq!(own_peak(&counted(64), &none, &proofs(0, Some(64))), (Some(5), true));
        assert_eq!(own_peak(&counted(70), &none, &proofs(0, Some(64))), (Some(70), false));
        assert_eq!(own_peak(&counted(70), &none, &proofs(1, Some(64))), (Some(5), true));
        assert_eq!(
            own_peak(&counted(9), &none, &proofs(0, None)),
            (Some(9), false),
            "a refusal writes nothing"
        );
        assert_eq!(own_peak(&counted(9), &counted(9), &Proofs::default()), (None, false));
    }

    #[test]
    fn what_was_counted_before_is_taken_off_and_an_ancestor_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V2, tmp.path(), "pod/web");
        fs::create_dir_all(&cgroup.dir).unwrap();
        let write = |dir: &Path, name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write(&cgroup.dir, v2::USAGE, "0\n");
        write(&cgroup.dir, v2::PEAK, "1048576\n");
        write(&cgroup.dir, v2::LIMIT, "67108864\n");
        write(&cgroup.dir, v2::EVENTS, "low 0\nhigh 0\nmax 4\noom 0\noom_kill 3\n");
        write(&cgroup.dir, v2::EVENTS_LOCAL, "low 0\nhigh 0\nmax 4\noom 0\noom_kill 3\n");
        write(&cgroup.dir, v2::PRESSURE, "some avg10=0.00 total=70\nfull avg10=0.00 total=50\n");
        let pod = tmp.path().join("pod");
        write(&pod, v2::LIMIT, "33554432\n");
        write(&pod, v2::EVENTS_LOCAL, "max 9\noom 2\noom_kill 0\n");
        let baseline = Baseline {
            oom_kills: 1,
            limit_hits: 3,
            peak_bytes: Some(4096),
            stall: Some(Stall { some_us: 60, full_us: 50 }),
        };
        let place = Place {
            unified: Some(&cgroup.dir),
            cgroup: cgroup.clone(),
            records: tmp.path(),
            baseline: Some(baseline),
            init_pid: None,
            init_since_boot: None,
        };
        let memory = place.memory().unwrap();
        assert_eq!((memory.oom_kills, memory.limit_hits), (2, 1));
        assert_eq!(memory.stall, Some(Stall { some_us: 10, full_us: 0 }));
        let above = Culprit::Above { path: "/pod".into(), limit_bytes: Some(33_554_432) };
        assert_eq!(memory.culprit, Some(above));
        write(&pod, v2::EVENTS_LOCAL, "max 9\noom 0\noom_kill 0\n");
        fs::create_dir(cgroup.dir.join("inner")).unwrap();
        assert_eq!(place.memory().unwrap().culprit, Some(Culprit::Unknown));
        fs::remove_dir_all(&cgroup.dir).unwrap();
        assert!(place.memory().is_err());
    }
}
