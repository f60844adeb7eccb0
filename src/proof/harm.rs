//! Who else was killed: an OOM kill that took a process of the container instead of the worker, or beside it, is never passed
//! over in silence. Where the kernel counts no more kills than the prover's own deaths, nothing is looked at.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::victims::{Candidate, is_doomed};
use crate::cgroup::counters::oom_kills_below;
use crate::cgroup::{CgroupError, MemoryCgroup};

/// How long the one that a counted kill took may be unknown. The kernel counts, then sends the signal.
const SHOWS_WITHIN: Duration = Duration::from_millis(500);

/// A process of the container that an OOM kill took; `None` in both where it is not known which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Harmed {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<i32>,
    /// The command, at most 15 bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

impl Harmed {
    /// Which process it was, and what happened to it.
    pub fn words(&self) -> String {
        let which = match (self.pid, &self.name) {
            (Some(pid), Some(name)) => format!("process {pid} ({name})"),
            (Some(pid), None) => format!("process {pid}"),
            (None, _) => "a process".to_owned(),
        };
        format!("{which} of the container was OOM-killed")
    }
}

/// OOM kills in the limiter's cgroup and below it, since the watch began.
#[derive(Debug)]
pub struct Watch {
    cgroup: MemoryCgroup,
    kills_before: u64,
    /// memory.oom.group: one process is counted more than once, so that only the pids tell.
    grouped: bool,
    /// The limit, in bytes: by it the kernel chose.
    total: u64,
}

/// The deaths of the prover's own that the kernel's count may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnDeaths {
    pub at_least: u64,
    pub at_most: u64,
    /// One of the prover's own lives that holds nothing and has the highest score: the kernel took nobody with fewer points.
    pub is_one_left: bool,
}

impl OwnDeaths {
    /// So many, exactly.
    pub fn exactly(deaths: u64) -> Self {
        Self { at_least: deaths, at_most: deaths, is_one_left: false }
    }
}

impl Watch {
    /// Begins before a worker is in the cgroup.
    pub fn begin(limiter: &MemoryCgroup, grouped: bool, total: u64) -> Result<Self, CgroupError> {
        Ok(Self { kills_before: oom_kills_below(limiter)?, cgroup: limiter.clone(), grouped, total })
    }

    /// OOM kills so far.
    fn kills(&self) -> Result<u64, CgroupError> {
        Ok(oom_kills_below(&self.cgroup)?.saturating_sub(self.kills_before))
    }

    /// The process that was killed beside the prover's own, which have ended. `others` were there before; `own` is asked again
    /// as long as more kills are counted, since a process on its way out shows later than its kill is counted.
    pub fn harmed(
        &self,
        others: &[Candidate],
        own: &mut dyn FnMut() -> OwnDeaths,
    ) -> Result<Option<Harmed>, CgroupError> {
        let began = Instant::now();
        loop {
            let kills = self.kills()?;
            let own = own();
            if kills <= own.at_least {
                return Ok(None);
            }
            // Others may have ended by themselves: of those that are gone, the kernel took the one that it prefers.
            let gone = others.iter().filter(|other| is_doomed(other.pid, Some(other.started)));
            let explained = kills <= own.at_most;
            let gone =
                gone.filter(|other| !(explained && own.is_one_left) || other.is_before_idle(self.total));
            if let Some(other) = gone.max_by_key(|other| other.points(self.total)) {
                return Ok(Some(Harmed { pid: Some(other.pid), name: Some(other.name.clone()) }));
            }
            if began.elapsed() >= SHOWS_WITHIN {
                return Ok((!explained && !self.grouped).then(Harmed::default));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Version;
    use std::path::Path;

    fn watch(dir: &Path, grouped: bool) -> Watch {
        let cgroup = MemoryCgroup { version: Version::V2, dir: dir.to_owned(), mount: dir.to_owned() };
        counted(dir, 3);
        Watch::begin(&cgroup, grouped, 64 << 20).unwrap()
    }

    fn counted(dir: &Path, kills: u64) {
        std::fs::write(dir.join("memory.events"), format!("oom 9\noom_kill {kills}\n")).unwrap();
    }

    fn process(pid: i32) -> Candidate {
        let (name, group, bytes, drift_bytes) = ("tail".into(), 0, 0, 0);
        Candidate { pid, started: 1, name, group, bytes, drift_bytes, oom_score_adj: 0 }
    }

    #[test]
    fn as_many_kills_as_own_deaths_are_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path(), false);
        counted(dir.path(), 4);
        let gone = [process(i32::MAX)];
        assert_eq!(watch.harmed(&gone, &mut || OwnDeaths::exactly(1)).unwrap(), None, "it ended by itself");
    }

    #[test]
    fn one_more_is_the_process_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path(), false);
        counted(dir.path(), 5);
        let small = Candidate { name: "head".into(), bytes: 4096, ..process(i32::MAX - 1) };
        let others = [small, Candidate { bytes: 40 << 20, ..process(i32::MAX) }];
        let found = watch.harmed(&others, &mut || OwnDeaths::exactly(1)).unwrap();
        assert_eq!(found, Some(Harmed { pid: Some(i32::MAX), name: Some("tail".into()) }));
        let unknown = watch.harmed(&[], &mut || OwnDeaths::exactly(1)).unwrap();
        assert_eq!(unknown, Some(Harmed::default()), "it came later than the list");
    }

    #[test]
    fn a_death_of_the_own_that_shows_late_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path(), false);
        counted(dir.path(), 5);
        let mut looks = 0;
        let found = watch.harmed(&[], &mut || {
            looks += 1;
            OwnDeaths::exactly(looks)
        });
        assert_eq!((found.unwrap(), looks), (None, 2));
    }

    #[test]
    fn a_group_or_a_family_is_told_by_pids() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path(), true);
        counted(dir.path(), 5);
        assert_eq!(watch.harmed(&[], &mut || OwnDeaths::exactly(1)).unwrap(), None);
        let family = || OwnDeaths { at_most: 33, ..OwnDeaths::exactly(1) };
        assert_eq!(Watch { grouped: false, ..watch }.harmed(&[], &mut { family }).unwrap(), None);
    }

    /// A loop of short commands, of which one has ended meanwhile.
    #[test]
    fn nobody_is_taken_before_one_of_the_own_with_more_points() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path(), false);
        counted(dir.path(), 5);
        let short = process(i32::MAX);
        let first = Candidate { oom_score_adj: 1000, bytes: 1 << 20, ..process(i32::MAX - 1) };
        let family = |is_one_left| OwnDeaths { at_most: 33, is_one_left, ..OwnDeaths::exactly(1) };
        let harmed =
            |others: &[Candidate], own| watch.harmed(others, &mut || own).unwrap().and_then(|one| one.pid);
        assert_eq!(harmed(std::slice::from_ref(&short), family(true)), None);
        assert_eq!(harmed(std::slice::from_ref(&short), family(false)), Some(short.pid));
        assert_eq!(harmed(&[short.clone(), first.clone()], family(true)), Some(first.pid));
        // Below a limit in the container, the kernel has no choice among the prover's own.
        assert_eq!(
            harmed(std::slice::from_ref(&short), OwnDeaths { is_one_left: true, ..OwnDeaths::exactly(1) }),
            Some(short.pid)
        );
    }
}
