//! Many containers at once: which there are is asked again at each tick, descriptors of the known ones are kept.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use super::host::{Host, HostSource};
use super::member::Member;
use super::pace::{Pace, Wake};
use super::{End, MonitorError, Reading, setup};
use crate::cgroup::ancestors::Ancestors;
use crate::cgroup::locate::{CgroupMount, mounts};
use crate::cgroup::{CgroupError, MemoryCgroup};
use crate::sys::worker::pidfd_open;

/// A container that lives.
#[derive(Debug, Clone)]
pub struct Found {
    pub id: String,
    pub init: Pid,
    /// What it was given at create; `None` where that is not known.
    pub cgroup: Option<MemoryCgroup>,
}

/// Says which containers live that are not known yet.
pub type Find<'a> = dyn FnMut(&Known) -> io::Result<Vec<Found>> + 'a;

/// Shows readings of containers by name.
pub type See<'a> = dyn FnMut(&[(String, Reading)]) -> io::Result<()> + 'a;

/// From so many on it is cheaper to ask the host whether there were OOM kills (some 20 µs) than each container.
const MANY: usize = 16;

/// A container that is watched.
#[derive(Debug)]
struct Watched {
    member: Member,
    /// Its init's descriptor, closed when it is forgotten, and what [`Pace`] calls it.
    _init: OwnedFd,
    number: u32,
}

/// Containers by name.
#[derive(Debug, Default)]
pub struct Known {
    watched: BTreeMap<String, Watched>,
    ancestors: Ancestors,
    /// Of those that were ever begun.
    next: u32,
}

impl Known {
    /// The names of those that are watched already, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.watched.keys().map(String::as_str)
    }

    /// Begins to watch the container with this init; one that has gone meanwhile is left out.
    fn add(
        &mut self,
        Found { id, init, cgroup }: Found,
        mounts: &[CgroupMount],
        host: &Host,
        pace: &Pace,
    ) -> Result<(), MonitorError> {
        // The descriptor first: whatever is located afterwards belongs to this process or to none.
        let fd = match pidfd_open(init) {
            Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(()),
            opened => opened.map_err(setup("process descriptor"))?,
        };
        let number = self.next;
        let own = cgroup.as_ref();
        let member = match Member::of_container(init.as_raw(), own, mounts, &mut self.ancestors, host, number)
        {
            Err(e) if has_gone(&e) => return Ok(()),
            opened => opened?,
        };
        pace.end_with(fd.as_fd(), number)?;
        self.next = number.wrapping_add(1);
        self.watched.insert(id, Watched { member, _init: fd, number });
        Ok(())
    }

    /// A reading of each; those that have ended are forgotten.
    fn read(&mut self, host: &Host) -> Result<Vec<(String, Reading)>, MonitorError> {
        let mut readings = Vec::with_capacity(self.watched.len());
        let mut gone = Vec::new();
        for (id, watched) in &mut self.watched {
            match watched.member.read(host) {
                Ok(reading) => readings.push((id.clone(), reading)),
                Err(e) if has_gone(&e) => gone.push(id.clone()),
                Err(e) => return Err(e.into()),
            }
        }
        gone.iter().for_each(|id| drop(self.watched.remove(id)));
        Ok(readings)
    }

    /// Forgets those whose init has ended.
    fn forget(&mut self, ended: &[u32]) {
        self.watched.retain(|_, watched| !ended.contains(&watched.number));
    }
}

/// Six descriptors a container, seven where something is in swap: the usual soft limit of 1024 would do for some 160. Where the
/// hard one is too low as well, the container that does not fit any more is named in the error.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn has_gone(error: &CgroupError) -> bool {
    error.is_missing() || matches!(error, CgroupError::NoProcess { .. })
}

/// Shows a reading of each container at once and then at each `interval`.
pub fn watch_all(
    interval: Duration,
    time: Option<Duration>,
    find: &mut Find<'_>,
    see: &mut See<'_>,
) -> Result<End, MonitorError> {
    raise_descriptor_limit();
    let pace = Pace::new(interval, time)?;
    let mut hosts = HostSource::open();
    let mut known = Known::default();
    loop {
        let found = find(&known).map_err(setup("list of containers"))?;
        let host = hosts.look(known.watched.len() + found.len() >= MANY)?;
        let mounts = if found.is_empty() { Vec::new() } else { mounts()? };
        for container in found {
            known.add(container, &mounts, &host, &pace)?;
        }
        see(&known.read(&host)?).map_err(MonitorError::Show)?;
        // An end between two ticks is taken, and the tick is waited for.
        loop {
            match pace.wait()? {
                Wake::Ended(ended) => known.forget(&ended),
                Wake::Tick => break,
                Wake::TimeUp => return Ok(End::TimeUp),
                Wake::Interrupted => return Ok(End::Interrupted),
            }
        }
    }
}
