//! System calls that shape the calling process before exec: capabilities, limits, scheduling, keyrings,
//! descriptors. Each function is one call, and none of them looks at the OCI spec.

use std::ffi::{CStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// Turns the result of `syscall(2)` into a value or the error in errno.
fn checked(result: libc::c_long) -> Result<libc::c_long> {
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}

/// A descriptor that a system call has just made; its number fits in a `c_int` by the kernel's contract.
fn descriptor(result: libc::c_long) -> Result<OwnedFd> {
    let number = i32::try_from(checked(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just returned this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What Rust's own entry does that a program relies on: a closed standard stream is /dev/null, or a file that is opened
/// would take its place, and writing where nobody reads is an error, no signal. So is writing beyond the limit of a file's
/// size, by a handler that does nothing: an exec puts the default action back, for every program that rt executes.
pub fn prepare_as_program() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: the array lives through the call and has three elements.
    unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    for stream in streams {
        if stream.revents & libc::POLLNVAL != 0 {
            // SAFETY: the path is a C string. The lowest free number is the closed one.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
    // SAFETY: SIG_IGN is no handler that could run.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGXFSZ, nothing as *const () as libc::sighandler_t) };
}

/// Clears the environment that the caller gave from this process: from what its children inherit, and from its memory, where
/// /proc/PID/environ and debuggers find it. For a process of one thread.
pub fn forget_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    static mut NONE: [*mut libc::c_char; 1] = [std::ptr::null_mut()];
    // SAFETY: the list ends with null and nobody else changes it. The kernel lays the strings of the environment down side by
    // side, and the name of the program right behind them (AT_EXECFN): what is cleared lies between the two, on the stack.
    unsafe {
        let end = usize::try_from(libc::getauxval(libc::AT_EXECFN)).unwrap_or_default();
        // One that was set since is on the heap, far below.
        let is_the_callers =
            |text: *mut libc::c_char| end.checked_sub(text.addr()).is_some_and(|left| left < MAX_ENVIRONMENT);
        let mut first = None;
        let mut variable = environ;
        while !variable.is_null() && !(*variable).is_null() {
            if is_the_callers(*variable) && first.is_none_or(|first| *variable < first) {
                first = Some(*variable);
            }
            variable = variable.add(1);
        }
        if let Some(first) = first {
            std::ptr::write_bytes(first, 0, end - first.addr());
        }
        environ = (&raw mut NONE).cast();
    }
}

/// The kernel takes no more than three quarters of 8 MiB for arguments and environment (execve(2)).
const MAX_ENVIRONMENT: usize = 6 << 20;

/// prlimit(2): sets a resource limit of `pid` (0: the caller). `resource` is a RLIMIT_ number.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` lives across the call and the old limit is not asked for.
    checked(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            libc::c_long::from(pid),
            libc::c_ulong::from(resource),
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// The struct of sched_setattr(2), in its first published version (48 bytes), which every kernel takes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// Filled in by [`sched_setattr`].
    pub size: u32,
    /// SCHED_ number.
    pub policy: u32,
    /// SCHED_FLAG_ bits.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period: u64,
}

/// sched_setattr(2) on the caller.
pub fn sched_setattr(attr: SchedAttr) -> Result<()> {
    let size = u32::try_from(size_of::<SchedAttr>()).map_err(|_| Errno::EINVAL)?;
    let attr = SchedAttr { size, ..attr };
    // SAFETY: `attr` is a valid sched_attr of the size it names and lives across the call.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })?;
    Ok(())
}

/// ioprio_set(2) on the caller; `value` is `class << 13 | priority`.
pub fn ioprio_set(value: u32) -> Result<()> {
    const WHO_PROCESS: libc::c_long = 1;
    // SAFETY: no pointer is passed.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, libc::c_ulong::from(value)) })?;
    Ok(())
}

/// set_mempolicy(2): `mode` with its flags; `nodes` as a bit set, or none.
pub fn set_mempolicy(mode: u32, nodes: Option<&[u64]>) -> Result<()> {
    let (pointer, bits) = match nodes {
        Some(words) => (words.as_ptr(), words.len() * 64),
        None => (std::ptr::null(), 0),
    };
    // SAFETY: `pointer` is null, or holds `bits` bits; the kernel reads at most that many.
    checked(unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::c_ulong::from(mode), pointer, bits) })?;
    Ok(())
}

/// sched_setaffinity(2) of `pid` (0: the caller) to a bit set of any length.
pub fn sched_setaffinity(pid: i32, cpus: &[u64]) -> Result<()> {
    // SAFETY: the slice lives across the call and the length is its size in bytes.
    checked(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, libc::c_long::from(pid), size_of_val(cpus), cpus.as_ptr())
    })?;
    Ok(())
}

/// sched_getaffinity(2) of the caller into `cpus`; the rest of the buffer is left as it was.
pub fn sched_getaffinity(cpus: &mut [u64]) -> Result<()> {
    // SAFETY: the slice is writable for the length that is passed.
    checked(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(cpus), cpus.as_mut_ptr()) })?;
    Ok(())
}

