//! A child on the caller's memory, with a stack of its own: vfork(2) whose child may call what it likes.

use std::arch::asm;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;

use nix::unistd::Pid;

use super::Arguments;

/// Reserved, not resident: pages that nobody touches cost nothing.
const STACK: usize = 256 << 10;

#[repr(align(16))]
#[expect(dead_code, reason = "the kernel and the child use it by its address")]
struct Stack([u8; STACK]);

static mut STACK_OF_CHILD: Stack = Stack([0; STACK]);

/// What the child runs, taken once.
struct Start<F> {
    child: ManuallyDrop<F>,
    in_cgroup: bool,
}

extern "C" fn run<F: FnOnce(bool) -> i32>(start: *mut Start<F>) -> i32 {
    // SAFETY: the caller passes a live Start, and waits until this process has ended; nobody else takes the closure.
    let (child, in_cgroup) = unsafe { (ManuallyDrop::take(&mut (*start).child), (*start).in_cgroup) };
    child(in_cgroup)
}

/// Runs `child` in a new process, which is told whether it was born in `cgroup`, and waits until it has ended (it is still
/// to be reaped). Gives `child` back where the kernel makes none (clone3(2) is of Linux 5.3).
pub fn clone_on_own_stack<F: FnOnce(bool) -> i32>(
    cgroup: Option<BorrowedFd<'_>>,
    child: F,
) -> Result<Pid, F> {
    const FLAGS: u64 = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    let arguments = || Arguments {
        stack: (&raw const STACK_OF_CHILD).addr() as u64,
        stack_size: STACK as u64,
        ..Arguments::new(FLAGS, libc::SIGCHLD)
    };
    let mut start = Start { child: ManuallyDrop::new(child), in_cgroup: true };
    let born = cgroup.map(|cgroup| call(&arguments().into_cgroup(cgroup), &raw mut start));
    let pid = match born {
        Some(pid @ 1..) => pid,
        _ => {
            start.in_cgroup = false;
            call(&arguments(), &raw mut start)
        }
    };
    match i32::try_from(pid) {
        Ok(pid @ 1..) => Ok(Pid::from_raw(pid)),
        // SAFETY: no child was made, so nobody has taken the closure.
        _ => Err(unsafe { ManuallyDrop::take(&mut start.child) }),
    }
}

/// clone3(2): the pid, or a negative error number. Returns in the caller only.
fn call<F: FnOnce(bool) -> i32>(arguments: &Arguments, start: *mut Start<F>) -> i64 {
    let pid: i64;
    // SAFETY: the child begins on a stack of its own, 16-byte aligned, calls `run` and ends. The caller waits meanwhile
    // (CLONE_VFORK), has one thread, and takes all memory for changed by this block. The kernel keeps the registers.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone3 => pid,
            in("rdi") arguments,
            in("rsi") size_of::<Arguments>(),
            in("r12") run::<F> as extern "C" fn(*mut Start<F>) -> i32,
            in("r13") start,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    pid
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;
    use crate::sys::testing::succeeds_in_child;

    #[test]
    fn a_child_leaves_what_it_found_in_the_memory_of_the_caller() {
        // A test has threads; a forked child has one.
        succeeds_in_child(|| {
            let (mut found, mut pids) = (Vec::new(), Vec::new());
            for round in 0..100 {
                let pid = clone_on_own_stack(None, |in_cgroup| {
                    found.push(format!("{round} {in_cgroup}"));
                    pids.push(Pid::this());
                    round
                });
                let pid = pid.unwrap_or_else(|_| panic!("no child"));
                assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, round)));
                assert_eq!((found.last(), pids.last()), (Some(&format!("{round} false")), Some(&pid)));
            }
            assert_eq!(found.len(), 100);
        });
    }

    #[test]
    fn a_child_that_cannot_be_in_the_cgroup_is_made_elsewhere() {
        use std::os::fd::AsFd;
        succeeds_in_child(|| {
            let folder = std::fs::File::open("/").unwrap();
            let pid =
                clone_on_own_stack(Some(folder.as_fd()), i32::from).unwrap_or_else(|_| panic!("no child"));
            assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
        });
    }
}
