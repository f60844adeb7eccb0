//! seccomp(2): loads a BPF program, and asks the kernel which filter flags it knows.

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Bytes of one BPF instruction (`struct sock_filter`).
pub const INSTRUCTION_SIZE: usize = 8;

/// Whether the kernel knows these SECCOMP_FILTER_FLAG_ bits. Nothing is loaded: the program is a null pointer,
/// which a kernel that accepts the flags answers with EFAULT.
pub fn knows_flags(flags: u32) -> bool {
    // SAFETY: a null program is never read; the call can only fail.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER as libc::c_ulong,
            libc::c_ulong::from(flags),
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    result == -1 && Errno::last() == Errno::EFAULT
}

/// Loads a program (instructions in host byte order, back to back) into the calling thread. With the
/// NEW_LISTENER bit the notification descriptor comes back, close-on-exec. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn set_filter(program: &[u8], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    if program.is_empty() || !program.len().is_multiple_of(INSTRUCTION_SIZE) {
        return Err(Errno::EINVAL);
    }
    let mut instructions: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION_SIZE)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let length = u16::try_from(instructions.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: instructions.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that live across the call; the kernel copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER as libc::c_ulong,
            libc::c_ulong::from(flags),
            &raw const program,
        )
    };
    if result == -1 {
        return Err(Errno::last());
    }
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    let number = i32::try_from(result).map_err(|_| Errno::EBADF)?;
    // SAFETY: with NEW_LISTENER the kernel returns a new descriptor, which nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// SECCOMP_FILTER_FLAG_LOG
pub const LOG: u32 = 1 << 1;
/// SECCOMP_FILTER_FLAG_SPEC_ALLOW
pub const SPEC_ALLOW: u32 = 1 << 2;
/// SECCOMP_FILTER_FLAG_NEW_LISTENER
pub const NEW_LISTENER: u32 = 1 << 3;
/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
