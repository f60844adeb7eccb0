//! Everything preflight and plan judge by, gathered once from the kernel.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::error::ProofError;
use super::hostmem::Host;
use super::lockable::lockable_bytes;
use super::request::{Place, Status, Subject};
use super::victims::{self, Candidate};
use crate::cgroup::{
    CgroupError, Counters, Limiter, Location, MemoryCgroup, Meter, Version, freezer, host, limiter, locate,
};

/// Room under an ancestor's limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Above {
    pub name: String,
    pub limit_bytes: u64,
    /// What fits before this limit is hit, page cache that lies idle counted as room.
    pub room_bytes: u64,
}

/// The memory cgroup as it was found.
#[derive(Debug, Clone)]
pub struct Accounting {
    /// Where processes join.
    pub location: Location,
    /// The folder that accounts them.
    pub cgroup: MemoryCgroup,
    pub limiter: Option<Limiter>,
    /// The cgroup's own limit, in bytes.
    pub limit_bytes: Option<u64>,
    /// The container's own cgroup, where it is not [`Self::cgroup`] but above it.
    pub container: Option<Container>,
    /// The lowest memory.high on the way up.
    pub high_bytes: Option<u64>,
    pub swap_limit_bytes: Option<u64>,
    /// What may go to swap before the limit kills, bounded by the host's free swap.
    pub swap_room_bytes: u64,
    /// The cgroup on the way to the limiter that has memory.oom.group set.
    pub oom_group: Option<String>,
    pub oom_disabled: bool,
    /// This process is charged to the same cgroup.
    pub holds_prover: bool,
    /// Bytes that the kernel can take back without swap.
    pub reclaimable_bytes: u64,
    pub counters: Counters,
    /// Limits above the limiter.
    pub above: Vec<Above>,
    /// Share of one CPU that the worker gets; `None` for a whole one.
    pub cpu_share: Option<f64>,
}

/// The cgroup that a container was given, when its processes have gone into one below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub cgroup: MemoryCgroup,
    /// The limit that binds there, in bytes.
    pub limit_bytes: Option<u64>,
}

impl Accounting {
    /// The limit that binds at the container's own cgroup, in bytes: what was asked for is compared with this one. A
    /// container that can write to its cgroups sets those below as it likes.
    pub fn container_limit(&self) -> Option<u64> {
        self.container.as_ref().map_or_else(|| self.effective_limit(), |container| container.limit_bytes)
    }

    /// The limit that binds, in bytes.
    pub fn effective_limit(&self) -> Option<u64> {
        self.limiter.as_ref().map(|l| l.limit_bytes)
    }

    /// Charged now at the level of the limiter.
    pub fn usage_at_limiter(&self) -> Result<u64, CgroupError> {
        self.limiter.as_ref().map_or(Ok(self.counters.usage_bytes), |l| l.cgroup.usage())
    }
}

/// All facts of one subject.
#[derive(Debug, Clone)]
pub struct Facts {
    pub host: Host,
    pub status: Status,
    pub init: Option<Pid>,
    /// `None` for a stopped container, and where the kernel accounts no memory for it.
    pub accounting: Option<Accounting>,
    /// The processes that the limiter's OOM killer could choose.
    pub candidates: Vec<Candidate>,
    /// What this process may lock.
    pub lockable_bytes: u64,
}

impl Facts {
    /// Reads the facts about `subject`. A process that has gone, or goes meanwhile, makes it stopped: then what was read, or could
    /// not be, is another cgroup's.
    pub fn gather(subject: &Subject) -> Result<Self, ProofError> {
        let host = Host::read()?;
        let (Some(place), false) = (&subject.place, subject.status == Status::Stopped) else {
            return Ok(Self::stopped(host));
        };
        let read = Self::read(subject, place, host.clone());
        if subject.has_lost_init() {
            return Ok(Self::stopped(host));
        }
        match read {
            Err(ProofError::Cgroup(CgroupError::NoProcess { .. })) => Ok(Self::stopped(host)),
            read => read,
        }
    }

    fn stopped(host: Host) -> Self {
        Self {
            host,
            status: Status::Stopped,
            init: None,
            accounting: None,
            candidates: Vec::new(),
            lockable_bytes: 0,
        }
    }

