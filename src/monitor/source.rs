//! Where readings of one container, watched alone, come from.

use std::path::Path;

use super::host::HostSource;
use super::member::Member;
use super::reading::Reading;
use crate::cgroup::ancestors::Ancestors;
use crate::cgroup::gauge::Gauge;
use crate::cgroup::locate::{locate_dir, mounts};
use crate::cgroup::pressure::PressureSource;
use crate::cgroup::{CgroupError, MemoryCgroup};

/// The memory of one cgroup, and of the host it is on.
#[derive(Debug)]
pub struct Source {
    host: HostSource,
    member: Member,
}

impl Source {
    /// Opens the cgroup of process `pid`.
    pub fn of_process(pid: i32) -> Result<Self, CgroupError> {
        Self::of_container(pid, None)
    }

    /// Opens the cgroup that the container with this init was given, where that is known.
    pub fn of_container(init: i32, own: Option<&MemoryCgroup>) -> Result<Self, CgroupError> {
        let mut host = HostSource::open();
        let now = host.look(false)?;
        let member = Member::of_container(init, own, &mounts()?, &mut Ancestors::default(), &now, 0)?;
        Ok(Self { host, member })
    }

    /// Opens the memory cgroup in `dir`.
    pub fn of_folder(dir: &Path) -> Result<Self, CgroupError> {
        let cgroup = MemoryCgroup::at(&locate_dir(dir, &mounts()?)?)?;
        let pressure = PressureSource::of_folder(&cgroup.dir)?;
        let mut host = HostSource::open();
        let now = host.look(false)?;
        let member = Member::new(Gauge::open(cgroup)?, pressure, &mut Ancestors::default(), &now, 0)?;
        Ok(Self { host, member })
    }

    /// The memory now.
    pub fn read(&mut self) -> Result<Reading, CgroupError> {
        let host = self.host.look(false)?;
        self.member.read(&host)
    }
}
