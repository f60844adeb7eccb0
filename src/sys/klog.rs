//! The kernel's log, syslog(2).

use nix::errno::Errno;

/// SYSLOG_ACTION_READ_ALL: the newest messages that fit, without taking them out of the log and without waiting.
const READ_ALL: libc::c_int = 3;

/// The last `max` bytes of the log.
///
/// # Errors
/// EPERM without CAP_SYSLOG where `dmesg_restrict` is set.
pub fn last(max: usize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0u8; max];
    let length = libc::c_int::try_from(max).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel writes at most `length` bytes into the buffer, which has that many.
    let read = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), length) };
    let read = Errno::result(read)?;
    buffer.truncate(usize::try_from(read).unwrap_or(0));
    Ok(buffer)
}
