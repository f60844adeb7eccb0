//! The mount system calls that nix lacks: trees held by a descriptor (open_tree, move_mount), attributes of
//! mounts (mount_setattr), file systems made without a mount point (fsopen), and user namespaces for idmaps.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::{NixPath, Result};

/// Attributes to set and clear on a mount (`MOUNT_ATTR_*`), and a propagation type (`MS_PRIVATE`, … or 0 to
/// leave it): the arguments of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
}

/// Turns the result of a system call that returns a descriptor into one that is owned.
fn owned(result: libc::c_long) -> Result<OwnedFd> {
    let raw = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just returned this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A detached copy of the mount at `path` (below `directory` when relative; `directory` itself when empty),
/// with the mounts beneath it when `recursive`. Symlinks are followed. It goes away with its descriptor
/// unless it is attached before.
///
/// # Errors
/// Those of open_tree(2): `ENOSYS` before Linux 5.2, `EINVAL` when mounts beneath are locked.
pub fn clone_tree<P: ?Sized + NixPath>(
    directory: BorrowedFd<'_>,
    path: &P,
    recursive: bool,
) -> Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as libc::c_uint;
    }
    let result = path.with_nix_path(|path| {
        // SAFETY: `path` is a C string that outlives the call, which reads it and nothing else.
        unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), path.as_ptr(), flags) }
    })?;
    owned(result)
}

/// Attaches the detached `tree` on `path` (below `directory` when relative; on `directory` itself when
/// empty). A symlink as the last component of `path` is followed only if `follow`.
///
/// # Errors
/// Those of move_mount(2): `EINVAL` when one of both is a directory and the other is not.
pub fn attach<P: ?Sized + NixPath>(
    tree: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    path: &P,
    follow: bool,
) -> Result<()> {
    let mut flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= libc::MOVE_MOUNT_T_EMPTY_PATH;
    }
    if follow {
        flags |= libc::MOVE_MOUNT_T_SYMLINKS;
    }
    let result = path.with_nix_path(|path| {
        // SAFETY: both strings are C strings that outlive the call, which only reads them.
        unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                tree.as_raw_fd(),
                c"".as_ptr(),
                directory.as_raw_fd(),
                path.as_ptr(),
                flags,
            )
        }
    })?;
    Errno::result(result).map(drop)
}

fn mount_setattr<P: ?Sized + NixPath>(
    directory: BorrowedFd<'_>,
    path: &P,
    recursive: bool,
    attributes: &libc::mount_attr,
) -> Result<()> {
    let mut flags = 0;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    let result = path.with_nix_path(|path| {
        // SAFETY: `path` and `attributes` outlive the call, which reads as many bytes as the size says.
        unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                directory.as_raw_fd(),
                path.as_ptr(),
                flags,
                std::ptr::from_ref(attributes),
                size_of::<libc::mount_attr>(),
            )
        }
    })?;
    Errno::result(result).map(drop)
}

/// Changes the attributes of the mount at `path` (below `directory` when relative; of `directory` itself when
/// empty), and of all mounts beneath it when `recursive`. Either all of them change or none.
///
/// # Errors
/// Those of mount_setattr(2): `ENOSYS` before Linux 5.12, `EPERM` when an attribute is locked.
pub fn set_attributes<P: ?Sized + NixPath>(
    directory: BorrowedFd<'_>,
    path: &P,
    recursive: bool,
    attributes: &MountAttributes,
) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    mount_setattr(directory, path, recursive, &attributes)
}

/// Shows the owners of files in the detached `tree` as the mappings of `user_namespace` say.
///
/// # Errors
/// Those of mount_setattr(2): `EINVAL` when the file system knows no idmapped mounts.
pub fn set_idmap(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(user_namespace.as_raw_fd()).map_err(|_| Errno::EBADF)?,
    };
    mount_setattr(tree, c"", recursive, &attributes)
}

/// Makes a read-only file system of type `kind` with `options` and returns its mount, attached nowhere.
///
/// # Errors
/// Those of fsopen(2), fsconfig(2) and fsmount(2): `ENOSYS` before Linux 5.2.
pub fn detached_read_only(kind: &CStr, options: &[(&CStr, &CStr)]) -> Result<OwnedFd> {
    // SAFETY: `kind` is a C string that outlives the call, which only reads it.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    configure(context.as_fd(), libc::FSCONFIG_SET_FLAG, Some(c"ro"), None)?;
    for (key, value) in options {
        configure(context.as_fd(), libc::FSCONFIG_SET_STRING, Some(key), Some(value))?;
    }
    configure(context.as_fd(), libc::FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: fsmount takes numbers only.
    owned(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, libc::MOUNT_ATTR_RDONLY)
    })
}

fn configure(context: BorrowedFd<'_>, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: key and value are C strings that outlive the call, or null where the command takes none.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0)
    })
    .map(drop)
}

/// Sets the extended attribute `name` of what is at `path`.
///
/// # Errors
/// Those of setxattr(2).
pub fn set_xattr<P: ?Sized + NixPath>(path: &P, name: &CStr, value: &[u8]) -> Result<()> {
    let result = path.with_nix_path(|path| {
        // SAFETY: path and name are C strings, and the value is read for as many bytes as its length says.
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }
    })?;
    Errno::result(result).map(drop)
}

/// A process that only waits, in a user namespace of its own: it keeps the namespace while mappings are
/// written and a descriptor is opened. Killed and reaped when dropped.
#[derive(Debug)]
pub struct UserNamespaceHolder {
    pid: libc::pid_t,
}

impl UserNamespaceHolder {
    /// Makes the process. It sends no SIGCHLD when it ends, and dies with the caller.
    ///
    /// # Errors
    /// Those of clone(2), for example `ENOSPC` when there are too many user namespaces.
    pub fn spawn() -> Result<Self> {
        // SAFETY: without CLONE_VM and with a null stack this is a fork: the child goes on with a copy of the
        // memory. It makes system calls only, takes no lock, allocates nothing and never returns.
        let result =
            unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0usize, 0usize, 0usize, 0usize) };
        if result == 0 {
            wait_for_death();
        }
        let pid = libc::pid_t::try_from(Errno::result(result)?).map_err(|_| Errno::ESRCH)?;
        Ok(Self { pid })
    }

    /// Its process id, in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

fn wait_for_death() -> ! {
    // SAFETY: prctl with numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

impl Drop for UserNamespaceHolder {
    fn drop(&mut self) {
        // SAFETY: the pid is that of our own child, which is reaped nowhere else. `__WALL`, since a child
        // that sends no SIGCHLD is invisible to a plain wait.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            while libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) == -1
                && Errno::last() == Errno::EINTR
            {}
        }
    }
}
