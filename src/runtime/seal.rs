//! Protects rt's own binary from being overwritten out of a container (the class of CVE-2019-5736).
//!
//! A container that makes rt execute `/proc/self/exe`, or that opens /proc/PID/exe of an rt process
//! which joined its pid namespace, gets hold of the file rt runs from. So `create`, `run` and `exec`
//! run from a view of the binary in which nothing can be written: an unattached overlay mount that has
//! lower layers only (a read-only bind mount would not do: a container with CAP_SYS_ADMIN can clone it
//! and clear the flag). Where overlayfs cannot be had (no privilege, an old kernel) a sealed copy in
//! memory serves. The other commands do not pay for it; `make bench` measures what it costs.
//!
//! rt re-executes itself from that view, by [`crate::sys`]'s entry before the C library starts; here is what that one leaves
//! to be done: no x86_64, `--debug`, and whatever is unusual.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat, stat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::cli::program_name;
use crate::sys;

const OVERLAYFS_MAGIC: FsType = FsType(0x794c_7630);

/// The path of the host's binary, kept for the re-executed process (whose own /proc/self/exe names the
/// sealed view).
const HOST_BINARY: &str = "_RT_HOST_BINARY";

static HOST: OnceLock<PathBuf> = OnceLock::new();

const SELF: &str = "/proc/self/exe";

/// Why rt could not run from a protected copy of itself.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("cannot open rt's own binary /proc/self/exe: {0}")]
    OwnBinary(#[source] io::Error),
    #[error("cannot make a sealed copy of rt's binary: {0}")]
    Copy(#[source] io::Error),
    #[error("cannot execute the sealed copy of rt's binary: {0}")]
    Execute(#[source] io::Error),
}

/// Makes sure that this process runs from a sealed view of its binary. Returns once that is
/// so; on the first call the process is replaced by itself. `scratch` is an existing folder that is no
/// parent of the binary's (the second overlay layer).
pub fn ensure(scratch: &Path) -> Result<(), SealError> {
    let binary = File::open(SELF).map_err(SealError::OwnBinary)?;
    if is_sealed(&binary) {
        if let Some(path) = std::env::var_os(HOST_BINARY) {
            let _ = HOST.set(PathBuf::from(path));
            // Hooks without an environment of their own inherit rt's.
            sys::clone::remove_variable(HOST_BINARY);
        }
        // After execveat(2) it would be the number of the descriptor.
        sys::clone::set_process_name(c"rt");
        tracing::debug!("{} exeseal: using /proc/self/exe clone", program_name());
        return Ok(());
    }
    let sealed = match overlay(scratch) {
        Ok(file) => {
            tracing::debug!("{} exeseal: using overlayfs for sealed /proc/self/exe", program_name());
            file
        }
        Err(error) => {
            tracing::debug!("no overlay view of the binary ({error}): copying it to memory");
            sealed_copy(binary).map_err(SealError::Copy)?
        }
    };
    let to_c = |value: std::ffi::OsString| CString::new(value.into_vec()).ok();
    let args: Vec<CString> = std::env::args_os().filter_map(to_c).collect();
    let host = host_binary();
    let env = std::env::vars_os()
        .filter(|(key, _)| key != HOST_BINARY)
        .chain([(HOST_BINARY.into(), host.into_os_string())]);
    let env: Vec<CString> = env
        .filter_map(|(key, value)| {
            let mut pair = key;
            pair.push("=");
            pair.push(value);
            to_c(pair)
        })
        .collect();
    Err(SealError::Execute(sys::seal::exec_descriptor(&sealed, &args, &env)))
}

/// The path of rt's binary on the host.
pub fn host_binary() -> PathBuf {
    HOST.get().cloned().or_else(|| std::fs::read_link(SELF).ok()).unwrap_or_else(|| PathBuf::from(SELF))
}

fn is_sealed(binary: &File) -> bool {
    let all =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    if let Ok(seals) = fcntl(binary.as_fd(), FcntlArg::F_GET_SEALS) {
        return SealFlag::from_bits_truncate(seals).contains(all);
    }
    fstatfs(binary.as_fd()).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_MAGIC)
        && fstatvfs(binary.as_fd()).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
}

fn overlay(scratch: &Path) -> io::Result<OwnedFd> {
    let path = std::fs::read_link(SELF)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    };
    let root = sys::seal::read_only_overlay(folder, scratch)?;
    let view = openat(&root, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    // A layer has no mounts: of a binary that is bind-mounted it shows what lies below.
    let (seen, own) = (fstat(&view)?, stat(SELF)?);
    if (seen.st_ino, seen.st_size, seen.st_mtime) == (own.st_ino, own.st_size, own.st_mtime) {
        Ok(view)
    } else {
        Err(io::Error::other("it is a mount of its own"))
    }
}

fn sealed_copy(mut binary: File) -> io::Result<OwnedFd> {
    let memory = memfd_create(c"rt", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut copy = File::from(memory);
    io::copy(&mut binary, &mut copy)?;
    let all =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(all))?;
    Ok(copy.into())
}
