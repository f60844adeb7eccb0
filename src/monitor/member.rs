//! One container among those that are watched.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::host::Host;
use super::lasting::{Beside, OomKills, OwnPressure, REUSE};
use super::reading::{Reading, percent, rate};
use crate::cgroup::ancestors::{Ancestor, Ancestors};
use crate::cgroup::gauge::Gauge;
use crate::cgroup::locate::{CgroupMount, locate_in, membership_of};
use crate::cgroup::pressure::{Pressure, PressureScope, PressureSource, unified_dir};
use crate::cgroup::{CgroupError, MemoryCgroup, Version};

/// Limits are read again this often: `update` may change them. Those of many containers at every other tick of a second, in turns.
const LIMIT_EVERY: Duration = Duration::from_secs(1);
const LIMIT_EVERY_OF_MANY: Duration = Duration::from_secs(2);

/// Ticks do not come to the microsecond: one of a second is one still.
const JITTER: Duration = Duration::from_millis(100);

/// The limit that binds, in bytes, and the name of the ancestor that it belongs to, where it is not the container's own.
type Binding = Option<(u64, Option<Rc<str>>)>;

/// The memory of one cgroup.
#[derive(Debug)]
pub(super) struct Member {
    gauge: Gauge,
    above: Option<Rc<Ancestor>>,
    limit: Option<(Instant, Binding)>,
    beside: Option<Beside>,
    pressure: Option<OwnPressure>,
    kills: OomKills,
    began: Option<Instant>,
    /// Time and usage of the reading before.
    before: Option<(u64, u64)>,
    /// Every other one.
    odd: bool,
    /// How much earlier than others it is read again, so that not all are at the same tick.
    early: Duration,
}

