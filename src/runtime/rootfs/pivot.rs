//! The way into the container's root: propagation before and after, pivot_root, or what stands in for it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use libc::c_ulong;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::Rootfs;
use super::attach::set_propagation_of_path;
use super::error::{FailedCall, RootfsError};
use super::options::propagation_flags;

const NONE: Option<&str> = None;

/// The propagation that the spec asks for, 0 for none.
fn root_propagation(rootfs: &Rootfs<'_>) -> c_ulong {
    let linux = rootfs.spec.linux().as_ref();
    linux.and_then(|linux| linux.rootfs_propagation().as_deref()).and_then(propagation_flags).unwrap_or(0)
}

/// Cuts the mount namespace off from the host's and makes the root a mount point.
pub(super) fn prepare_root(rootfs: &Rootfs<'_>) -> Result<(), RootfsError> {
    if rootfs.mount_namespace {
        let asked = root_propagation(rootfs);
        let flags = if asked == 0 { libc::MS_SLAVE | libc::MS_REC } else { asked };
        set_propagation_of_path("/", flags)
            .map_err(FailedCall::at("set propagation of", "/"))
            .and_then(|()| cut_parent_off(rootfs.root, asked))
            .map_err(RootfsError::Prepare)?;
    }
    mount(Some(rootfs.root), rootfs.root, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .map_err(FailedCall::at("bind mount", rootfs.root))
        .map_err(RootfsError::Prepare)?;
    if !rootfs.mount_namespace {
        // The namespace is the host's: its mounts stay as they are, only the new one is cut off.
        set_propagation_of_path(rootfs.root, libc::MS_PRIVATE)
            .map_err(FailedCall::at("set propagation of", rootfs.root))
            .map_err(RootfsError::Prepare)?;
    }
    Ok(())
}

/// Makes the mount on which the root is a slave of the host's where that is `asked` for, else private:
/// pivot_root takes no shared one, and the root's bind mount would show up on the host. The root's bind mount
/// inherits it.
fn cut_parent_off(root: &Path, asked: c_ulong) -> Result<(), FailedCall> {
    let flags = if asked & libc::MS_SLAVE == 0 { libc::MS_PRIVATE } else { libc::MS_SLAVE };
    for path in root.ancestors() {
        match set_propagation_of_path(path, flags) {
            Ok(()) => return Ok(()),
            // Not a mount point.
            Err(Errno::EINVAL) if path != Path::new("/") => {}
            Err(errno) => return Err(FailedCall::at("remount-propagation", root)(errno)),
        }
    }
    Ok(())
}

/// Makes the root "/" and goes there.
pub(super) fn enter(rootfs: &Rootfs<'_>) -> Result<(), FailedCall> {
    if rootfs.no_pivot {
        move_root(rootfs.root)
    } else if rootfs.mount_namespace {
        pivot(rootfs.root)
    } else {
        chroot_here(rootfs.root)
    }
}

/// The new root's propagation. Private or a slave it is already; a recursive slave would undo what single mounts
/// ask for.
pub(super) fn apply_propagation(rootfs: &Rootfs<'_>) -> Result<(), RootfsError> {
    let flags = root_propagation(rootfs);
    if flags == 0 || flags & (libc::MS_PRIVATE | libc::MS_SLAVE) != 0 {
        return Ok(());
    }
    set_propagation_of_path("/", flags)
        .map_err(FailedCall::at("set propagation of", "/"))
        .map_err(RootfsError::RootPropagation)
}

/// pivot_root(".", ".") stacks the old root on the new one, so that no directory for it is needed.
fn pivot(root: &Path) -> Result<(), FailedCall> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let old = open("/", flags, Mode::empty()).map_err(FailedCall::at("open", "/"))?;
    chdir(root).map_err(FailedCall::at("chdir", root))?;
    pivot_root(".", ".").map_err(FailedCall::at("pivot_root", root))?;
    fchdir(&old).map_err(FailedCall::at("fchdir", "old root"))?;
    // The unmount must not reach the host. Not private: that would drop references to mounts which the host
    // believes gone, later than it expects.
    set_propagation_of_path(".", libc::MS_SLAVE | libc::MS_REC)
        .map_err(FailedCall::at("set propagation of", "old root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(FailedCall::at("unmount", "old root"))?;
    chdir("/").map_err(FailedCall::at("chdir", "/"))
}

/// Moves the root over "/", for file systems such as ramfs that cannot be pivoted.
///
/// The host's mounts stay in the namespace behind it, and with a full procfs or sysfs among them the kernel
/// lets a user namespace mount a new one without masks. So these are unmounted or covered before.
fn move_root(root: &Path) -> Result<(), FailedCall> {
    for path in full_pseudo_mounts(root)? {
        hide(&path).map_err(FailedCall::at("hide", &path))?;
    }
    chdir(root).map_err(FailedCall::at("chdir", root))?;
    mount(Some(root), "/", NONE, MsFlags::MS_MOVE, NONE).map_err(FailedCall::at("move root", root))?;
    chroot(".").map_err(FailedCall::at("chroot", root))?;
    chdir("/").map_err(FailedCall::at("chdir", "/"))
}

fn hide(path: &Path) -> Result<(), Errno> {
    match set_propagation_of_path(path, libc::MS_SLAVE | libc::MS_REC) {
        Ok(()) => {}
        // It was beneath a mount that is hidden already.
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    match umount2(path, MntFlags::MNT_DETACH) {
        // A mount that is locked in a user namespace.
        Err(Errno::EINVAL | Errno::EPERM) => {
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), NONE)
        }
        result => result,
    }
}

fn full_pseudo_mounts(root: &Path) -> Result<Vec<PathBuf>, FailedCall> {
    const MOUNTINFO: &str = "/proc/self/mountinfo";
    let table = fs::read(MOUNTINFO).map_err(|error| {
        FailedCall::new("read", MOUNTINFO, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    })?;
    Ok(parse_full_pseudo_mounts(&table, root))
}

/// The mount points outside of `root` that show a whole procfs or sysfs.
fn parse_full_pseudo_mounts(table: &[u8], root: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        // "36 35 98:0 /root /mount/point options … - type source options" (proc_pid_mountinfo(5)).
        let mut fields = line.split(|byte| *byte == b' ');
        let (Some(shown), Some(point)) = (fields.nth(3), fields.next()) else { continue };
        let kind = fields.skip_while(|field| *field != b"-").nth(1).unwrap_or_default();
        let path = unescape(point);
        if shown == b"/" && (kind == b"proc" || kind == b"sysfs") && !path.starts_with(root) {
            paths.push(path);
        }
    }
    paths
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                plain.push(byte);
                rest = &tail[3..];
            }
            _ => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

fn chroot_here(root: &Path) -> Result<(), FailedCall> {
    chdir(root).map_err(FailedCall::at("chdir", root))?;
    chroot(".").map_err(FailedCall::at("chroot", root))?;
    chdir("/").map_err(FailedCall::at("chdir", "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pseudo_file_systems_outside_of_the_root_are_found() {
        let table = b"22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n\
            23 28 0:22 / /sys rw shared:7 master:1 - sysfs sysfs rw\n\
            24 28 0:21 /sys /bound rw - proc proc rw\n\
            25 28 0:21 / /r/proc rw - proc proc rw\n\
            26 28 0:21 / /r\\040x/proc rw - proc proc rw\n\
            27 28 0:30 / /tmp rw - tmpfs tmpfs rw\n";
        let found = parse_full_pseudo_mounts(table, Path::new("/r"));
        assert_eq!(found, [Path::new("/proc"), Path::new("/sys"), Path::new("/r x/proc")]);
    }

    #[test]
    fn escapes_of_the_mount_table_are_undone() {
        assert_eq!(unescape(b"/a\\040b\\134c\\"), Path::new("/a b\\c\\"));
    }
}