    fn read(subject: &Subject, place: &Place, host: Host) -> Result<Self, ProofError> {
        let location = own_of(locate_place(place)?, subject);
        let frozen = match subject.init {
            Some(pid) => freezer::frozen(pid.as_raw()).unwrap_or(false),
            None => false,
        };
        let status = if frozen { Status::Paused } else { subject.status };
        let accounting = match MemoryCgroup::at(&location) {
            Ok(cgroup) => Some(account(location, cgroup, &host, subject)?),
            Err(CgroupError::NotAccounted { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let candidates = match accounting.as_ref().and_then(|a| a.limiter.as_ref()) {
            Some(limiter) => victims::candidates(&limiter.cgroup, &[])?,
            None => Vec::new(),
        };
        let lockable_bytes = lockable_bytes();
        Ok(Self { host, status, init: subject.init, accounting, candidates, lockable_bytes })
    }
}

fn locate_place(place: &Place) -> Result<Location, CgroupError> {
    match place {
        Place::Process(pid) => locate(pid.as_raw(), "memory"),
        Place::Folder(dir) => locate::locate_dir(dir, &locate::mounts()?),
    }
}

/// On v1 a worker need not be where the container's processes have gone: its own cgroup takes it as well.
fn own_of(found: Location, subject: &Subject) -> Location {
    let own = subject.cgroup.as_ref().filter(|own| own.version == Version::V1);
    let Some((own, below)) = own.and_then(|own| Some((own, found.dir.strip_prefix(&own.dir).ok()?))) else {
        return found;
    };
    let path = Path::new(&found.path).ancestors().nth(below.components().count());
    let path = path.map_or_else(|| found.path.clone(), |path| path.to_string_lossy().into_owned());
    Location { version: found.version, path, mount: found.mount, dir: own.dir.clone() }
}

/// The container's own cgroup where `cgroup` is below it.
fn container_above(cgroup: &MemoryCgroup, subject: &Subject) -> Result<Option<Container>, CgroupError> {
    let is_own = |at: &MemoryCgroup| subject.cgroup.as_ref().is_some_and(|own| own.dir == at.dir);
    let Some(own) = cgroup.upwards().skip(1).find(is_own) else { return Ok(None) };
    let limit_bytes = limiter(&own)?.map(|limiter| limiter.limit_bytes);
    Ok(Some(Container { cgroup: own, limit_bytes }))
}

fn account(
    location: Location,
    cgroup: MemoryCgroup,
    host: &Host,
    subject: &Subject,
) -> Result<Accounting, ProofError> {
    let counters = Meter::open(&cgroup)?.read()?;
    let limiter = limiter(&cgroup)?;
    let limiter_dir = limiter.as_ref().map_or_else(|| cgroup.dir.clone(), |l| l.cgroup.dir.clone());
    let way = OnTheWay::read(&cgroup, &limiter_dir)?;
    Ok(Accounting {
        limit_bytes: cgroup.limit()?,
        high_bytes: way.high_bytes,
        swap_limit_bytes: cgroup.swap_limit()?,
        swap_room_bytes: way.swap_room_bytes.unwrap_or(u64::MAX).min(host.swap_free_bytes),
        oom_group: way.oom_group,
        oom_disabled: way.oom_disabled,
        holds_prover: holds_prover(&cgroup),
        reclaimable_bytes: cgroup.stat()?.reclaimable(),
        counters,
        above: way.above,
        cpu_share: cpu_share(&location, subject.init),
        container: container_above(&cgroup, subject)?,
        limiter,
        location,
        cgroup,
    })
}

fn holds_prover(cgroup: &MemoryCgroup) -> bool {
    let own = i32::try_from(std::process::id()).ok().and_then(|pid| locate(pid, "memory").ok());
    own.and_then(|location| MemoryCgroup::at(&location).ok()).is_some_and(|own| own.dir == cgroup.dir)
}

/// On v1 the worker joins the memory cgroup alone, so the container's CPU limit does not slow it.
fn cpu_share(location: &Location, init: Option<Pid>) -> Option<f64> {
    let cpu = locate(init?.as_raw(), "cpu").ok()?;
    (location.version == Version::V2 && cpu.version == Version::V2).then(|| host::cpu_share(&cpu))?
}

/// What the cgroups between the container's and the mount point say.
#[derive(Default)]
struct OnTheWay {
    high_bytes: Option<u64>,
    swap_room_bytes: Option<u64>,
    oom_group: Option<String>,
    oom_disabled: bool,
    above: Vec<Above>,
}

impl OnTheWay {
    fn read(cgroup: &MemoryCgroup, limiter_dir: &PathBuf) -> Result<Self, CgroupError> {
        let mut way = Self::default();
        let mut below_limiter = true;
        for at in cgroup.upwards() {
            match way.visit(&at, limiter_dir, below_limiter) {
                // The mount point itself may be no cgroup of the controller.
                Err(e) if e.is_missing() && at.dir == at.mount => {}
                other => other?,
            }
            below_limiter &= at.dir != *limiter_dir;
        }
        Ok(way)
    }

    fn visit(
        &mut self,
        at: &MemoryCgroup,
        limiter_dir: &PathBuf,
        below_limiter: bool,
    ) -> Result<(), CgroupError> {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        self.high_bytes = least(self.high_bytes, at.high()?);
        self.swap_room_bytes = least(self.swap_room_bytes, at.swap_room()?);
        if below_limiter && at.oom_group()? {
            self.oom_group = Some(at.name());
        }
        if at.dir == *limiter_dir {
            self.oom_disabled = at.oom_disabled()?;
        } else if !below_limiter
            && at.binds_descendants()?
            && let Some(limit_bytes) = at.limit()?
        {
            let held = at.usage()?.saturating_sub(at.stat()?.inactive_file);
            let room_bytes = limit_bytes.saturating_sub(held);
            self.above.push(Above { name: at.name(), limit_bytes, room_bytes });
        }
        Ok(())
    }
}