impl Member {
    /// Opens the cgroup `own` that the container with this init was given, or that of init where nobody knows another, or
    /// init has left it. It is the `nth` that is watched.
    ///
    /// # Errors
    /// The process or its cgroup is gone, or nothing accounts its memory.
    pub fn of_container(
        init: i32,
        own: Option<&MemoryCgroup>,
        mounts: &[CgroupMount],
        ancestors: &mut Ancestors,
        host: &Host,
        nth: u32,
    ) -> Result<Self, CgroupError> {
        let membership = membership_of(init)?;
        let location = locate_in(&membership, mounts, "memory")?;
        // What runs in the container may have gone on into cgroups below its own, and init into one of them.
        if let Some(own) = own.filter(|own| own.version == location.version && own.dir != location.dir)
            && location.dir.starts_with(&own.dir)
        {
            match Gauge::open(own.clone()) {
                Ok(gauge) => return Self::above_init(gauge, &membership, mounts, ancestors, host, nth),
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e),
            }
        }
        // Nearly always the folder itself is accounted: to look first would cost as much as to open a file.
        let gauge = match Gauge::open(MemoryCgroup::of(&location)) {
            Err(e) if e.is_missing() => Gauge::open(MemoryCgroup::at(&location)?)?,
            opened => opened?,
        };
        let unified = unified_dir(&membership, mounts);
        let pressure = unified.map_or(Ok(None), |dir| PressureSource::of_folder(&dir))?;
        Self::new(gauge, pressure, ancestors, host, nth)
    }

    /// Watches a container's own cgroup, which init is below of.
    fn above_init(
        gauge: Gauge,
        membership: &str,
        mounts: &[CgroupMount],
        ancestors: &mut Ancestors,
        host: &Host,
        nth: u32,
    ) -> Result<Self, CgroupError> {
        let dir = match gauge.cgroup().version {
            Version::V2 => Some(gauge.cgroup().dir.clone()),
            Version::V1 => unified_dir(membership, mounts),
        };
        let pressure = dir.map_or(Ok(None), |dir| PressureSource::of_folder(&dir))?;
        Self::new(gauge, pressure, ancestors, host, nth)
    }

    /// Watches this cgroup, the `nth`.
    ///
    /// # Errors
    /// What is above it cannot be read.
    pub fn new(
        gauge: Gauge,
        pressure: Option<(PressureSource, Pressure)>,
        ancestors: &mut Ancestors,
        host: &Host,
        nth: u32,
    ) -> Result<Self, CgroupError> {
        Ok(Self {
            above: ancestors.above(gauge.cgroup())?,
            gauge,
            limit: None,
            beside: None,
            pressure: pressure.map(|(source, last)| OwnPressure::new(source, last, host)),
            kills: OomKills::default(),
            began: None,
            before: None,
            odd: nth % 2 == 1,
            early: REUSE * (nth % 16) / 16,
        })
    }

    /// The tightest limit that binds, and the name of the ancestor that it belongs to.
    fn limit(&mut self, host: &Host) -> Result<Binding, CgroupError> {
        let every = if host.many { LIMIT_EVERY_OF_MANY } else { LIMIT_EVERY } - JITTER;
        if let Some((at, limit)) = &self.limit
            && host.at.duration_since(*at) < every
        {
            return Ok(limit.clone());
        }
        let own = self.gauge.limit()?;
        let above = self.above.as_ref().map_or(Ok(None), |above| above.tightest(host.at))?;
        // Of equal limits the nearest counts.
        let limit = match (own, above) {
            (Some(own), above) if above.as_ref().is_none_or(|(bytes, _)| *bytes >= own) => Some((own, None)),
            (_, above) => above.map(|(bytes, name)| (bytes, Some(name))),
        };
        // The first time it is as if half of them were read a tick ago.
        let turn = if self.limit.is_none() && self.odd { LIMIT_EVERY } else { Duration::ZERO };
        self.limit = Some((host.at.checked_sub(turn).unwrap_or(host.at), limit.clone()));
        Ok(limit)
    }

    fn beside(&mut self, host: &Host, usage: u64) -> Result<Beside, CgroupError> {
        match self.beside {
            Some(beside) if beside.stands(host, usage, self.early) => Ok(beside),
            before => {
                // Early only once: then they stay apart.
                if before.is_some() {
                    self.early = Duration::ZERO;
                }
                let beside = Beside::read(before, &self.gauge, host, usage)?;
                self.beside = Some(beside);
                Ok(beside)
            }
        }
    }

    /// The memory now, on a host that was looked at just before.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn read(&mut self, host: &Host) -> Result<Reading, CgroupError> {
        let usage_bytes = self.gauge.usage()?;
        // At once: v1 tells it as a difference to usage.
        let swap_bytes = if host.swaps { self.gauge.swap(usage_bytes)? } else { 0 };
        let early = self.early;
        let beside = self.beside(host, usage_bytes)?;
        let oom_kills = self.kills.read(&self.gauge, host)?;
        let limit = self.limit(host)?;
        let pressure = match &mut self.pressure {
            Some(own) => Some((own.read(host, early)?, PressureScope::Cgroup)),
            None => host.pressure.map(|pressure| (pressure, PressureScope::Host)),
        };
        let began = *self.began.get_or_insert(host.at);
        let at_us = u64::try_from(host.at.duration_since(began).as_micros()).unwrap_or(u64::MAX);
        let bytes_per_second = self
            .before
            .and_then(|(before_us, before)| rate(before, usage_bytes, at_us.saturating_sub(before_us)));
        self.before = Some((at_us, usage_bytes));
        let limit_bytes = limit.as_ref().map(|(bytes, _)| *bytes);
        Ok(Reading {
            at_us,
            usage_bytes,
            working_set_bytes: usage_bytes.saturating_sub(beside.idle_cache),
            limit_bytes,
            limiter: limit.and_then(|(_, name)| Some(name?.to_string())),
            percent: percent(usage_bytes, limit_bytes),
            host_total_bytes: host.total_bytes,
            peak_bytes: beside.peak,
            swap_bytes,
            oom_kills,
            new_oom_kills: oom_kills.saturating_sub(self.kills.first.unwrap_or(oom_kills)),
            bytes_per_second,
            pressure: pressure.map(|(pressure, _)| pressure),
            pressure_scope: pressure.map(|(_, scope)| scope),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::tests::host;
    use super::*;
    use crate::cgroup::memory::fixture;
    use crate::cgroup::v1;
    use std::fs;

    fn pod(tmp: &tempfile::TempDir) -> MemoryCgroup {
        let cgroup = fixture(Version::V1, tmp.path(), "pod/c");
        fs::create_dir_all(&cgroup.dir).unwrap();
        fs::write(tmp.path().join("pod").join(v1::LIMIT), "6000\n").unwrap();
        for (name, text) in [
            (v1::USAGE, "3000\n"),
            (v1::PEAK, "4000\n"),
            (v1::LIMIT, "9223372036854771712\n"),
            (v1::STAT, "total_inactive_file 1000\n"),
            (v1::OOM_CONTROL, "oom_kill 1\n"),
            (v1::MEMSW_USAGE, "3500\n"),
        ] {
            fs::write(cgroup.file(name), text).unwrap();
        }
        cgroup
    }

    #[test]
    fn a_reading_has_the_limit_that_binds() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = pod(&tmp);
        let begin = host(true);
        let mut member =
            Member::new(Gauge::open(cgroup.clone()).unwrap(), None, &mut Ancestors::default(), &begin, 0)
                .unwrap();
        let first = member.read(&begin).unwrap();
        assert_eq!((first.limit_bytes, first.limiter.as_deref()), (Some(6000), Some("/pod")));
        assert_eq!((first.usage_bytes, first.working_set_bytes, first.percent), (3000, 2000, Some(50.0)));
        assert_eq!((first.oom_kills, first.new_oom_kills, first.swap_bytes), (1, 0, 0), "no swap in use");
        fs::write(cgroup.file(v1::USAGE), "2000\n").unwrap();
        let later = Host { at: begin.at + Duration::from_secs(1), swaps: true, ..begin };
        let second = member.read(&later).unwrap();
        assert_eq!((second.swap_bytes, second.bytes_per_second), (1500, Some(-1000)));
    }

    #[test]
    fn an_updated_limit_is_seen_in_a_second_and_of_many_containers_in_two() {
        for (many, nth, ticks) in [(false, 0, 1), (true, 0, 2), (true, 1, 1)] {
            let tmp = tempfile::tempdir().unwrap();
            let cgroup = pod(&tmp);
            let begin = host(many);
            // A little less than a second apart, as ticks are.
            let at = |tick: u32| Host { at: begin.at + Duration::from_millis(999) * tick, ..begin };
            let mut member = Member::new(
                Gauge::open(cgroup.clone()).unwrap(),
                None,
                &mut Ancestors::default(),
                &begin,
                nth,
            )
            .unwrap();
            let mut limit = |tick| {
                let reading = member.read(&at(tick)).unwrap();
                (reading.limit_bytes, reading.limiter)
            };
            assert_eq!(limit(0), (Some(6000), Some("/pod".into())));
            fs::write(cgroup.file(v1::LIMIT), "4096\n").unwrap();
            (1..ticks).for_each(|tick| assert_eq!(limit(tick).0, Some(6000), "{many}"));
            assert_eq!(limit(ticks), (Some(4096), None), "{many}");
            fs::write(tmp.path().join("pod").join(v1::LIMIT), "1000\n").unwrap();
            assert_eq!(limit(ticks + if many { 2 } else { 1 }), (Some(1000), Some("/pod".into())));
        }
    }

    #[test]
    fn a_cgroup_without_its_files_is_missing() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = pod(&tmp);
        fs::remove_file(cgroup.file(v1::STAT)).unwrap();
        assert!(Gauge::open(cgroup.clone()).unwrap_err().is_missing());
        fs::write(cgroup.file(v1::STAT), "").unwrap();
        let gauge = Gauge::open(cgroup).unwrap();
        let host = host(false);
        let mut member = Member::new(gauge, None, &mut Ancestors::default(), &host, 0).unwrap();
        assert_eq!(member.read(&host).unwrap().working_set_bytes, 3000, "statistics without the key");
    }
}
