//! Bind mounts: taken as a detached tree, attached, and given the flags that are asked for, with respect to
//! flags that are locked because the mount comes from a more privileged mount namespace.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use libc::c_ulong;
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::symlinkat;

use super::attach::{self, BindSource};
use super::error::{FailedCall, MountFailure};
use super::mounter::Mounter;
use super::options::{MountOptions, flag_names};
use super::proc_guard::{self, Cover};
use super::request::Request;
use super::resolve::{Missing, Place, file_type};
use crate::sys::mount::{self as tree, MountAttributes};

const ATIME_FLAGS: c_ulong =
    libc::MS_NOATIME | libc::MS_RELATIME | libc::MS_STRICTATIME | libc::MS_NODIRATIME;
/// The flags that the kernel locks on mounts inherited from a more privileged mount namespace (MNT_LOCK_*).
const LOCKABLE_FLAGS: c_ulong =
    libc::MS_RDONLY | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOSUID | ATIME_FLAGS;

/// Bind-mounts what `request` names.
pub(super) fn bind(mounter: &mut Mounter<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    if request.options.copy_symlink && copy_symlink(mounter, request)? {
        return Ok(());
    }
    let origin = open_source(mounter, request)?;
    attach_and_set(mounter, request, origin)
}

/// Mounts `origin` on the destination of `request`, with its flags, attributes and propagation.
pub(super) fn attach_and_set(
    mounter: &Mounter<'_>,
    request: &Request<'_>,
    origin: BindSource,
) -> Result<(), MountFailure> {
    let place = mounter.mountpoint(request, || {
        let stat = fstat(&origin)?;
        Ok(if file_type(&stat) == SFlag::S_IFDIR { Missing::Directory } else { Missing::File })
    })?;
    proc_guard::check(mounter.root.path(), &place.path, Cover::Bind(origin.as_fd()))?;
    attach_on(mounter, request, &place, origin)
}

fn attach_on(
    mounter: &Mounter<'_>,
    request: &Request<'_>,
    place: &Place,
    origin: BindSource,
) -> Result<(), MountFailure> {
    origin
        .attach(place.fd.as_fd(), request.is_recursive())
        .map_err(|errno| mounter.failed_mount("move_mount", request, errno))?;
    let origin = match origin {
        tree @ BindSource::Tree(_) => tree,
        BindSource::Plain(_) => BindSource::Plain(
            mounter
                .root
                .open_plain(&place.path, OFlag::empty())
                .map_err(FailedCall::at("reopen mountpoint", &place.path))?,
        ),
    };
    set_flags(request, origin.as_fd())
}

/// Binds the host's /sys on `place`, with all that is mounted beneath it, every mount with the flags of `request`:
/// among them are cgroups, which a container's user may own.
pub(super) fn bind_sys(
    mounter: &Mounter<'_>,
    request: &Request<'_>,
    place: &Place,
) -> Result<(), MountFailure> {
    let options = MountOptions {
        flags: libc::MS_BIND | libc::MS_REC,
        // Access time modes are locked in a user namespace.
        tree_set: attach::remount_attributes(request.options.flags & !ATIME_FLAGS).set,
        propagation: vec![libc::MS_PRIVATE | libc::MS_REC],
        ..MountOptions::default()
    };
    let bound = Request { kind: "bind", origin: Path::new("/sys"), options, ..*request };
    let tree = BindSource::open(mounter.start(), bound.origin, true)
        .map_err(FailedCall::at("open_tree", bound.origin))?;
    attach_on(mounter, &bound, place, tree)
}

fn open_source(mounter: &mut Mounter<'_>, request: &Request<'_>) -> Result<BindSource, MountFailure> {
    // Without a descriptor of the directory we started in, only the parent knows what is relative to it.
    let is_known = request.origin.is_absolute() || mounter.has_start();
    if !request.id_mapped && (is_known || !mounter.rootfs.user_namespace) {
        match BindSource::open(mounter.start(), request.origin, request.is_recursive()) {
            Ok(origin) => return Ok(origin),
            // The source may be where the container's user cannot go, but the parent can.
            Err(_) if mounter.rootfs.user_namespace => {}
            Err(errno) => return Err(FailedCall::at("open_tree", request.origin)(errno).into()),
        }
    }
    mounter.sources.mount_source(request.index).map(BindSource::Tree).map_err(|error| {
        MountFailure::SourceRequest(match error.raw_os_error() {
            Some(code) => super::error::errno_text(Errno::from_raw(code)),
            None => error.to_string(),
        })
    })
}

/// Recreates a source that is a symlink; false if it is none.
fn copy_symlink(mounter: &Mounter<'_>, request: &Request<'_>) -> Result<bool, MountFailure> {
    let Ok(target) = readlinkat(mounter.start(), request.origin) else { return Ok(false) };
    let relative = mounter.root.relative(request.destination);
    let (parent, name) = mounter
        .root
        .resolve_parent(&relative)
        .map_err(FailedCall::at("mkdir parent of symlink", request.destination))?;
    match symlinkat(target.as_os_str(), &parent.fd, name.as_os_str()) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST)
            if readlinkat(&parent.fd, name.as_os_str()).is_ok_and(|present| present == target) =>
        {
            Ok(true)
        }
        Err(Errno::EEXIST) => {
            Err(MountFailure::NotThatSymlink { path: request.destination.to_owned(), target: target.into() })
        }
        Err(errno) => Err(FailedCall::at("symlink", request.destination)(errno).into()),
    }
}

