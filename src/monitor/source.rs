//! Where readings come from: kept descriptors for what changes fast, fewer looks at what is dear to read.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::sysinfo::sysinfo;

use super::reading::{Reading, percent, rate};
use crate::cgroup::counters::oom_kills_below;
use crate::cgroup::locate::{locate_dir, mounts};
use crate::cgroup::memory::Stat;
use crate::cgroup::pressure::{Pressure, PressureScope, PressureSource};
use crate::cgroup::{CgroupError, MemoryCgroup, Meter, limiter, locate};

/// memory.stat, PSI and the kills of a subtree are read at most this often, at whatever interval.
const SLOW_EVERY: Duration = Duration::from_millis(100);

/// Limits are read again this often: `update` may change them.
const LIMIT_EVERY: Duration = Duration::from_secs(1);

/// What is read less often.
#[derive(Debug, Clone, Copy, Default)]
struct Slow {
    stat: Stat,
    oom_kills: u64,
    pressure: Option<Pressure>,
}

/// The memory of one process's cgroup.
#[derive(Debug)]
pub struct Source {
    cgroup: MemoryCgroup,
    meter: Meter,
    pressure: Option<PressureSource>,
    host_total_bytes: u64,
    began: Instant,
    slow: Slow,
    slow_at: Instant,
    limit: Option<(u64, Option<String>)>,
    limit_at: Instant,
    first_oom_kills: u64,
    /// Time and usage of the reading before.
    before: Option<(u64, u64)>,
}

impl Source {
    /// Opens the cgroup of process `pid`.
    pub fn of_process(pid: i32) -> Result<Self, CgroupError> {
        Self::open(MemoryCgroup::at(&locate(pid, "memory")?)?, PressureSource::of(pid)?)
    }

    /// Opens the memory cgroup in `dir`.
    pub fn of_folder(dir: &Path) -> Result<Self, CgroupError> {
        let cgroup = MemoryCgroup::at(&locate_dir(dir, &mounts()?)?)?;
        let pressure = PressureSource::of_folder(&cgroup.dir)?;
        Self::open(cgroup, pressure)
    }

    fn open(cgroup: MemoryCgroup, pressure: Option<PressureSource>) -> Result<Self, CgroupError> {
        let now = Instant::now();
        let mut source = Self {
            meter: Meter::open(&cgroup)?,
            pressure,
            // Only the scale of an unlimited container; a host that does not tell is none.
            host_total_bytes: sysinfo().map_or(0, |info| info.ram_total()),
            began: now,
            slow: Slow::default(),
            slow_at: now,
            limit: None,
            limit_at: now,
            first_oom_kills: 0,
            before: None,
            cgroup,
        };
        source.read_slow()?;
        source.read_limit()?;
        source.first_oom_kills = source.slow.oom_kills;
        Ok(source)
    }

    fn read_slow(&mut self) -> Result<(), CgroupError> {
        self.slow = Slow {
            stat: self.cgroup.stat()?,
            oom_kills: oom_kills_below(&self.cgroup)?,
            pressure: self.pressure.as_ref().map(PressureSource::read).transpose()?,
        };
        self.slow_at = Instant::now();
        Ok(())
    }

    fn read_limit(&mut self) -> Result<(), CgroupError> {
        self.limit = limiter(&self.cgroup)?
            .map(|found| (found.limit_bytes, (!found.own).then(|| found.cgroup.name())));
        self.limit_at = Instant::now();
        Ok(())
    }

    /// The memory now.
    pub fn read(&mut self) -> Result<Reading, CgroupError> {
        let now = Instant::now();
        if now.duration_since(self.slow_at) >= SLOW_EVERY {
            self.read_slow()?;
        }
        if now.duration_since(self.limit_at) >= LIMIT_EVERY {
            self.read_limit()?;
        }
        let counters = self.meter.read()?;
        let at_us = u64::try_from(now.duration_since(self.began).as_micros()).unwrap_or(u64::MAX);
        let usage_bytes = counters.usage_bytes;
        let bytes_per_second = self
            .before
            .and_then(|(before_us, before)| rate(before, usage_bytes, at_us.saturating_sub(before_us)));
        self.before = Some((at_us, usage_bytes));
        let limit_bytes = self.limit.as_ref().map(|(bytes, _)| *bytes);
        // The cgroup's own counter is read each time; kills in children are seen a little later.
        let oom_kills = self.slow.oom_kills.max(counters.oom_kill);
        Ok(Reading {
            at_us,
            usage_bytes,
            working_set_bytes: usage_bytes.saturating_sub(self.slow.stat.inactive_file),
            limit_bytes,
            limiter: self.limit.as_ref().and_then(|(_, name)| name.clone()),
            percent: percent(usage_bytes, limit_bytes),
            host_total_bytes: self.host_total_bytes,
            peak_bytes: counters.peak_bytes,
            swap_bytes: counters.swap_bytes,
            oom_kills,
            new_oom_kills: oom_kills.saturating_sub(self.first_oom_kills),
            bytes_per_second,
            pressure: self.slow.pressure,
            pressure_scope: self.pressure.as_ref().map(|source| -> PressureScope { source.scope }),
        })
    }
}
