//! Resource limits: set by the parent on the new process, because the right to raise one is lost in a user
//! namespace. libcontainer has them only inside its own init.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

use super::reason::Reason;
use crate::sys::process as sys;

/// Why a limit could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RlimitError {
    /// Not a RLIMIT_ name.
    #[error("wrong rlimit value: {0}")]
    Unknown(String),
    /// prlimit(2) failed.
    #[error("error setting rlimits for ready process: error setting rlimit type {resource}: {reason}")]
    Set {
        /// The RLIMIT_ number.
        resource: u32,
        /// The kernel's answer.
        reason: Reason,
    },
}

/// Sets all limits of `pid` (0: the caller), in order.
pub fn apply(limits: &[PosixRlimit], pid: i32) -> Result<(), RlimitError> {
    for limit in limits {
        let resource = number_of(limit.typ());
        sys::prlimit(pid, resource, limit.soft(), limit.hard())
            .map_err(|errno| RlimitError::Set { resource, reason: errno.into() })?;
    }
    Ok(())
}

/// Checks a name before the spec's own parser sees it, for runc's words.
pub fn parse(name: &str) -> Result<PosixRlimitType, RlimitError> {
    name.parse().map_err(|_| RlimitError::Unknown(name.to_owned()))
}

/// The kernel's number of a limit.
#[must_use]
pub fn number_of(limit: PosixRlimitType) -> u32 {
    match limit {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_to_kernel_numbers() {
        for (name, number) in [("RLIMIT_CPU", 0), ("RLIMIT_NOFILE", 7), ("RLIMIT_RTTIME", 15)] {
            assert_eq!(number_of(parse(name).unwrap()), number);
        }
        assert_eq!(parse("RLIMIT_X").unwrap_err().to_string(), "wrong rlimit value: RLIMIT_X");
    }
}
