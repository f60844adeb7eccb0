//! The terminal of a container's process: made inside the container, its controlling end handed to the caller.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use oci_spec::runtime::Process;

use super::{Failure, call};
use crate::runtime::process::reason::Reason;
use crate::runtime::rootfs::mount_console;
use crate::sys::terminal::{WindowSize, open_peer, set_controlling, set_window_size};

const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);

/// The name that goes with a terminal.
const NAME: &[u8] = b"/dev/ptmx";

/// A socket that was named on the command line cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("dial unix {}: {}", path.display(), Reason::of(error))]
pub struct SocketError {
    path: PathBuf,
    error: io::Error,
}

/// Connects to a socket that takes a descriptor (`--console-socket`, `--pidfd-socket`).
///
/// # Errors
/// Nobody listens there.
pub fn connect(path: &Path) -> Result<OwnedFd, SocketError> {
    UnixStream::connect(path).map(OwnedFd::from).map_err(|error| SocketError { path: path.to_owned(), error })
}

/// Sends `descriptor` with a name.
pub fn send_descriptor(socket: impl AsFd, name: &[u8], descriptor: impl AsFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd().as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let slices = [IoSlice::new(name)];
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &slices, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Makes a terminal in the container's /dev/pts, sends its controlling end through `socket`, and makes the other end
/// the standard streams and the controlling terminal of the caller, which leads a session. With `mount` it becomes
/// /dev/console.
pub fn set_up(socket: &OwnedFd, process: &Process, mount: bool) -> Result<(), Failure> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let master = open("/dev/pts/ptmx", flags, Mode::empty()).map_err(call("open /dev/pts/ptmx"))?;
    verify(&master)?;
    // By descriptor: a path could lead elsewhere (CVE-2025-52565).
    let slave = open_peer(&master).map_err(|error| format!("get pty peer: {}", Reason::of(&error)))?;
    if let Some(size) = process.console_size() {
        let cells = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        let size = WindowSize { columns: cells(size.width()), rows: cells(size.height()) };
        set_window_size(&master, size)
            .map_err(|error| format!("set console size: {}", Reason::of(&error)))?;
    }
    if mount {
        mount_console(slave.as_fd(), Path::new("/dev/console"))?;
    }
    send_descriptor(socket, NAME, &master)
        .map_err(|error| format!("cannot send the terminal to the console socket: {}", Reason::of(&error)))?;
    dup2_stdin(&slave)
        .and_then(|()| dup2_stdout(&slave))
        .and_then(|()| dup2_stderr(&slave))
        .map_err(call("dup2"))?;
    set_controlling(&slave).map_err(|error| format!("ioctl(setctty): {}", Reason::of(&error)).into())
}

/// An image could have put something else in the place of the multiplexer.
fn verify(master: &OwnedFd) -> Result<(), Failure> {
    let found = fstat(master).map_err(call("fstat /dev/pts/ptmx"))?;
    let is_device = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    let kind = fstatfs(master).map_err(call("fstatfs /dev/pts/ptmx"))?.filesystem_type();
    if is_device && found.st_rdev == libc::makedev(5, 2) && kind == DEVPTS_SUPER_MAGIC {
        return Ok(());
    }
    Err("/dev/pts/ptmx is not the multiplexer of a devpts file system".into())
}
