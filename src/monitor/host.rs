//! What one look at the host tells of all its containers: that nothing of a kind has happened anywhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::sysinfo::sysinfo;

use crate::cgroup::CgroupError;
use crate::cgroup::gauge::HostKills;
use crate::cgroup::pressure::{Pressure, PressureSource};

/// Everything but usage, peak, swap and limits is read at most this often, at whatever interval.
pub(super) const SLOW_EVERY: Duration = Duration::from_millis(100);

/// The host at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    pub at: Instant,
    /// The host's memory in bytes; 0 where it does not tell.
    pub total_bytes: u64,
    /// There are so many containers that what need not be read is not: see [`super::lasting`].
    pub many: bool,
    /// Something of the host is in swap: else nothing of any container is.
    pub swaps: bool,
    /// `None` where nobody has asked, or the kernel does not tell.
    pub kills: Option<Kills>,
    pub pressure: Option<Pressure>,
}

/// OOM kills of the whole host. Containers whose kills were read at the same number have no new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kills {
    /// None since it was started.
    Never,
    /// Another number each time that there were new ones.
    Change(u64),
}

/// Looks at the host.
#[derive(Debug)]
pub(super) struct HostSource {
    counter: Option<HostKills>,
    pressure: Option<PressureSource>,
    /// The number that was counted last, and of the change that it belongs to.
    counted: Option<(u64, u64)>,
    /// The look before found new kills.
    fresh: bool,
    slow_at: Option<Instant>,
    last: (Option<Kills>, Option<Pressure>),
}

impl HostSource {
    /// What it does not tell, is read of each container.
    pub fn open() -> Self {
        Self {
            counter: HostKills::open(PathBuf::from("/proc/vmstat")),
            pressure: PressureSource::of_host().ok().flatten(),
            counted: None,
            fresh: false,
            slow_at: None,
            last: (None, None),
        }
    }

    /// The host now; whether there were OOM kills anywhere only where `many` containers are to be spared.
    ///
    /// # Errors
    /// The host's pressure cannot be read.
    pub fn look(&mut self, many: bool) -> Result<Host, CgroupError> {
        let at = Instant::now();
        if self.slow_at.is_none_or(|before| at.duration_since(before) >= SLOW_EVERY) {
            self.slow_at = Some(at);
            let counted = if many { self.counter.as_ref().and_then(HostKills::read) } else { None };
            let pressure = self.pressure.as_ref().map(PressureSource::read).transpose()?;
            self.last = (self.kills(counted), pressure);
        }
        let info = sysinfo().ok();
        Ok(Host {
            at,
            many,
            total_bytes: info.map_or(0, |info| info.ram_total()),
            swaps: info.is_none_or(|info| info.swap_total() != info.swap_free()),
            kills: self.last.0,
            pressure: self.last.1,
        })
    }

    /// The kernel counts a kill for the host just before it counts it for the cgroup (__oom_kill_process), so after
    /// a look that found new ones the next one tells of a change as well.
    fn kills(&mut self, counted: Option<u64>) -> Option<Kills> {
        let now = counted?;
        let (before, change) = self.counted.unwrap_or((now, 0));
        let new = before != now;
        let change = change + u64::from(new || self.fresh);
        self.fresh = new;
        self.counted = Some((now, change));
        Some(if now == 0 { Kills::Never } else { Kills::Change(change) })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A host of which nothing is known.
    pub fn host(many: bool) -> Host {
        Host { at: Instant::now(), many, total_bytes: 1 << 30, swaps: false, kills: None, pressure: None }
    }

    #[test]
    fn new_kills_are_a_change_twice() {
        let mut host = HostSource { counter: None, ..HostSource::open() };
        let told = [Some(0), Some(0), Some(1), Some(1), Some(1), Some(3), Some(4), Some(4), Some(4)];
        let told: Vec<_> = told.into_iter().map(|count| host.kills(count).unwrap()).collect();
        let change = Kills::Change;
        assert_eq!(told[..2], [Kills::Never; 2]);
        assert_eq!(told[2..5], [change(1), change(2), change(2)]);
        assert_eq!(told[5..], [change(3), change(4), change(5), change(5)]);
        assert_eq!(host.kills(None), None, "nobody asked");
        assert_eq!([host.kills(Some(4)), host.kills(Some(5))], [Some(change(5)), Some(change(6))]);
    }

    #[test]
    fn one_container_alone_is_asked_itself() {
        let mut source = HostSource::open();
        let host = source.look(false).unwrap();
        assert!(host.kills.is_none() && !host.many && host.total_bytes > 0);
    }
}
