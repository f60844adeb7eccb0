//! What is read of a container, and, where there are many, how long it is shown again because nothing speaks for it that it has
//! changed. A read costs some 2 µs where thousands of files were read since.

use std::time::{Duration, Instant};

use super::host::{Host, Kills, SLOW_EVERY};
use crate::cgroup::CgroupError;
use crate::cgroup::gauge::Gauge;
use crate::cgroup::pressure::{Pressure, PressureSource};

/// So long at most is shown again what was read before.
pub(super) const REUSE: Duration = Duration::from_secs(5);

/// After a stall the kernel changes its averages in the background, each 2 s (PSI_FREQ, kernel/sched/psi.c): so long after the last
/// change nothing more is to come of it.
const PRESSURE_SETTLES: Duration = Duration::from_secs(4);

/// What changes together with usage, and when and at which usage it was read.
///
/// Of many containers it is read again where usage has changed since: page cache that comes or goes is charged or uncharged, and
/// the peak rises by usage alone. What does not show in usage is shown up to [`REUSE`] late: a peak from which usage came
/// back to the same byte, pages that moved between the active and the idle list, and up to 64 pages a CPU that
/// are charged ahead (the kernel's own statistics lag by as much, and by up to 2 s).
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    usage: u64,
    pub peak: Option<u64>,
    pub idle_cache: u64,
    cache_at: Instant,
    cache_usage: u64,
}

/// The pressure that the kernel records for the cgroup.
#[derive(Debug)]
pub(super) struct OwnPressure {
    source: PressureSource,
    last: Pressure,
    at: Instant,
    /// When it was last found to be another than before; `None` where no task ever waited.
    changed: Option<Instant>,
    /// What the host had recorded when it was read.
    host_us: Option<u64>,
}

/// OOM kills in the cgroup and below.
#[derive(Debug, Default)]
pub(super) struct OomKills {
    /// Never less than before: on v1 the kills in a sub-cgroup are gone from the sum with it.
    count: u64,
    /// The sum that was read last.
    sum: u64,
    at: Option<Instant>,
    host: Option<Kills>,
    /// When the view began.
    pub first: Option<u64>,
}

impl Beside {
    /// Whether it may be shown again beside this usage.
    pub fn stands(&self, host: &Host, usage: u64, early: Duration) -> bool {
        let same = usage == self.usage && usage == self.cache_usage;
        host.many && same && host.at.duration_since(self.cache_at) + early < REUSE
    }

    /// Read again, the dear memory.stat not too often.
    pub fn read(before: Option<Self>, gauge: &Gauge, host: &Host, usage: u64) -> Result<Self, CgroupError> {
        // After usage, which it is never below.
        let peak = gauge.peak()?;
        match before {
            Some(before) if host.at.duration_since(before.cache_at) < SLOW_EVERY => {
                Ok(Self { usage, peak, ..before })
            }
            _ => {
                let idle_cache = gauge.idle_cache()?;
                Ok(Self { usage, peak, idle_cache, cache_at: host.at, cache_usage: usage })
            }
        }
    }
}

impl OwnPressure {
    pub fn new(source: PressureSource, last: Pressure, host: &Host) -> Self {
        let changed = (last != Pressure::default()).then_some(host.at);
        Self { source, last, at: host.at, changed, host_us: stalled(host) }
    }

    /// Where no task of the whole host has waited for memory since, none of the cgroup has; and averages that are zero stay so.
    fn is_due(&self, host: &Host, early: Duration) -> bool {
        let age = host.at.duration_since(self.at);
        let settled = self.changed.is_none_or(|at| host.at.duration_since(at) >= PRESSURE_SETTLES);
        let zero = self.last.some_avg10 == 0.0 && self.last.full_avg10 == 0.0;
        let stands = host.many && settled && zero && self.host_us.is_some() && self.host_us == stalled(host);
        age + early >= REUSE || (age >= SLOW_EVERY && !stands)
    }

