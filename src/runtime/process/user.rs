//! The user a container process runs as: owner of its standard streams, supplementary groups, gid, uid.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{Gid, Uid, read, setgid, setgroups, setuid};
use oci_spec::runtime::User;

use super::proc_root::ProcRoot;
use super::reason::Reason;
use crate::sys::process::set_owner;

/// Why the user could not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A standard stream is not there.
    #[error("fstat {stream}: {reason}")]
    Stat {
        /// stdin, stdout or stderr.
        stream: &'static str,
        /// The kernel's answer.
        reason: Reason,
    },
    /// A standard stream could not be given to the user.
    #[error("chown {stream}: {reason}")]
    Chown {
        /// stdin, stdout or stderr.
        stream: &'static str,
        /// The kernel's answer.
        reason: Reason,
    },
    /// setgroups(2) failed.
    #[error("setgroups: {0}")]
    Groups(Reason),
    /// No such gid in the user namespace.
    #[error("cannot setgid to unmapped gid {0} in user namespace")]
    UnmappedGid(u32),
    /// No such uid in the user namespace.
    #[error("cannot setuid to unmapped uid {0} in user namespace")]
    UnmappedUid(u32),
    /// setgid(2) or setuid(2) failed.
    #[error("{0}")]
    Set(Reason),
}

/// Becomes the user of the spec. `rootless`: rt itself was started by an ordinary user; groups are left alone then.
pub fn apply(user: &User, rootless: bool) -> Result<(), UserError> {
    own_standard_streams(user.uid())?;
    if !rootless {
        apply_groups(user.additional_gids().as_deref().unwrap_or_default())?;
    }
    setgid(Gid::from_raw(user.gid())).map_err(|errno| match errno {
        Errno::EINVAL => UserError::UnmappedGid(user.gid()),
        errno => UserError::Set(errno.into()),
    })?;
    setuid(Uid::from_raw(user.uid())).map_err(|errno| match errno {
        Errno::EINVAL => UserError::UnmappedUid(user.uid()),
        errno => UserError::Set(errno.into()),
    })
}

/// Sets the supplementary groups. Where the user namespace denies setgroups(2) they are left as they are,
/// silently, as in runc: nothing can be done about it since Linux 3.19.
fn apply_groups(gids: &[u32]) -> Result<(), UserError> {
    let groups: Vec<Gid> = gids.iter().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        Ok(()) => Ok(()),
        // Asked only now: outside of user namespaces the file need not be read.
        Err(Errno::EPERM) if setgroups_denied() => {
            tracing::debug!("setgroups is denied in this user namespace: groups {gids:?} are not set");
            Ok(())
        }
        Err(errno) => Err(UserError::Groups(errno.into())),
    }
}

fn setgroups_denied() -> bool {
    let mut text = [0_u8; 16];
    let length = ProcRoot::open()
        .and_then(|proc| proc.open_self("setgroups", OFlag::O_RDONLY))
        .and_then(|file| read(&file, &mut text))
        .unwrap_or(0);
    text[..length].trim_ascii() == b"deny"
}

/// Gives the standard streams to the user, so that it can reopen /dev/stdout and use its terminal. The group
/// stays: a mount option may have chosen it.
fn own_standard_streams(uid: u32) -> Result<(), UserError> {
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (stream, file) in [("stdin", input.as_fd()), ("stdout", output.as_fd()), ("stderr", error.as_fd())] {
        let found = fstat(file).map_err(|errno| UserError::Stat { stream, reason: errno.into() })?;
        if found.st_uid == uid || is_dev_null(&found) {
            continue;
        }
        match set_owner(file, uid) {
            // The owner is not mapped in this user namespace, or /dev is read-only: better left alone. A user that
            // is not mapped (EINVAL) is told about below, in clearer words.
            Ok(()) | Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL) => {}
            Err(errno) => return Err(UserError::Chown { stream, reason: errno.into() }),
        }
    }
    Ok(())
}

fn is_dev_null(found: &FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
        && found.st_rdev == libc::makedev(1, 3)
}