/// Gives the attached mount `fd` what the options ask for, in one system call in the common case.
fn set_flags(request: &Request<'_>, fd: BorrowedFd<'_>) -> Result<(), MountFailure> {
    let options = &request.options;
    let flags = options.flags & !(libc::MS_BIND | libc::MS_REC | libc::MS_REMOUNT);
    // With neither a flag nor a cleared one the mount keeps what it had.
    let wants_flags = flags != 0 || options.cleared != 0;
    let mut propagation = options.propagation.as_slice();
    if wants_flags {
        let mut along = 0;
        match propagation {
            [only] if only & libc::MS_REC == 0 || !request.is_recursive() => {
                along = only & !libc::MS_REC;
                propagation = &[];
            }
            _ => {}
        }
        replace_flags(request, fd, flags, along)?;
    }
    for flags in propagation {
        attach::set_propagation(fd, *flags)
            .map_err(FailedCall::at("mount_setattr", request.destination))
            .map_err(MountFailure::Propagation)?;
    }
    if options.tree_set != 0 || options.tree_clear != 0 {
        let attributes = MountAttributes { set: options.tree_set, clear: options.tree_clear, propagation: 0 };
        tree::set_attributes(fd, c"", true, &attributes)
            .map_err(FailedCall::at("mount_setattr", request.destination))?;
    }
    Ok(())
}

fn replace_flags(
    request: &Request<'_>,
    fd: BorrowedFd<'_>,
    flags: c_ulong,
    propagation: c_ulong,
) -> Result<(), MountFailure> {
    let failed = |errno| FailedCall::at("mount_setattr", request.destination)(errno);
    let Err(errno) = attach::remount(fd, flags, propagation) else { return Ok(()) };
    let present = flags_of(fd).map_err(FailedCall::at("fstatfs", request.origin))?;
    let reapplied = with_locked(flags, request.options.cleared, present).map_err(|refusal| {
        let cause = failed(errno);
        match refusal {
            Refusal::Clears(flags) => MountFailure::ClearsLocked { flags: flag_names(flags), cause },
            Refusal::Atime(flags) => MountFailure::ChangesLockedAtime { flags: flag_names(flags), cause },
        }
    });
    reapplied
        .and_then(|flags| {
            attach::remount(fd, flags, propagation).map_err(|errno| MountFailure::LockedReapplied {
                flags: flag_names(present & LOCKABLE_FLAGS),
                cause: failed(errno),
            })
        })
        .map_err(|cause| MountFailure::BindFlags(Box::new(cause)))
}

/// Why flags cannot be had where some are locked.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Clears(c_ulong),
    Atime(c_ulong),
}

/// `flags` together with those that the mount has already and that may be locked. What was asked for
/// explicitly is not given up silently: neither a cleared flag nor an access time mode.
fn with_locked(flags: c_ulong, cleared: c_ulong, present: c_ulong) -> Result<c_ulong, Refusal> {
    let kept = present & cleared & LOCKABLE_FLAGS;
    if kept != 0 {
        return Err(Refusal::Clears(kept));
    }
    if flags & ATIME_FLAGS != 0 && flags & ATIME_FLAGS != present & ATIME_FLAGS {
        return Err(Refusal::Atime(present & ATIME_FLAGS));
    }
    Ok(flags | (present & LOCKABLE_FLAGS))
}

/// The flags of the mount that `fd` is on. A mount with no access time flag is a strictatime one.
fn flags_of(fd: BorrowedFd<'_>) -> Result<c_ulong, Errno> {
    // ST_* of these flags are equal to MS_*, but for relatime (calculate_f_flags() in fs/statfs.c).
    const SAME: c_ulong = libc::MS_RDONLY | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOSUID;
    const SAME_ATIME: c_ulong = libc::MS_NOATIME | libc::MS_NODIRATIME;
    let reported = nix::sys::statvfs::fstatvfs(fd)?.flags().bits();
    let mut flags = reported & (SAME | SAME_ATIME);
    if reported & libc::ST_RELATIME != 0 {
        flags |= libc::MS_RELATIME;
    }
    if flags & (libc::MS_NOATIME | libc::MS_RELATIME) == 0 {
        flags |= libc::MS_STRICTATIME;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_flags_are_inherited_unless_they_are_cleared_explicitly() {
        let present = libc::MS_RDONLY | libc::MS_NODEV | libc::MS_RELATIME;
        assert_eq!(with_locked(libc::MS_NOSUID, 0, present), Ok(libc::MS_NOSUID | present));
        let refusal = with_locked(0, libc::MS_RDONLY | libc::MS_NOEXEC, present);
        assert_eq!(refusal, Err(Refusal::Clears(libc::MS_RDONLY)));
    }

    #[test]
    fn an_access_time_mode_must_be_the_one_that_is_there() {
        let present = libc::MS_NOATIME | libc::MS_NODIRATIME;
        assert_eq!(with_locked(libc::MS_RELATIME, 0, present), Err(Refusal::Atime(present)));
        assert!(with_locked(present, 0, present).is_ok());
        assert!(with_locked(libc::MS_NODEV, libc::MS_RELATIME, present).is_ok());
    }
}
