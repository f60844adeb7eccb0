//! The five capability sets of a container process as bit masks: bounding is cut before the user changes, the
//! others are set after. Own code: libcontainer writes every set through hash sets with a capget and capset
//! each, and turns an ambient capability that cannot be raised into an error where runc only warns.

use std::collections::BTreeSet;

use libcontainer::capabilities::CapabilityExt;
use nix::errno::Errno;
use nix::sys::prctl;
use oci_spec::runtime::LinuxCapabilities;
use serde::{Deserialize, Serialize};

use super::reason::Reason;
use crate::sys::process as sys;

/// Every capability by number, from linux/capability.h.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Why the sets could not be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// PR_CAPBSET_DROP failed.
    #[error("unable to apply bounding set: {0}")]
    Bounding(Reason),
    /// capset(2) failed: a capability was asked for that the process does not have.
    #[error("unable to apply caps: can't apply capabilities: {0}")]
    Sets(Reason),
    /// The ambient set could not be emptied.
    #[error("unable to apply caps: {0}")]
    Ambient(Reason),
}

/// Bit masks by capability number. The default is: no capability at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// What the process can ever gain.
    pub bounding: u64,
    /// What the kernel checks.
    pub effective: u64,
    /// What survives an exec of a program with file capabilities.
    pub inheritable: u64,
    /// What can be made effective.
    pub permitted: u64,
    /// What survives an exec of any program.
    pub ambient: u64,
}

impl CapabilitySets {
    /// The sets of a spec. What this kernel does not know is left out with a warning.
    #[must_use]
    pub fn from_spec(spec: &LinuxCapabilities) -> Self {
        let mask = |set: &Option<oci_spec::runtime::Capabilities>| {
            set.iter().flatten().fold(0, |mask, capability| mask | 1_u64 << capability.to_cap().index())
        };
        let sets = Self {
            bounding: mask(spec.bounding()),
            effective: mask(spec.effective()),
            inheritable: mask(spec.inheritable()),
            permitted: mask(spec.permitted()),
            ambient: mask(spec.ambient()),
        };
        let mut unknown = BTreeSet::new();
        let sets = sets.limited_to_kernel(&mut unknown);
        warn_unknown(&unknown);
        sets
    }

    fn limited_to_kernel(self, unknown: &mut BTreeSet<String>) -> Self {
        let asked = self.bounding | self.effective | self.inheritable | self.permitted | self.ambient;
        let mut known = u64::MAX;
        // Capabilities are only ever added at the end: the first known one from the top settles it.
        for number in (0..64_u32).rev().filter(|number| asked & 1 << number != 0) {
            if sys::knows_capability(number) {
                break;
            }
            known &= !(1 << number);
            unknown.insert(name_of(number).to_owned());
        }
        Self {
            bounding: self.bounding & known,
            effective: self.effective & known,
            inheritable: self.inheritable & known,
            permitted: self.permitted & known,
            ambient: self.ambient & known,
        }
    }

    /// Cuts the bounding set, before the user changes. It stays where CAP_SETPCAP is missing: with a warning, and only as
    /// long as no program can gain from it.
    pub fn apply_bounding(&self) -> Result<(), CapabilityError> {
        for number in (0..64).filter(|number| self.bounding & 1 << number == 0) {
            match sys::drop_bounding(number) {
                Ok(()) => {}
                // The first number that the kernel does not know.
                Err(Errno::EINVAL) => break,
                Err(Errno::EPERM) => return self.keep_bounding(),
                Err(errno) => return Err(CapabilityError::Bounding(errno.into())),
            }
        }
        Ok(())
    }

    /// Whether the bounding set may stay as the caller of rt has it.
    fn keep_bounding(&self) -> Result<(), CapabilityError> {
        let kept = (0..64).filter(|number| self.bounding & 1 << number == 0 && sys::has_bounding(*number));
        let kept: Vec<&str> = kept.map(name_of).collect();
        if kept.is_empty() {
            return Ok(());
        }
        // Without no_new_privs a set-user-ID program, or one with file capabilities, would have them.
        if !prctl::get_no_new_privs().unwrap_or(false) {
            return Err(CapabilityError::Bounding(Errno::EPERM.into()));
        }
        tracing::warn!(
            "cannot drop capabilities from the bounding set without CAP_SETPCAP: [{}]",
            kept.join(" ")
        );
        Ok(())
    }

    /// Sets effective, permitted and inheritable, then ambient, after the user has changed.
    pub fn apply(&self) -> Result<(), CapabilityError> {
        sys::capset(self.effective, self.permitted, self.inheritable)
            .map_err(|errno| CapabilityError::Sets(errno.into()))?;
        match sys::clear_ambient() {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(CapabilityError::Ambient(errno.into())),
        }
        for number in (0..64).filter(|number| self.ambient & 1 << number != 0) {
            if let Err(errno) = sys::raise_ambient(number) {
                tracing::warn!("can't raise ambient capability {}: {}", name_of(number), Reason(errno));
            }
        }
        Ok(())
    }
}

/// The number of a capability by its full name ("CAP_KILL").
#[must_use]
pub fn number_of(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).and_then(|index| u32::try_from(index).ok())
}

fn name_of(number: u32) -> &'static str {
    NAMES.get(number as usize).copied().unwrap_or("CAP_UNKNOWN")
}

/// runc's warning about names that were left out; silent when there are none.
pub fn warn_unknown(names: &BTreeSet<String>) {
    if !names.is_empty() {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        tracing::warn!("ignoring unknown or unavailable capabilities: [{}]", names.join(" "));
    }
}
