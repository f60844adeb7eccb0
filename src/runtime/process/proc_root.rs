//! A /proc that a container's image or mounts cannot have replaced: every file is opened below a directory that
//! is known to be the root of a procfs, with no symlink followed and no other mount entered. Where something is
//! mounted over a file, a procfs that is mounted nowhere is used instead.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::reason::Reason;
use crate::sys::process as sys;

/// A trusted root of a procfs.
#[derive(Debug)]
pub struct ProcRoot {
    root: OwnedFd,
}

impl ProcRoot {
    /// /proc where it is the root of a procfs, else a detached one.
    pub fn open() -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        match openat(AT_FDCWD, "/proc", flags, Mode::empty()) {
            Ok(root) if is_procfs_root(&root)? => Ok(Self { root }),
            _ => Self::detached(),
        }
    }

    fn detached() -> Result<Self, Errno> {
        sys::detached_procfs().map(|root| Self { root })
    }

    /// Opens a file below the root, for reading or writing.
    pub fn open_file(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        match self.open_beneath(path, flags) {
            Err(Errno::EXDEV) => Self::detached()?.open_beneath(path, flags),
            result => result,
        }
    }

    /// Opens a file of the calling process (`/proc/self/…`).
    pub fn open_self(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let own = readlinkat(&self.root, "self")?;
        self.open_file(&format!("{}/{path}", own.to_string_lossy()), flags)
    }

    /// Writes a value to a file below the root in one call.
    pub fn write(&self, path: &str, value: &[u8]) -> Result<(), Errno> {
        write_once(&self.open_file(path, OFlag::O_WRONLY | OFlag::O_TRUNC)?, value)
    }

    /// Writes a value to a file of the calling process in one call.
    pub fn write_self(&self, path: &str, value: &[u8]) -> Result<(), Errno> {
        write_once(&self.open_self(path, OFlag::O_WRONLY)?, value)
    }

    fn open_beneath(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        match openat2(self.root.as_fd(), path, how) {
            // A kernel before 5.6, or the seccomp filter of a container that rt runs in.
            Err(Errno::ENOSYS | Errno::EPERM) => self.walk(path, flags),
            result => result,
        }
    }

    /// Folder by folder, without symlinks; the file must at least belong to a procfs.
    fn walk(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let folder_flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut folder = self.root.try_clone().map_err(|error| Reason::of(&error).0)?;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                folder = openat(&folder, part, folder_flags, Mode::empty())?;
                continue;
            }
            let file = openat(&folder, part, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
            let is_proc = fstatfs(&file)?.filesystem_type() == PROC_SUPER_MAGIC;
            return if is_proc { Ok(file) } else { Err(Errno::EXDEV) };
        }
        Err(Errno::ENOENT)
    }
}

fn is_procfs_root(directory: &OwnedFd) -> Result<bool, Errno> {
    // PROC_ROOT_INO of the kernel's fs/proc/internal.h: a folder inside a procfs that is bound here has another.
    const PROC_ROOT_INO: u64 = 1;
    Ok(fstatfs(directory)?.filesystem_type() == PROC_SUPER_MAGIC && fstat(directory)?.st_ino == PROC_ROOT_INO)
}

fn write_once(file: &OwnedFd, value: &[u8]) -> Result<(), Errno> {
    match nix::unistd::write(file, value)? {
        written if written == value.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_lead_to_the_file_and_not_through_links() {
        let proc = ProcRoot::open().unwrap();
        let own = format!("{}/status", std::process::id());
        for open in [ProcRoot::open_beneath, ProcRoot::walk] {
            assert!(open(&proc, &own, OFlag::O_RDONLY).is_ok());
            assert!(open(&proc, "self/status", OFlag::O_RDONLY).is_err());
            assert_eq!(open(&proc, "no/such", OFlag::O_RDONLY).err(), Some(Errno::ENOENT));
        }
        assert!(proc.open_self("status", OFlag::O_RDONLY).is_ok());
    }
}