/// getcwd(2) without the C library, which hides a directory outside the root behind ENOENT.
pub fn getcwd() -> Result<OsString> {
    let mut buffer = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most `buffer.len()` bytes, the final NUL included.
    let length = checked(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    buffer.truncate(usize::try_from(length).map_err(|_| Errno::EINVAL)?.saturating_sub(1));
    Ok(OsString::from_vec(buffer))
}

/// close_range(2) from `first` to the last possible descriptor.
pub fn close_range_from(first: u32) -> Result<()> {
    // SAFETY: no pointer is passed. The caller gives up every descriptor from `first` on, which is done right before
    // exec only.
    checked(unsafe {
        libc::syscall(libc::SYS_close_range, libc::c_ulong::from(first), libc::c_ulong::from(u32::MAX), 0)
    })?;
    Ok(())
}

/// close(2) of a descriptor that is known by its number only.
pub fn close_number(number: i32) -> Result<()> {
    // SAFETY: used for what nothing here owns, or when no owner runs any more.
    if unsafe { libc::close(number) } == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// Whether an open descriptor would survive exec.
pub fn is_inheritable(number: i32) -> bool {
    // SAFETY: F_GETFD touches no memory.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// Sets or clears close-on-exec of a descriptor that is known by its number only. EBADF: it is not open.
pub fn set_cloexec(number: i32, on: bool) -> Result<()> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an int and touches no memory.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags) } == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// pidfd_open(2); the descriptor is readable when the process has ended.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) })
}

/// PR_CAPBSET_READ: whether the kernel knows the capability.
pub fn knows_capability(number: u32) -> bool {
    // SAFETY: prctl with integer arguments.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) != -1 }
}

/// PR_CAPBSET_READ: whether the caller's bounding set has the capability.
pub fn has_bounding(number: u32) -> bool {
    // SAFETY: prctl with integer arguments.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) == 1 }
}

/// PR_CAPBSET_DROP. EINVAL: the kernel does not know the capability; EPERM: no CAP_SETPCAP.
pub fn drop_bounding(number: u32) -> Result<()> {
    // SAFETY: prctl with integer arguments.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
    if result == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// PR_CAP_AMBIENT_CLEAR_ALL. EINVAL: a kernel before 4.3.
pub fn clear_ambient() -> Result<()> {
    // SAFETY: prctl with integer arguments.
    let result = unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0)
    };
    if result == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// PR_CAP_AMBIENT_RAISE. EPERM: not both permitted and inheritable.
pub fn raise_ambient(number: u32) -> Result<()> {
    // SAFETY: prctl with integer arguments.
    let result = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
            libc::c_ulong::from(number),
            0,
            0,
        )
    };
    if result == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// capset(2) of the caller; each set is a bit mask by capability number.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let half = |set: u64| u32::try_from(set & u64::from(u32::MAX)).unwrap_or_default();
    let (low, high) = (half, |set: u64| half(set >> 32));
    let header = Header { version: VERSION_3, pid: 0 };
    let data = [
        Data { effective: low(effective), permitted: low(permitted), inheritable: low(inheritable) },
        Data { effective: high(effective), permitted: high(permitted), inheritable: high(inheritable) },
    ];
    // SAFETY: version 3 of the interface reads one header and exactly two data structs.
    checked(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// KEY_SPEC_SESSION_KEYRING: stands for the session keyring, whatever its serial.
pub const SESSION_KEYRING: i32 = libc::KEY_SPEC_SESSION_KEYRING;

/// KEYCTL_JOIN_SESSION_KEYRING: a keyring of that name becomes the session keyring, which is made where there is
/// none that the caller may search. Returns its serial, or 0 when it was the session keyring already.
pub fn join_session_keyring(name: &CStr) -> Result<i32> {
    // SAFETY: `name` is NUL-terminated and lives across the call.
    let serial = checked(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr())
    })?;
    i32::try_from(serial).map_err(|_| Errno::EINVAL)
}

/// KEYCTL_DESCRIBE: `type;uid;gid;permissions;description` of a key (the first 512 bytes).
pub fn describe_key(serial: i32) -> Result<Vec<u8>> {
    let mut buffer = vec![0_u8; 512];
    // SAFETY: the kernel writes at most `buffer.len()` bytes.
    let length = checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_DESCRIBE,
            libc::c_long::from(serial),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    buffer.truncate(usize::try_from(length).map_err(|_| Errno::EINVAL)?);
    Ok(buffer)
}

/// KEYCTL_SETPERM of a key.
pub fn set_key_permissions(serial: i32, permissions: u32) -> Result<()> {
    // SAFETY: no pointer is passed.
    checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_SETPERM,
            libc::c_long::from(serial),
            libc::c_ulong::from(permissions),
        )
    })?;
    Ok(())
}

/// A procfs instance of the caller's pid namespace that is mounted nowhere, so that nothing covers its files.
/// Needs CAP_SYS_ADMIN and Linux 5.2.
pub fn detached_procfs() -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_long = 1;
    const FSCONFIG_CMD_CREATE: libc::c_long = 6;
    const FSMOUNT_CLOEXEC: libc::c_long = 1;
    const MOUNT_ATTR_NOSUID_NODEV_NOEXEC: libc::c_long = 0x2 | 0x4 | 0x8;
    // SAFETY: the name is NUL-terminated and static.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC) })?;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: FSCONFIG_CMD_CREATE takes no key and no value.
    checked(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0)
    })?;
    // SAFETY: no pointer is passed.
    descriptor(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID_NODEV_NOEXEC)
    })
}

/// fchown(2) of the user only; the group stays.
pub fn set_owner(file: BorrowedFd<'_>, uid: u32) -> Result<()> {
    // SAFETY: no pointer is passed; a gid of -1 means "as it is".
    if unsafe { libc::fchown(file.as_raw_fd(), uid, libc::gid_t::MAX) } == -1 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}
