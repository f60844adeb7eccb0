//! Many containers at once: which there are is asked again at each tick, descriptors of the known ones are kept.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use super::pace::{Pace, Wake};
use super::{End, MonitorError, Reading, Source, setup};
use crate::cgroup::CgroupError;
use crate::sys::worker::pidfd_open;

/// Says which containers live that are not known yet, with their init.
pub type Find<'a> = dyn FnMut(&Known) -> io::Result<Vec<(String, Pid)>> + 'a;

/// Shows readings of containers by name.
pub type See<'a> = dyn FnMut(&[(String, Reading)]) -> io::Result<()> + 'a;

/// A container that is watched.
#[derive(Debug)]
struct Watched {
    source: Source,
    init: OwnedFd,
}

/// Containers by name.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, Watched>);

impl Known {
    /// True where the container is watched already.
    pub fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Begins to watch the container with this init; one that has gone meanwhile is left out.
    fn add(&mut self, id: String, init: Pid) -> Result<(), MonitorError> {
        // The descriptor first: whatever is located afterwards belongs to this process or to none.
        let fd = match pidfd_open(init) {
            Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(()),
            opened => opened.map_err(setup("process descriptor"))?,
        };
        match Source::of_process(init.as_raw()) {
            Err(e) if has_gone(&e) => Ok(()),
            opened => {
                self.0.insert(id, Watched { source: opened?, init: fd });
                Ok(())
            }
        }
    }

    /// A reading of each; those that have ended are forgotten.
    fn read(&mut self) -> Result<Vec<(String, Reading)>, MonitorError> {
        let mut readings = Vec::with_capacity(self.0.len());
        let mut gone = Vec::new();
        for (id, watched) in &mut self.0 {
            match watched.source.read() {
                Ok(reading) => readings.push((id.clone(), reading)),
                Err(e) if has_gone(&e) => gone.push(id.clone()),
                Err(e) => return Err(e.into()),
            }
        }
        gone.iter().for_each(|id| drop(self.0.remove(id)));
        Ok(readings)
    }

    /// Forgets those whose init is ready, in the order of their names: it has ended.
    fn forget(&mut self, ended: &[bool]) {
        let mut ended = ended.iter();
        self.0.retain(|_, _| !ended.next().copied().unwrap_or(false));
    }
}

/// Eight descriptors a container: the usual soft limit of 1024 would do for some 120. Where the hard one is too low
/// as well, the container that does not fit any more is named in the error.
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
    let mut known = Known::default();
    loop {
        for (id, init) in find(&known).map_err(setup("list of containers"))? {
            known.add(id, init)?;
        }
        see(&known.read()?).map_err(MonitorError::Show)?;
        // An end between two ticks is taken, and the tick is waited for.
        loop {
            let inits: Vec<_> = known.0.values().map(|watched| watched.init.as_fd()).collect();
            match pace.wait(&inits)? {
                Wake::TimeUp => return Ok(End::TimeUp),
                Wake::Interrupted => return Ok(End::Interrupted),
                Wake::Ready(ended) if ended.contains(&true) => known.forget(&ended),
                Wake::Ready(_) => break,
            }
        }
    }
}
