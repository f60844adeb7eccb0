//! Waiting for OOM kills: an eventfd on v1, inotify on v2.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::{Cgroup, CgroupError, Result, Version, knob};

/// What a readable [`OomWatch`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// The cgroup ran out of memory.
    Oom,
    /// The cgroup is gone (v1), or nothing runs in it any more (v2): no further event will come.
    Gone,
    /// Nothing of interest.
    Nothing,
}

/// A subscription to the cgroup's OOM events: poll its descriptor for input, then ask [`OomWatch::take`].
#[derive(Debug)]
pub struct OomWatch {
    dir: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    V1 { event: EventFd, _control: File },
    V2 { inotify: Inotify, memory: WatchDescriptor, kills: u64 },
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1 { event, .. } => event.as_fd(),
            Source::V2 { inotify, .. } => inotify.as_fd(),
        }
    }
}

impl Cgroup {
    /// Subscribes to OOM events.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let dir = self.path_of("memory").ok_or(CgroupError::NoMemoryController)?;
        let source = match self.version {
            Version::V2 => watch_v2(dir)?,
            Version::V1 | Version::Hybrid => watch_v1(dir)?,
        };
        Ok(OomWatch { dir: dir.to_path_buf(), source })
    }

    /// How many processes the OOM killer has killed in this cgroup (v1: not in its sub-cgroups).
    pub fn oom_kills(&self) -> Result<u64> {
        let dir = self.path_of("memory").ok_or(CgroupError::NoMemoryController)?;
        let file = match self.version {
            Version::V2 => "memory.events",
            Version::V1 | Version::Hybrid => "memory.oom_control",
        };
        knob::read_key(dir, file, "oom_kill")
    }
}

fn watch_v1(dir: &Path) -> Result<Source> {
    let path = dir.join("memory.oom_control");
    let control = File::open(&path).map_err(|error| CgroupError::Open { path: path.clone(), error })?;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|errno| CgroupError::Watch { path, errno })?;
    let path = dir.join("cgroup.event_control");
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|error| CgroupError::Write { path, data: line, error })?;
    Ok(Source::V1 { event, _control: control })
}

fn watch_v2(dir: &Path) -> Result<Source> {
    let failed = |errno| CgroupError::Watch { path: dir.to_path_buf(), errno };
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
    let add = |name: &str| inotify.add_watch(&dir.join(name), AddWatchFlags::IN_MODIFY).map_err(failed);
    let memory = add("memory.events")?;
    add("cgroup.events")?;
    let kills = knob::read_key(dir, "memory.events", "oom_kill")?;
    Ok(Source::V2 { inotify, memory, kills })
}

impl OomWatch {
    /// What has happened since the last call. Does not wait.
    pub fn take(&mut self) -> Result<OomEvent> {
        let failed = |dir: &Path, errno| CgroupError::Watch { path: dir.to_path_buf(), errno };
        match &mut self.source {
            Source::V1 { event, .. } => match event.read() {
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(OomEvent::Nothing),
                Err(errno) => Err(failed(&self.dir, errno)),
                // Removing the cgroup fires the eventfd as well.
                Ok(_) if !self.dir.join("cgroup.event_control").exists() => Ok(OomEvent::Gone),
                Ok(_) => Ok(OomEvent::Oom),
            },
            Source::V2 { inotify, memory, kills } => {
                let events = match inotify.read_events() {
                    Err(Errno::EAGAIN | Errno::EINTR) => return Ok(OomEvent::Nothing),
                    events => events.map_err(|errno| failed(&self.dir, errno))?,
                };
                if events.iter().any(|event| event.wd == *memory) {
                    let now = knob::read_key(&self.dir, "memory.events", "oom_kill").unwrap_or(*kills);
                    if std::mem::replace(kills, now) < now {
                        return Ok(OomEvent::Oom);
                    }
                }
                let gone = match knob::read_key(&self.dir, "cgroup.events", "populated") {
                    Ok(populated) => populated == 0,
                    Err(_) => true,
                };
                Ok(if gone { OomEvent::Gone } else { OomEvent::Nothing })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroups::lab::v2_fixture;

    #[test]
    fn v2_reports_a_new_kill_once_and_then_the_end() {
        let (root, cgroup) = v2_fixture(&[
            ("memory.events", "oom 0\noom_kill 3\n"),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
        ]);
        let dir = root.path().join("box");
        let mut watch = cgroup.watch_oom().unwrap();
        assert_eq!(watch.take().unwrap(), OomEvent::Nothing);
        std::fs::write(dir.join("memory.events"), "oom 1\noom_kill 4\n").unwrap();
        assert_eq!(watch.take().unwrap(), OomEvent::Oom);
        std::fs::write(dir.join("memory.events"), "oom 2\noom_kill 4\n").unwrap();
        assert_eq!(watch.take().unwrap(), OomEvent::Nothing);
        std::fs::write(dir.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert_eq!(watch.take().unwrap(), OomEvent::Gone);
    }
}
