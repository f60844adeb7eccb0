//! Process creation and the descriptors that name processes: clone, signals and namespaces by pidfd, subreaper, and what comes right before exec.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_long;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

#[cfg(target_arch = "x86_64")]
mod borrow;

/// What kind of child [`clone_process`] makes.
#[derive(Debug, Clone, Copy)]
pub struct CloneOptions<'a> {
    /// What the child gets new ones of. In a new pid namespace it is pid 1.
    pub namespaces: CloneFlags,
    /// The child's parent is the caller's parent (a sibling), which then reaps it.
    pub sibling: bool,
    /// The folder of a cgroup of v2 in which the child is born, where the kernel lets it (Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child runs on the caller's memory, and the caller waits until it has ended, as with vfork(2): that costs a sixth
    /// of a copied address space. A child like any other where this cannot be.
    pub shares_memory: bool,
}

impl Default for CloneOptions<'_> {
    fn default() -> Self {
        Self { namespaces: CloneFlags::empty(), sibling: false, cgroup: None, shares_memory: false }
    }
}

/// Forks a child that runs `child` and exits with what it returns; `child` is told whether it was born in the cgroup
/// that was asked for. Returns the child's pid in the caller's pid namespace.
///
/// Source: clone(2). The address space is copied, as with fork(2), or lent; the caller has one thread, so the
/// child may allocate.
pub fn clone_process<F: FnOnce(bool) -> i32>(options: CloneOptions<'_>, child: F) -> io::Result<Pid> {
    let child = if options.shares_memory {
        match borrow::clone_on_own_stack(options.cgroup, child) {
            Ok(pid) => return Ok(pid),
            Err(child) => child,
        }
    } else {
        child
    };
    let mut flags = options.namespaces.bits();
    if options.sibling {
        flags |= libc::CLONE_PARENT;
    }
    let born = options.cgroup.map(|cgroup| {
        // A sibling ends with the signal of the caller.
        let signal = if options.sibling { 0 } else { libc::SIGCHLD };
        let arguments = Arguments::new(u64::from(flags.cast_unsigned()), signal).into_cgroup(cgroup);
        // SAFETY: the structure lives through the call and has the size that is told; no CLONE_VM and no stack, so this
        // is a fork.
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) }
    });
    let in_cgroup = matches!(born, Some(0..));
    let pid = match born {
        Some(pid) if in_cgroup => pid,
        // SAFETY: no CLONE_VM and no stack, so this is a fork: the child continues here on its own copy of
        // the address space. The process has a single thread, so no lock can be held by another one.
        _ => unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0) },
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = child(in_cgroup);
            // SAFETY: _exit takes any status and does not return; destructors of the parent's values
            // must not run in the child.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))),
    }
}

/// struct clone_args, CLONE_ARGS_SIZE_VER2.
#[repr(C)]
#[derive(Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl Arguments {
    fn new(flags: u64, signal: i32) -> Self {
        Self { flags, exit_signal: u64::from(signal.cast_unsigned()), ..Self::default() }
    }

    fn into_cgroup(self, cgroup: BorrowedFd<'_>) -> Self {
        const CLONE_INTO_CGROUP: u64 = 1 << 33;
        Self {
            flags: self.flags | CLONE_INTO_CGROUP,
            cgroup: u64::from(cgroup.as_raw_fd().cast_unsigned()),
            ..self
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod borrow {
    /// Only written for `x86_64`.
    pub fn clone_on_own_stack<F>(_: Option<super::BorrowedFd<'_>>, child: F) -> Result<super::Pid, F> {
        Err(child)
    }
}

/// Sends `signal` to the process behind `pidfd` (0 only checks that it lives).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the call takes a live descriptor, an integer, a null siginfo and zero flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Joins namespaces of the process behind `pidfd`, or the one namespace of a nsfs descriptor
/// (setns(2); a pidfd with several flags needs Linux 5.8).
pub fn setns(fd: impl AsFd, flags: i32) -> io::Result<()> {
    // SAFETY: setns takes a live descriptor and flags.
    let result = unsafe { libc::setns(fd.as_fd().as_raw_fd(), flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the calling process adopt orphaned descendants (PR_SET_CHILD_SUBREAPER).
pub fn set_child_subreaper() -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether other processes of the same user may inspect this one through /proc and ptrace(2).
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    let result = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(dumpable), 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the name shown in /proc/PID/comm: at most 15 bytes are kept.
pub fn set_process_name(name: &std::ffi::CStr) {
    // SAFETY: name is a valid C string; the kernel copies at most 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Gives `fd` another number, close-on-exec; what had the number is closed. Right before exec only, when nothing else
/// that is owned is used any more. The descriptor comes back with the error.
pub fn relocate(fd: OwnedFd, number: u32) -> Result<OwnedFd, (io::Error, OwnedFd)> {
    let Ok(number) = i32::try_from(number) else {
        return Err((io::Error::from_raw_os_error(libc::EBADF), fd));
    };
    if fd.as_raw_fd() == number {
        return Ok(fd);
    }
    // Not dup3(2): seccomp profiles know it less often, and one may be loaded by now.
    // SAFETY: dup2 takes integers. The owner of what had the number is not used any more, by the contract above.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        return Err((io::Error::last_os_error(), fd));
    }
    // SAFETY: fcntl takes integers.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err((io::Error::last_os_error(), fd));
    }
    // SAFETY: the number was just made a descriptor of its own.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The default action for a signal.
pub fn reset_signal(signal: i32) {
    // SAFETY: SIG_DFL is no handler that could run.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// setdomainname(2).
pub fn set_domain_name(name: &str) -> Result<(), nix::errno::Errno> {
    // SAFETY: the pointer and the length are those of a live string, which the kernel copies.
    let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    nix::errno::Errno::result(result).map(drop)
}

/// A copy of descriptor `number` of the process behind `pidfd` (pidfd_getfd(2), Linux 5.6), close-on-exec.
pub fn pidfd_getfd(pidfd: impl AsFd, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers and returns a new descriptor or −1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_fd().as_raw_fd(), number, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: fd was just returned by the kernel and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Removes a variable from the environment of this process.
pub fn remove_variable(name: &str) {
    // SAFETY: rt has one thread, so nobody else reads the environment.
    unsafe { std::env::remove_var(name) };
}

/// Ends this process at a signal. Pid 1 of a namespace gets only those that it handles.
pub fn end_on(signals: &[i32]) {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(128 + signal) }
    }
    for signal in signals {
        // SAFETY: the handler calls nothing but _exit.
        unsafe { libc::signal(*signal, end as *const () as libc::sighandler_t) };
    }
}
