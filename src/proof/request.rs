//! What a door (command line, hook, verify) asks of the prover.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::record;
use super::record_dir::RecordDir;
use super::strategy::Strategy;
use super::victims;
use crate::cgroup::MemoryCgroup;
use crate::units::MIB;

/// The state of the container as its runtime knows it. Frozen is read from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Created, running, or not known to a runtime of ours (`--pid`, `--cgroup`).
    Live,
    Paused,
    Stopped,
}

/// Where the worker goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The memory cgroup of this process.
    Process(Pid),
    /// This folder of the memory controller.
    Folder(PathBuf),
}

/// The container (or process, or cgroup) whose limit is to be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What the user calls it.
    pub id: String,
    pub bundle: Option<PathBuf>,
    /// `None` where a stopped container has no process any more.
    pub place: Option<Place>,
    /// The container's own memory cgroup, as its runtime made it: a container may have gone on into one below. `None` where
    /// nobody knows it, and [`Self::place`] is taken for it.
    pub cgroup: Option<MemoryCgroup>,
    /// The process that must not die; the container's init.
    pub init: Option<Pid>,
    pub status: Status,
    /// Folders that keep the record, each in a file [`super::journal::FILE`].
    pub record_dirs: Vec<RecordDir>,
}

impl Subject {
    /// A process of any runtime (`--pid`).
    pub fn of_process(pid: Pid) -> Self {
        Self {
            id: format!("pid {pid}"),
            bundle: None,
            place: Some(Place::Process(pid)),
            cgroup: None,
            init: Some(pid),
            status: Status::Live,
            record_dirs: Vec::new(),
        }
    }

    /// Whether the init has ended, or is about to. What was read through its pid holds only where this is not so afterwards.
    pub fn has_lost_init(&self) -> bool {
        self.init.is_some_and(|pid| victims::is_doomed(pid.as_raw(), None))
    }

    /// A cgroup folder (`--cgroup`).
    pub fn of_folder(dir: PathBuf) -> Self {
        Self {
            id: dir.display().to_string(),
            bundle: None,
            place: Some(Place::Folder(dir)),
            cgroup: None,
            init: None,
            status: Status::Live,
            record_dirs: Vec::new(),
        }
    }
}

/// The limit somebody asked for, in bytes, to be compared with the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nobody can tell (`--pid` without `--expect`): the kernel's limit is taken as meant.
    Unknown,
    /// No limit was asked for.
    Unlimited,
    Limited(u64),
}

impl Asked {
    /// The limit in bytes; `None` for none or not known.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Limited(bytes) => Some(bytes),
            Self::Unknown | Self::Unlimited => None,
        }
    }
}

/// What started a proof; recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    Command,
    Verify,
    Hook,
}

/// How much is used at a time unless told otherwise: what the kernel has just zeroed is still in the cache when it is written
/// (7 % faster than 1 MiB; with less than 64 KiB the calls cost more).
pub const STEP_BYTES: u64 = MIB / 4;

/// One proof to be made.
#[derive(Debug, Clone)]
pub struct Request {
    pub subject: Subject,
    pub asked: Asked,
    /// Bytes to write; `None` crosses the limit.
    pub target_bytes: Option<u64>,
    pub strategy: Strategy,
    /// Where the `file` strategy writes, as the container sees it; `None` for the usual folders.
    pub file_dir: Option<PathBuf>,
    pub step_bytes: u64,
    /// `None`: scaled by the size and the CPU limit.
    pub timeout: Option<Duration>,
    /// How much may be written where there is no limit.
    pub up_to_bytes: Option<u64>,
    pub allow_kill_container: bool,
    /// Put the kernel's peak back to what is in use afterwards, where it can be (v1): nothing of the container's own
    /// has run yet.
    pub reset_peak: bool,
    pub trigger: Trigger,
    /// One name for the proofs of all strategies that this request is made with.
    pub run: String,
    /// The program that has the `__worker` subcommand.
    pub worker_program: PathBuf,
    /// Where locks of running proofs are kept; `None` for the usual folder.
    pub lock_dir: Option<PathBuf>,
}

impl Request {
    /// A request with the defaults: sequential, [`STEP_BYTES`], across the limit.
    pub fn new(subject: Subject, asked: Asked) -> Self {
        Self {
            subject,
            asked,
            target_bytes: None,
            strategy: Strategy::Sequential,
            file_dir: None,
            step_bytes: STEP_BYTES,
            timeout: None,
            up_to_bytes: None,
            allow_kill_container: false,
            reset_peak: false,
            trigger: Trigger::Command,
            run: record::new_name(),
            worker_program: PathBuf::from("/proc/self/exe"),
            lock_dir: None,
        }
    }
}
