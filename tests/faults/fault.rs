//! What is done to one system call: the process is killed before it, or it fails with one errno that the call may really have.

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc;

/// What happens at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the process before the call is made.
    Kill,
    /// The call is not made and fails.
    Fail(Errno),
}

/// Every fault that is tried at a call of this name with these arguments.
pub fn at_call(name: &str, arguments: &[u64; 6]) -> Vec<Fault> {
    let mut faults = vec![Fault::Kill];
    faults.extend(errnos(name, arguments).iter().copied().map(Fault::Fail));
    faults
}

/// Whether the call is made and its result then replaced: close(2) frees the descriptor whatever it returns.
pub fn is_made_all_the_same(name: &str) -> bool {
    name == "close"
}

fn errnos(name: &str, arguments: &[u64; 6]) -> &'static [Errno] {
    use Errno::*;
    match name {
        "open" | "openat" => &[EMFILE, EACCES],
        "openat2" => &[EMFILE, EPERM],
        "read" => &[EIO, EINTR],
        "write" => &[ENOSPC, EINTR],
        "getdents64" | "readlink" | "readlinkat" | "pread64" | "pwrite64" | "fsync" => &[EIO],
        "statx" | "newfstatat" | "fstat" | "stat" | "lstat" | "faccessat" | "faccessat2" | "access" => {
            &[EACCES, EIO]
        }
        "statfs" | "fstatfs" => &[EIO],
        "mkdir" | "mkdirat" | "mknod" | "mknodat" | "symlink" | "symlinkat" | "link" | "linkat"
        | "rename" | "renameat" | "renameat2" | "ftruncate" | "fallocate" => &[ENOSPC],
        "unlink" | "unlinkat" | "rmdir" => &[EBUSY],
        "mount" | "umount2" | "pivot_root" => &[EPERM, ENOMEM],
        "move_mount" | "open_tree" | "fsopen" | "fsconfig" | "fsmount" | "mount_setattr" => {
            &[EPERM, ENOMEM, ENOSYS]
        }
        "clone" | "fork" | "vfork" => &[EAGAIN],
        "clone3" => &[EAGAIN, ENOSYS],
        "execve" | "execveat" => &[ENOMEM, E2BIG],
        "socket" | "socketpair" | "pipe2" | "accept4" | "memfd_create" | "inotify_init1"
        | "epoll_create1" | "eventfd2" | "dup" | "dup2" | "dup3" | "timerfd_create" | "signalfd4" => {
            &[EMFILE]
        }
        "pidfd_open" | "pidfd_getfd" => &[EMFILE, ENOSYS],
        "fcntl" => match i32::try_from(arguments[1]) {
            // A check of std's debug builds.
            Ok(libc::F_GETFD) => &[],
            Ok(libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) => &[EMFILE],
            _ => &[EINVAL],
        },
        "close" => &[EINTR],
        "prctl" => match i32::try_from(arguments[0]) {
            Ok(libc::PR_CAPBSET_READ) => &[],
            _ => &[EPERM],
        },
        "connect" => &[ECONNREFUSED, EINTR],
        "sendto" | "sendmsg" => &[ENOBUFS, EINTR],
        // std's spawn of a process panics where its own socket fails, which that of a stream never does with ENOMEM.
        "recvfrom" => &[EINTR],
        "recvmsg" => &[ENOMEM, EINTR],
        "mmap" | "mremap" | "mprotect" => &[ENOMEM],
        // An unlock does not wait.
        "flock" if i32::try_from(arguments[1]) == Ok(libc::LOCK_UN) => &[],
        "wait4" | "waitid" | "poll" | "ppoll" | "epoll_wait" | "epoll_pwait" | "nanosleep"
        | "clock_nanosleep" | "futex" | "flock" | "rt_sigtimedwait" => &[EINTR],
        "getrandom" | "close_range" => &[ENOSYS],
        // These cannot fail, or not in a way that a program could meet.
        "exit" | "exit_group" | "rt_sigreturn" | "rt_sigaction" | "rt_sigprocmask" | "sigaltstack"
        | "set_robust_list" | "set_tid_address" | "rseq" | "arch_prctl" | "umask" | "brk" | "sched_yield"
        | "madvise" | "munmap" | "getpid" | "gettid" | "getppid" | "getuid" | "geteuid" | "getgid"
        | "getegid" | "gettimeofday" | "clock_gettime" | "restart_syscall" => &[],
        _ => &[EPERM],
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("kill"),
            Self::Fail(errno) => write!(f, "{errno:?}"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "kill" {
            return Ok(Self::Kill);
        }
        (1..200)
            .map(Errno::from_raw)
            .find(|errno| format!("{errno:?}") == text)
            .map(Self::Fail)
            .ok_or_else(|| format!("no fault '{text}'"))
    }
}
