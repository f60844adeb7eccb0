//! SELinux labels of a container process: of the program it executes and of keys it makes.

use nix::errno::Errno;
use nix::sys::statfs::{SELINUX_MAGIC, statfs};

use super::proc_root::ProcRoot;
use super::reason::Reason;

/// Why a label was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelinuxError {
    /// The host has no SELinux.
    #[error("selinux label is specified in config, but selinux is disabled or not supported")]
    Disabled,
    /// The kernel refused the label of the program.
    #[error("can't set process label: {0}")]
    ExecLabel(Reason),
    /// The kernel refused the label of keys.
    #[error("can't set key label: {0}")]
    KeyLabel(Reason),
}

/// Whether SELinux is on: its file system is mounted.
#[must_use]
pub fn is_enabled() -> bool {
    statfs("/sys/fs/selinux").is_ok_and(|found| found.filesystem_type() == SELINUX_MAGIC)
}

/// Refuses a process label on a host without SELinux, in the parent.
pub fn validate(process_label: &str) -> Result<(), SelinuxError> {
    if process_label.is_empty() || is_enabled() { Ok(()) } else { Err(SelinuxError::Disabled) }
}

/// Sets the label of the next exec; an empty label does nothing.
pub fn apply_exec_label(label: &str) -> Result<(), SelinuxError> {
    if label.is_empty() {
        return Ok(());
    }
    ProcRoot::open()
        .and_then(|proc| proc.write_self("attr/exec", label.as_bytes()))
        .map_err(|errno| SelinuxError::ExecLabel(errno.into()))
}

/// Sets the label of keys made from now on; an empty label resets it. A kernel without the file is fine.
pub fn apply_key_label(label: &str) -> Result<(), SelinuxError> {
    if label.is_empty() && !is_enabled() {
        return Ok(());
    }
    match ProcRoot::open().and_then(|proc| proc.write_self("attr/keycreate", label.as_bytes())) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EACCES | Errno::EPERM) if label.is_empty() => Ok(()),
        Err(errno) => Err(SelinuxError::KeyLabel(errno.into())),
    }
}
