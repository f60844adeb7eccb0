//! The ways to put a mount onto a descriptor, without a path that could be led astray: the new mount system
//! calls where the kernel has them, else mount(2) through the working directory or /proc.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::c_ulong;
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::fchdir;

use super::resolve::file_type;
use crate::sys::mount::{self as tree, MountAttributes};

/// A path by which mount(2) reaches what `fd` refers to.
pub(super) fn descriptor_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()))
}

/// mount(2) with raw flags; empty `data` is none.
fn mount_raw<P: ?Sized + NixPath>(
    origin: Option<&Path>,
    target: &P,
    kind: Option<&str>,
    flags: c_ulong,
    data: &str,
) -> Result<(), Errno> {
    let data = (!data.is_empty()).then_some(data);
    mount(origin, target, kind, MsFlags::from_bits_retain(flags), data)
}

/// Mounts a file system on the directory `target`. Changes the working directory: mounting on "." is four
/// times as fast as on the descriptor's path in /proc.
pub(super) fn mount_filesystem(
    target: BorrowedFd<'_>,
    origin: &Path,
    kind: &str,
    flags: c_ulong,
    data: &str,
) -> Result<(), Errno> {
    // A directory whose owner is not mapped in our user namespace cannot be entered.
    if fchdir(target).is_ok() {
        mount_raw(Some(origin), ".", Some(kind), flags, data)
    } else {
        mount_raw(Some(origin), &descriptor_path(target), Some(kind), flags, data)
    }
}

/// What is going to be bind-mounted.
#[derive(Debug)]
pub(super) enum BindSource {
    /// A detached copy of the mount.
    Tree(OwnedFd),
    /// The thing itself, before Linux 5.2.
    Plain(OwnedFd),
}

impl BindSource {
    /// Takes `path`, below `directory` when relative, with the mounts beneath it when `recursive`. With an
    /// empty path, `directory` itself is meant (which may then be a file).
    pub fn open<P: ?Sized + NixPath>(
        directory: BorrowedFd<'_>,
        path: &P,
        recursive: bool,
    ) -> Result<Self, Errno> {
        match tree::clone_tree(directory, path, recursive) {
            Err(Errno::ENOSYS) if path.is_empty() => directory
                .try_clone_to_owned()
                .map(Self::Plain)
                .map_err(|error| error.raw_os_error().map_or(Errno::EBADF, Errno::from_raw)),
            Err(Errno::ENOSYS) => {
                openat(directory, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map(Self::Plain)
            }
            result => result.map(Self::Tree),
        }
    }

    /// Mounts it on what `target` refers to. A [`Self::Tree`]'s descriptor then refers to the mount. `ENOTDIR`
    /// where one is a directory and the other is not, as from mount(2): dockerd looks for its text.
    pub fn attach(&self, target: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
        match self {
            Self::Tree(fd) => tree::attach(fd.as_fd(), target, c"", false).map_err(|errno| match errno {
                Errno::EINVAL if is_directory(fd.as_fd()) != is_directory(target) => Errno::ENOTDIR,
                errno => errno,
            }),
            Self::Plain(fd) => {
                let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
                let origin = descriptor_path(fd.as_fd());
                mount_raw(Some(&origin), &descriptor_path(target), None, flags, "")
            }
        }
    }

    /// Mounts it on `path`, following symlinks.
    pub fn attach_to_path(&self, path: &Path) -> Result<(), Errno> {
        match self {
            Self::Tree(fd) => tree::attach(fd.as_fd(), nix::fcntl::AT_FDCWD, path, true),
            Self::Plain(fd) => mount_raw(Some(&descriptor_path(fd.as_fd())), path, None, libc::MS_BIND, ""),
        }
    }
}

fn is_directory(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| file_type(&stat) == SFlag::S_IFDIR)
}

impl AsFd for BindSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tree(fd) | Self::Plain(fd) => fd.as_fd(),
        }
    }
}

/// Sets a propagation type (`MS_PRIVATE`, …, with or without `MS_REC`) on the mount whose root is `fd`.
pub(super) fn set_propagation(fd: BorrowedFd<'_>, flags: c_ulong) -> Result<(), Errno> {
    let attributes = MountAttributes { propagation: flags & !libc::MS_REC, ..MountAttributes::default() };
    match tree::set_attributes(fd, c"", flags & libc::MS_REC != 0, &attributes) {
        Err(Errno::ENOSYS) => mount_raw(None, &descriptor_path(fd), None, flags, ""),
        result => result,
    }
}

