//! The execution domain of a container process: what uname(2) reports as the machine. Flags are not supported,
//! by runc neither: they are left out with a warning.

use nix::sys::personality::{self, Persona};
use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain};

use super::reason::Reason;

/// Why the domain was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PersonalityError {
    /// Neither LINUX nor LINUX32.
    #[error("invalid personality domain {0}")]
    Domain(String),
    /// personality(2) failed.
    #[error("set_personality: {0}")]
    Set(Reason),
}

/// Reads a domain in runc's words, before the spec's own parser sees it.
pub fn parse(domain: &str) -> Result<LinuxPersonalityDomain, PersonalityError> {
    domain.parse().map_err(|_| PersonalityError::Domain(domain.to_owned()))
}

/// Warns about flags, once, in the parent.
pub fn validate(spec: &LinuxPersonality) {
    if let Some(flags) = spec.flags().as_ref().filter(|flags| !flags.is_empty()) {
        tracing::warn!("ignoring unsupported personality flags: [{}]", flags.join(" "));
    }
}

/// Sets the domain of the calling process. Must come before a seccomp filter that denies personality(2).
pub fn apply(spec: &LinuxPersonality) -> Result<(), PersonalityError> {
    let domain = match spec.domain() {
        LinuxPersonalityDomain::PerLinux => Persona::empty(),
        LinuxPersonalityDomain::PerLinux32 => Persona::from_bits_retain(0x0008),
    };
    personality::set(domain).map(drop).map_err(|errno| PersonalityError::Set(errno.into()))
}
