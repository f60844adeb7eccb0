//! `tmpcopyup`: a tmpfs that starts with what is in the directory it covers.
//!
//! The covered directory is opened before, so that no scratch directory on the host is needed: its
//! descriptor still shows it when the tmpfs is on top.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::attach;
use super::error::{FailedCall, MountFailure};
use super::filesystem::{self, reopen};
use super::mounter::Mounter;
use super::request::Request;
use super::resolve::{Place, file_type};

/// Mounts the tmpfs of `request` on `place` and copies into it what was there.
pub(super) fn mount(
    mounter: &Mounter<'_>,
    request: &Request<'_>,
    place: &Place,
    data: &str,
) -> Result<(), MountFailure> {
    // Directories cannot be read through a descriptor of O_PATH.
    let covered =
        openat(&place.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(FailedCall::at("open", request.destination))?;
    let flags = request.options.flags & !libc::MS_RDONLY;
    attach::mount_filesystem(place.fd.as_fd(), request.origin, request.kind, flags, data)
        .map_err(|errno| mounter.failed_mount("mount", request, errno))?;
    let mounted = reopen(mounter, place)?;
    copy_directory(covered, mounted.as_fd()).map_err(|(path, cause)| MountFailure::CopyUp {
        path: request.destination.join(path).display().to_string(),
        cause,
    })?;
    filesystem::set_propagation(mounted.as_fd(), request)?;
    if flags != request.options.flags {
        mounter.finish_later(mounted, request);
    }
    Ok(())
}

/// A failure and the path at which it came about, relative to the directory that is copied.
type Failed = (PathBuf, io::Error);

fn copy_directory(from: OwnedFd, to: BorrowedFd<'_>) -> Result<(), Failed> {
    let here = |error: nix::errno::Errno| (PathBuf::new(), error.into());
    let mut directory = Dir::from_fd(from).map_err(here)?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        let entry = entry.map_err(here)?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        copy_entry(directory.as_fd(), to, &name).map_err(|(path, cause)| {
            let name = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
            (if path.as_os_str().is_empty() { name } else { name.join(path) }, cause)
        })?;
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Failed> {
    let failed = |error: io::Error| (PathBuf::new(), error);
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|errno| failed(errno.into()))?;
    if file_type(&stat) != SFlag::S_IFDIR {
        return copy_leaf(from, to, name, &stat).map_err(failed);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = |parent| openat(parent, name, flags, Mode::empty());
    let inner_from = open(from).map_err(|errno| failed(errno.into()))?;
    let inner_to =
        mkdirat(to, name, Mode::S_IRWXU).and_then(|()| open(to)).map_err(|errno| failed(errno.into()))?;
    copy_directory(inner_from, inner_to.as_fd())?;
    // Last, so that a directory without write permission can be filled.
    own(to, name, &stat)
        .and_then(|()| fchmod(&inner_to, permissions(&stat)))
        .map_err(|errno| failed(errno.into()))
}

fn copy_leaf(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> io::Result<()> {
    match file_type(stat) {
        SFlag::S_IFLNK => {
            symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?;
            own(to, name, stat)?;
        }
        SFlag::S_IFREG => {
            let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut reader = File::from(openat(from, name, flags | OFlag::O_RDONLY, Mode::empty())?);
            let create = flags | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let mut writer = File::from(openat(to, name, create, Mode::S_IRUSR | Mode::S_IWUSR)?);
            io::copy(&mut reader, &mut writer)?;
            own(to, name, stat)?;
            // After the owner, as a change of owner drops the set-user-id bits.
            fchmod(&writer, permissions(stat))?;
        }
        special => {
            // The umask is empty.
            mknodat(to, name, special, permissions(stat), stat.st_rdev)?;
            own(to, name, stat)?;
        }
    }
    Ok(())
}

fn own(directory: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(directory, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode)
}
