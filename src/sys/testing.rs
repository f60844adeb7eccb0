//! What tests of system calls need: a forked child that may change itself, and calls by number.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Runs `body` in a forked child and returns how it ended. A panic is exit status 101; its message is printed.
pub fn in_child(body: impl FnOnce() -> i32) -> WaitStatus {
    // SAFETY: the child runs nothing but `body` and ends with _exit; glibc makes its allocator usable there.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
                // What the test harness captures is lost with the child.
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
                let _ = nix::unistd::write(std::io::stderr(), format!("{text}\n").as_bytes());
                101
            });
            // SAFETY: ends the process at once, without the destructors of the parent's threads.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    }
}

/// Runs `body` in a forked child and fails unless it returns.
pub fn succeeds_in_child(body: impl FnOnce()) {
    let status = in_child(|| {
        body();
        0
    });
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "the child ended with {status:?}");
}

/// A system call by number. Pass no addresses but null.
pub fn call(number: libc::c_long, arguments: [libc::c_long; 6]) -> Result<libc::c_long, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: tests pass numbers and null pointers only, which the kernel checks.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}