    pub fn read(&mut self, host: &Host, early: Duration) -> Result<Pressure, CgroupError> {
        if self.is_due(host, early) {
            let now = self.source.read()?;
            if now != self.last {
                self.changed = Some(host.at);
            }
            (self.last, self.at, self.host_us) = (now, host.at, stalled(host));
        }
        Ok(self.last)
    }
}

fn stalled(host: &Host) -> Option<u64> {
    host.pressure.map(|pressure| pressure.some_total_us)
}

impl OomKills {
    /// A killed process frees memory: kills are seen at once. Where the host does not tell whether there were any, the cgroup's own
    /// counter is read each time, and kills in children are seen a little later.
    pub fn read(&mut self, gauge: &Gauge, host: &Host) -> Result<u64, CgroupError> {
        let due = match host.kills {
            Some(Kills::Never) => false,
            Some(_) => self.host != host.kills,
            None => self.at.is_none_or(|at| host.at.duration_since(at) >= SLOW_EVERY),
        };
        if due {
            let sum = gauge.oom_kills_below()?;
            self.count += sum.saturating_sub(self.sum);
            self.sum = sum;
            (self.at, self.host) = (Some(host.at), host.kills);
        } else if host.kills.is_none() {
            let own = gauge.oom_kill()?;
            self.count += own.saturating_sub(self.sum);
            self.sum = self.sum.max(own);
        }
        self.first.get_or_insert(self.count);
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::tests::host;
    use super::*;
    use crate::cgroup::memory::fixture;
    use crate::cgroup::{MemoryCgroup, Version, v1, v2};
    use std::fs;

    const SECOND: Duration = Duration::from_secs(1);

    fn cgroup(tmp: &tempfile::TempDir) -> MemoryCgroup {
        let cgroup = fixture(Version::V2, tmp.path(), "c");
        fs::create_dir(&cgroup.dir).unwrap();
        for (name, text) in [
            (v2::USAGE, "0\n"),
            (v2::PEAK, "7\n"),
            (v2::STAT, "inactive_file 1\n"),
            (v2::EVENTS, "oom_kill 0\n"),
        ] {
            fs::write(cgroup.file(name), text).unwrap();
        }
        cgroup
    }

    #[test]
    fn statistics_stand_while_usage_does_and_five_seconds_at_most() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = cgroup(&tmp);
        let gauge = Gauge::open(cgroup.clone()).unwrap();
        let begin = host(true);
        let at = |after| Host { at: begin.at + after, ..begin };
        let first = Beside::read(None, &gauge, &begin, 4096).unwrap();
        assert_eq!((first.peak, first.idle_cache), (Some(7), 1));
        assert!(first.stands(&at(SECOND), 4096, Duration::ZERO));
        assert!(!first.stands(&at(SECOND), 8192, Duration::ZERO), "usage is another");
        assert!(!first.stands(&at(REUSE), 4096, Duration::ZERO), "long ago");
        assert!(!first.stands(&at(REUSE - SECOND), 4096, SECOND), "those of others at another tick");
        assert!(
            !first.stands(&Host { many: false, ..at(SECOND) }, 4096, Duration::ZERO),
            "a few cost little"
        );
        fs::write(cgroup.file(v2::STAT), "inactive_file 2\n").unwrap();
        fs::write(cgroup.file(v2::PEAK), "9\n").unwrap();
        let soon = Beside::read(Some(first), &gauge, &at(SLOW_EVERY / 2), 8192).unwrap();
        assert_eq!((soon.peak, soon.idle_cache), (Some(9), 1), "memory.stat is dear");
        assert!(!soon.stands(&at(SECOND), 8192, Duration::ZERO), "it is of another usage still");
        let then = Beside::read(Some(soon), &gauge, &at(SECOND), 8192).unwrap();
        assert_eq!(then.idle_cache, 2);
        assert!(then.stands(&at(2 * SECOND), 8192, Duration::ZERO));
    }

