//! File systems that are mounted anew: tmpfs, proc, sysfs, devpts, mqueue and whatever else a spec names.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libc::c_ulong;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::attach;
use super::bind;
use super::copy_up;
use super::error::{FailedCall, MountFailure};
use super::mounter::Mounter;
use super::proc_guard::{self, Cover};
use super::request::Request;
use super::resolve::{Missing, Place};
use crate::sys::mount::set_xattr;

/// Mounts `request` on its destination, wherever symlinks inside the root lead.
pub(super) fn mount(mounter: &Mounter<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    let place = mounter.mountpoint(request, || Ok(Missing::Directory))?;
    proc_guard::check(mounter.root.path(), &place.path, Cover::Other)?;
    let mut data = Cow::Borrowed(request.options.data.as_str());
    if request.kind == "tmpfs" && !place.created {
        inherit_mode(&mut data, &place)?;
    }
    if request.kind != "mqueue" {
        add_label(&mut data, mounter.rootfs.mount_label());
    }
    if request.kind == "tmpfs" && request.options.copy_up {
        return copy_up::mount(mounter, request, &place, &data);
    }
    mount_on(mounter, request, &place, &data)?;
    if request.kind == "mqueue" && !mounter.rootfs.mount_label().is_empty() {
        label(mounter, &place)?;
    }
    Ok(())
}

/// Mounts a procfs or sysfs, whose place must be a real directory: through a symlink in the image it would
/// come to be elsewhere, and what is expected in its place would be the image's.
pub(super) fn mount_pseudo(mounter: &Mounter<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    let relative = mounter.root.relative(request.destination);
    let place = match mounter.root.resolve_ordinary_directory(&relative) {
        Err(Errno::ENOTDIR) => {
            return Err(MountFailure::NotAnOrdinaryDirectory { kind: request.kind.to_owned() });
        }
        result => result.map_err(FailedCall::at("make mountpoint", request.destination))?,
    };
    let place = mounter.below_root(place)?;
    let cover = if request.kind == "proc" { Cover::Proc } else { Cover::Other };
    proc_guard::check(mounter.root.path(), &place.path, cover)?;
    match mount_on(mounter, request, &place, &request.options.data) {
        // Only who has all capabilities over the network namespace may mount its sysfs, as over a new one. As in crun, the
        // host's is shown instead, but only where it is asked to be read-only.
        Err(MountFailure::Call(FailedCall { errno: Errno::EPERM, .. }))
            if request.kind == "sysfs"
                && mounter.rootfs.user_namespace
                && !mounter.rootfs.has_new_network()
                && request.options.flags & libc::MS_RDONLY != 0 =>
        {
            bind::bind_sys(mounter, request, &place)
        }
        result => result,
    }
}

/// Mounts on `place`, then sets the propagation that is asked for.
pub(super) fn mount_on(
    mounter: &Mounter<'_>,
    request: &Request<'_>,
    place: &Place,
    data: &str,
) -> Result<(), MountFailure> {
    let flags = first_flags(mounter, request);
    attach::mount_filesystem(place.fd.as_fd(), request.origin, request.kind, flags, data)
        .map_err(|errno| mounter.failed_mount("mount", request, errno))?;
    let is_finished = flags == request.options.flags;
    if request.options.propagation.is_empty() && is_finished {
        return Ok(());
    }
    let mounted = reopen(mounter, place)?;
    set_propagation(mounted.as_fd(), request)?;
    if !is_finished {
        mounter.finish_later(mounted, request);
    }
    Ok(())
}

pub(super) fn set_propagation(fd: BorrowedFd<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    for flags in &request.options.propagation {
        attach::set_propagation(fd, *flags)
            .map_err(FailedCall::at("mount_setattr", request.destination))
            .map_err(MountFailure::Propagation)?;
    }
    Ok(())
}

/// The root of what has just been mounted on `place`.
pub(super) fn reopen(mounter: &Mounter<'_>, place: &Place) -> Result<OwnedFd, FailedCall> {
    mounter
        .root
        .open_plain(&place.path, OFlag::empty())
        .map_err(FailedCall::at("reopen mountpoint", &place.path))
}

/// The flags without `MS_RDONLY` where devices, links or mount points are still to be made:
/// [`super::Rootfs::finalize`] adds it.
fn first_flags(mounter: &Mounter<'_>, request: &Request<'_>) -> c_ulong {
    if is_finished_later(request.kind, &mounter.root.relative(request.destination)) {
        request.options.flags & !libc::MS_RDONLY
    } else {
        request.options.flags
    }
}

/// Whether a mount stays writable until everything is in place.
fn is_finished_later(kind: &str, relative: &Path) -> bool {
    kind == "tmpfs" || (kind != "bind" && relative == Path::new("dev"))
}

/// A tmpfs has the mode of the directory that it covers, unless the options say another one.
fn inherit_mode(data: &mut Cow<'_, str>, place: &Place) -> Result<(), FailedCall> {
    if data.split(',').any(|option| option.starts_with("mode=")) {
        return Ok(());
    }
    let stat = fstat(&place.fd).map_err(FailedCall::at("fstat", &place.path))?;
    let mode = format!("mode={:04o}", stat.st_mode & 0o7777);
    *data = if data.is_empty() { mode.into() } else { format!("{mode},{data}").into() };
    Ok(())
}

/// Adds the SELinux label of the mount.
fn add_label(data: &mut Cow<'_, str>, label: &str) {
    if !label.is_empty() {
        let comma = if data.is_empty() { "" } else { "," };
        *data = format!("{data}{comma}context=\"{label}\"").into();
    }
}

/// Labels the root of a mount whose file system takes no context option.
fn label(mounter: &Mounter<'_>, place: &Place) -> Result<(), MountFailure> {
    let mounted = reopen(mounter, place)?;
    let label = mounter.rootfs.mount_label();
    set_xattr(&attach::descriptor_path(mounted.as_fd()), c"security.selinux", label.as_bytes())
        .map_err(FailedCall::at("set label of", &place.path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_one_more_option() {
        let mut data = Cow::Borrowed("");
        add_label(&mut data, "a:b");
        assert_eq!(data, "context=\"a:b\"");
        add_label(&mut data, "");
        let mut data = Cow::Borrowed("mode=755");
        add_label(&mut data, "a:b");
        assert_eq!(data, "mode=755,context=\"a:b\"");
    }

    #[test]
    fn dev_and_tmpfs_stay_writable_at_first() {
        assert!(is_finished_later("tmpfs", Path::new("mnt")));
        assert!(is_finished_later("devtmpfs", Path::new("dev")));
        assert!(!is_finished_later("bind", Path::new("dev")));
        assert!(!is_finished_later("proc", Path::new("proc")));
    }
}
