//! The AppArmor profile a container process gets at exec. As in runc, a host without AppArmor is only found out
//! when the kernel refuses the write. Own code: libcontainer tries both files with a new procfs handle each.

use nix::errno::Errno;

use super::proc_root::ProcRoot;
use super::reason::Reason;

/// The profile could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("apparmor failed to apply profile: {reason}")]
pub struct AppArmorError {
    reason: Reason,
}

/// Whether the host confines processes with AppArmor (for `features`).
#[must_use]
pub fn is_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Sets the profile of the next exec; an empty name sets none.
pub fn apply(profile: &str) -> Result<(), AppArmorError> {
    if profile.is_empty() {
        return Ok(());
    }
    let value = format!("exec {profile}");
    let write = |proc: &ProcRoot, file| proc.write_self(file, value.as_bytes());
    ProcRoot::open()
        .and_then(|proc| match write(&proc, "attr/apparmor/exec") {
            // Kernels before 5.8 have the file of the first security module only.
            Err(Errno::ENOENT) => write(&proc, "attr/exec"),
            result => result,
        })
        .map_err(|errno| AppArmorError { reason: errno.into() })
}