/// Sets a propagation type on the mount at `path`.
pub(super) fn set_propagation_of_path<P: ?Sized + NixPath>(path: &P, flags: c_ulong) -> Result<(), Errno> {
    mount_raw(None, path, None, flags, "")
}

/// What `MS_REMOUNT | MS_BIND | flags` does to a mount (path_mount() in fs/namespace.c): all flags are
/// replaced, except that the access time mode stays when none is given.
pub(super) fn remount_attributes(flags: c_ulong) -> MountAttributes {
    const SIMPLE: [(c_ulong, u64); 5] = [
        (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (libc::MS_NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let mut attributes = MountAttributes::default();
    for (flag, attribute) in SIMPLE {
        attributes.clear |= attribute;
        if flags & flag != 0 {
            attributes.set |= attribute;
        }
    }
    if flags & (libc::MS_NOATIME | libc::MS_NODIRATIME | libc::MS_RELATIME | libc::MS_STRICTATIME) != 0 {
        attributes.clear |= libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME;
        if flags & libc::MS_NODIRATIME != 0 {
            attributes.set |= libc::MOUNT_ATTR_NODIRATIME;
        }
        if flags & libc::MS_STRICTATIME != 0 {
            attributes.set |= libc::MOUNT_ATTR_STRICTATIME;
        } else if flags & libc::MS_NOATIME != 0 {
            attributes.set |= libc::MOUNT_ATTR_NOATIME;
        }
    }
    // The kernel refuses to set what it is told to clear, but for the access time mode, whose bits it
    // demands to be cleared.
    attributes.clear &= !(attributes.set & !libc::MOUNT_ATTR__ATIME);
    attributes
}

/// Replaces the flags of the mount whose root is `fd`, and sets its propagation type unless that is 0.
pub(super) fn remount(fd: BorrowedFd<'_>, flags: c_ulong, propagation: c_ulong) -> Result<(), Errno> {
    let attributes = MountAttributes { propagation, ..remount_attributes(flags) };
    match tree::set_attributes(fd, c"", false, &attributes) {
        Err(Errno::ENOSYS) => {
            let path = descriptor_path(fd);
            mount_raw(None, &path, None, libc::MS_BIND | libc::MS_REMOUNT | flags, "")?;
            if propagation == 0 { Ok(()) } else { mount_raw(None, &path, None, propagation, "") }
        }
        result => result,
    }
}

/// Makes the mount at `path` (of `directory` itself when empty) read-only and leaves its other flags as they are.
pub(super) fn make_read_only<P: ?Sized + NixPath>(directory: BorrowedFd<'_>, path: &P) -> Result<(), Errno> {
    let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
    match tree::set_attributes(directory, path, false, &attributes) {
        Err(Errno::ENOSYS) if path.is_empty() => remount_read_only(&descriptor_path(directory)),
        Err(Errno::ENOSYS) => remount_read_only(path),
        result => result,
    }
}

fn remount_read_only<P: ?Sized + NixPath>(path: &P) -> Result<(), Errno> {
    let present = nix::sys::statvfs::statvfs(path)?.flags().bits();
    let kept = present & (libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC);
    mount_raw(None, path, None, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | kept, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remount_replaces_all_flags_but_the_access_time() {
        let attributes = remount_attributes(libc::MS_RDONLY | libc::MS_NOSUID);
        assert_eq!(attributes.set, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID);
        let cleared = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NOSYMFOLLOW;
        assert_eq!(attributes.clear, cleared);
    }

    #[test]
    fn an_access_time_mode_replaces_the_old_one() {
        let modes = libc::MOUNT_ATTR__ATIME;
        let relatime = remount_attributes(libc::MS_RELATIME);
        assert_eq!(relatime.set, 0);
        assert_eq!(relatime.clear & modes, modes);
        assert_ne!(relatime.clear & libc::MOUNT_ATTR_NODIRATIME, 0);
        let nodiratime = remount_attributes(libc::MS_NODIRATIME | libc::MS_STRICTATIME);
        assert_eq!(nodiratime.set, libc::MOUNT_ATTR_NODIRATIME | libc::MOUNT_ATTR_STRICTATIME);
        assert_eq!(nodiratime.clear & libc::MOUNT_ATTR_NODIRATIME, 0);
    }
}
