//! CPU affinity: a new process gets all CPUs its cgroup allows, whatever the caller of rt was pinned to; an
//! exec can ask for a list before and one after it is moved into the cgroup. libcontainer never resets it.

use nix::errno::Errno;
use oci_spec::runtime::ExecCPUAffinity;

use super::id_list::{IdListError, IdSet};
use super::reason::Reason;
use crate::sys::process as sys;

/// Why an affinity could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AffinityError {
    /// Not a list of CPUs; the field is Initial or Final.
    #[error("bad CPUAffinity.{field}: {reason}")]
    List {
        /// "Initial" or "Final".
        field: &'static str,
        /// What is wrong with it.
        reason: IdListError,
    },
    /// sched_setaffinity(2) failed.
    #[error("error setting {step} CPU affinity: {reason}")]
    Set {
        /// "initial" or "final".
        step: &'static str,
        /// The kernel's answer.
        reason: Reason,
    },
}

/// What `process.execCPUAffinity` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecAffinity {
    /// Set before the process enters the cgroup.
    pub initial: Option<IdSet>,
    /// Set after it did.
    pub last: Option<IdSet>,
}

impl ExecAffinity {
    /// The lists of a spec; none asks for nothing.
    pub fn from_spec(spec: Option<&ExecCPUAffinity>) -> Result<Self, AffinityError> {
        let list = |field, text: Option<&String>| {
            IdSet::parse(text.map(String::as_str).unwrap_or_default())
                .map_err(|reason| AffinityError::List { field, reason })
        };
        let Some(spec) = spec else { return Ok(Self::default()) };
        Ok(Self {
            initial: list("Initial", spec.initial().as_ref())?,
            last: list("Final", spec.cpu_affinity_final().as_ref())?,
        })
    }

    /// Before the process is moved into its cgroup: the initial list, where there is one.
    pub fn apply_initial(&self, pid: i32) -> Result<(), AffinityError> {
        set(pid, self.initial.as_ref(), "initial")
    }

    /// After the move: the final list, or all CPUs where the spec asks for nothing at all.
    pub fn apply_final(&self, pid: i32) -> Result<(), AffinityError> {
        if self.initial.is_none() && self.last.is_none() {
            reset(pid);
            return Ok(());
        }
        set(pid, self.last.as_ref(), "final")
    }
}

fn set(pid: i32, cpus: Option<&IdSet>, step: &'static str) -> Result<(), AffinityError> {
    let Some(cpus) = cpus else { return Ok(()) };
    sys::sched_setaffinity(pid, cpus.words())
        .map_err(|errno| AffinityError::Set { step, reason: errno.into() })
}

/// Gives `pid` (0: the caller) every CPU that its cpuset allows, now and when the cpuset grows. Call it after
/// the process was moved into its cgroup. A failure is only a warning, as in runc.
pub fn reset(pid: i32) {
    // The kernel cuts the mask to the CPUs it can have (64 Ki is above any NR_CPUS) and to the cpuset, so that
    // no file needs to be read.
    const ALL: [u64; 1024] = [u64::MAX; 1024];
    if let Err(errno) = sys::sched_setaffinity(pid, &ALL) {
        tracing::warn!(
            "resetting the CPU affinity of pid {pid} failed -- the container process may inherit rt's CPU affinity: {}",
            Reason(errno)
        );
    }
}

/// The first 64 CPUs the caller may run on, as a bit mask (for the debug log).
pub fn current_mask() -> Result<u64, Errno> {
    let mut cpus = [0_u64; 1024];
    sys::sched_getaffinity(&mut cpus)?;
    Ok(cpus[0])
}
