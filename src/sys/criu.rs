//! Descriptors that criu and its caller pass around, and the throw-away child that makes mount points.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::sys::process::is_inheritable;

/// Takes over a descriptor that the caller of the program left open for it: close-on-exec from now on. Must
/// be called at most once for a number. Refuses the standard descriptors, what is not open for writing, and the
/// program's own descriptors: these are close-on-exec, and what came through an exec is not.
pub fn take_writable(number: RawFd) -> Result<OwnedFd, Errno> {
    if number <= 2 || !is_inheritable(number) {
        return Err(Errno::EBADF);
    }
    // SAFETY: fcntl on a number that is no descriptor fails with EBADF and does nothing else.
    let flags = Errno::result(unsafe { libc::fcntl(number, libc::F_GETFL) })?;
    if OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE == OFlag::O_RDONLY {
        return Err(Errno::EINVAL);
    }
    // SAFETY: it is open, was inherited rather than opened here, and is named by the user as ours to use.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(descriptor)
}

/// Runs `work` in a forked child and returns what it says went wrong, if something did.
pub fn in_child(work: impl FnOnce() -> Result<(), String>) -> std::io::Result<Result<(), String>> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (mut reader, mut writer) = (File::from(reader), File::from(writer));
    // SAFETY: rt has one thread, so the child may allocate; it ends with _exit below.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(reader);
            let said = work().err().unwrap_or_else(|| "ok".to_owned());
            let status = i32::from(writer.write_all(said.as_bytes()).is_err());
            // SAFETY: _exit has no preconditions, and runs no handlers that belong to the parent.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut said = String::new();
            let read = reader.read_to_string(&mut said);
            while waitpid(child, None) == Err(Errno::EINTR) {}
            read?;
            Ok(if said == "ok" { Ok(()) } else { Err(said) })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_child_says_what_went_wrong() {
        assert_eq!(in_child(|| Ok(())).unwrap(), Ok(()));
        assert_eq!(in_child(|| Err("no".to_owned())).unwrap(), Err("no".to_owned()));
    }

    #[test]
    fn only_writable_descriptors_are_taken() {
        assert_eq!(take_writable(1).unwrap_err(), Errno::EBADF);
        assert_eq!(take_writable(-1).unwrap_err(), Errno::EBADF);
        let own = tempfile::tempfile().unwrap();
        assert_eq!(take_writable(own.as_raw_fd()).unwrap_err(), Errno::EBADF);
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert_eq!(take_writable(reader.as_raw_fd()).unwrap_err(), Errno::EINVAL);
    }
}