    #[test]
    fn pressure_stands_where_the_host_had_none_since_and_all_has_settled() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = cgroup(&tmp);
        let tell = |avg10: &str, total: u64| {
            fs::write(
                cgroup.file(v2::PRESSURE),
                format!("some avg10={avg10} avg60=0.00 avg300=0.00 total={total}\n"),
            )
            .unwrap();
        };
        tell("0.00", 0);
        let begin = host(true);
        let at = |seconds: u32, us| {
            let pressure = Some(Pressure { some_total_us: us, ..Pressure::default() });
            Host { at: begin.at + SECOND * seconds, pressure, ..begin }
        };
        let (source, last) = PressureSource::of_folder(&cgroup.dir).unwrap().unwrap();
        let mut own = OwnPressure::new(source, last, &at(0, 5));
        let mut read = |host: Host| {
            let told = own.read(&host, Duration::ZERO).unwrap();
            (told.some_avg10, told.some_total_us)
        };
        tell("0.00", 3);
        assert_eq!(read(at(1, 5)), (0.0, 0), "not even looked at");
        assert_eq!(read(at(2, 6)), (0.0, 3), "something has waited somewhere");
        // The average follows the total.
        tell("1.50", 3);
        assert_eq!(read(at(3, 6)), (1.5, 3));
        tell("0.00", 3);
        assert_eq!(read(at(6, 6)), (0.0, 3));
        tell("0.10", 3);
        assert_eq!(read(at(9, 6)), (0.1, 3), "not settled yet");
        tell("0.00", 3);
        assert_eq!(read(at(10, 6)), (0.0, 3));
        assert_eq!(read(at(13, 6)), (0.0, 3));
        tell("9.00", 4);
        assert_eq!(read(at(17, 6)), (0.0, 3), "settled");
        assert_eq!(read(at(18, 6)), (9.0, 4), "five seconds at most");
    }

    #[test]
    fn kills_never_become_fewer_where_a_sub_cgroup_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V1, tmp.path(), "c");
        let below = cgroup.dir.join("below");
        fs::create_dir_all(&below).unwrap();
        for (name, text) in [
            (v1::USAGE, "0\n"),
            (v1::LIMIT, "65536\n"),
            (v1::STAT, "total_inactive_file 1\n"),
            (v1::PEAK, "7\n"),
        ] {
            fs::write(cgroup.file(name), text).unwrap();
        }
        let own =
            |kills: u64| fs::write(cgroup.file(v1::OOM_CONTROL), format!("oom_kill {kills}\n")).unwrap();
        own(1);
        fs::write(below.join(v1::OOM_CONTROL), "oom_kill 3\n").unwrap();
        let gauge = Gauge::open(cgroup.clone()).unwrap();
        let (mut kills, mut change) = (OomKills::default(), 0);
        let mut read = || {
            change += 1;
            kills.read(&gauge, &Host { kills: Some(Kills::Change(change)), ..host(true) }).unwrap()
        };
        assert_eq!(read(), 4);
        fs::remove_dir_all(&below).unwrap();
        assert_eq!(read(), 4, "a counter that falls is a reset to Prometheus");
        own(2);
        assert_eq!(read(), 5, "and the next kill is one more");
    }

    #[test]
    fn kills_are_read_where_the_host_had_some() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = cgroup(&tmp);
        let gauge = Gauge::open(cgroup.clone()).unwrap();
        let tell = |kills: u64| fs::write(cgroup.file(v2::EVENTS), format!("oom_kill {kills}\n")).unwrap();
        let mut kills = OomKills::default();
        let mut read = |told| kills.read(&gauge, &Host { kills: told, ..host(true) }).unwrap();
        tell(2);
        assert_eq!(read(Some(Kills::Change(0))), 2);
        tell(3);
        assert_eq!(read(Some(Kills::Change(0))), 2, "not even looked at");
        assert_eq!(read(Some(Kills::Change(1))), 3);
        tell(4);
        assert_eq!(read(None), 4, "a host that does not tell");
        assert_eq!(kills.first, Some(2));
        assert_eq!(
            OomKills::default().read(&gauge, &Host { kills: Some(Kills::Never), ..host(true) }).unwrap(),
            0
        );
    }
}
