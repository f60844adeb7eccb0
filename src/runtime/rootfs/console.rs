//! The container's /dev/null and /dev/console, which an image can forge: what is opened is looked at before
//! it is used, and no symlink is followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, makedev};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::attach::BindSource;
use super::error::{ConsoleError, DevNullError, FailedCall};
use super::resolve::file_type;

const DEV_NULL: &str = "/dev/null";
/// The major numbers of pseudo terminals' slaves (UNIX98_PTY_SLAVE_MAJOR and its count in linux/major.h).
const PTY_MAJORS: std::ops::Range<u64> = 136..144;

fn is_dev_null(stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3)
}

/// Fails unless `fd` is the null device.
pub(super) fn verify_dev_null(fd: BorrowedFd<'_>) -> Result<(), DevNullError> {
    let stat = fstat(fd).map_err(FailedCall::at("fstat", DEV_NULL))?;
    if is_dev_null(&stat) { Ok(()) } else { Err(DevNullError::NotTheDevice) }
}

/// Replaces those of the standard descriptors that are the host's /dev/null by the container's.
pub(super) fn reopen_dev_null() -> Result<(), DevNullError> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut null = None;
    for (number, fd) in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter().enumerate() {
        let stat = fstat(fd).map_err(FailedCall::at("fstat", format!("fd {number}")))?;
        if !is_dev_null(&stat) {
            continue;
        }
        let null = match &mut null {
            Some(null) => null,
            none => none.insert(open_dev_null()?),
        };
        match number {
            0 => dup2_stdin(null),
            1 => dup2_stdout(null),
            _ => dup2_stderr(null),
        }
        .map_err(FailedCall::at("dup2", DEV_NULL))?;
    }
    Ok(())
}

fn open_dev_null() -> Result<OwnedFd, DevNullError> {
    // For reading and writing not even a FIFO blocks.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let fd = open(DEV_NULL, flags, Mode::empty()).map_err(FailedCall::at("open", DEV_NULL))?;
    verify_dev_null(fd.as_fd())?;
    Ok(fd)
}

/// Bind-mounts the terminal `slave`, opened in this mount namespace, on `path`, which is created if need be.
///
/// # Errors
/// [`ConsoleError`] when `slave` is no pseudo terminal, or something else than a file or device is at `path`
/// (CVE-2025-52565).
pub fn mount_console(slave: BorrowedFd<'_>, path: &Path) -> Result<(), ConsoleError> {
    verify_pty(slave)?;
    let target = open_console_target(path)?;
    BindSource::open(slave, c"", false).and_then(|origin| origin.attach(target.as_fd(), false)).map_err(
        |errno| ConsoleError::Mount { path: path.to_owned(), cause: FailedCall::at("mount", path)(errno) },
    )
}

fn verify_pty(slave: BorrowedFd<'_>) -> Result<(), ConsoleError> {
    const DEVPTS: FsType = FsType(libc::DEVPTS_SUPER_MAGIC);
    let devpts = fstatfs(slave).is_ok_and(|stat| stat.filesystem_type() == DEVPTS);
    let terminal = fstat(slave)
        .is_ok_and(|stat| file_type(&stat) == SFlag::S_IFCHR && PTY_MAJORS.contains(&major(stat.st_rdev)));
    if devpts && terminal { Ok(()) } else { Err(ConsoleError::NotAPty) }
}

fn open_console_target(path: &Path) -> Result<OwnedFd, ConsoleError> {
    let failed = |call| {
        move |errno| ConsoleError::Target { path: path.to_owned(), cause: FailedCall::at(call, path)(errno) }
    };
    let create = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match open(path, create, Mode::from_bits_truncate(0o666)) {
        Err(Errno::EEXIST) => {}
        result => return result.map_err(failed("create")),
    }
    // O_PATH, so that no device is opened and a FIFO does not block.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let target = open(path, flags, Mode::empty()).map_err(failed("open"))?;
    match file_type(&fstat(&target).map_err(failed("fstat"))?) {
        SFlag::S_IFREG | SFlag::S_IFCHR => Ok(target),
        SFlag::S_IFLNK => Err(failed("open")(Errno::ELOOP)),
        _ => Err(ConsoleError::BadTarget { path: path.to_owned() }),
    }
}
