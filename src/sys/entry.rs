//! The program's entry, before the C library's: `create`, `run` and `exec` go on from a sealed view of the binary at once
//! ([`crate::runtime::seal`] has the reason, and does it later where this cannot). A start of the C library costs 0.5 ms on
//! a virtual machine, nearly all of it for CPUID, which traps to the hypervisor there; so this start costs a tenth.
//!
//! Nothing of libc is initialised here: no thread-local storage, and none of memcpy(3) and its like, which are chosen by the
//! processor later. So there are scalars, raw system calls, and loops that read volatile, which the compiler makes no
//! call of. Whatever is unusual is left to the ordinary way.

use std::arch::{asm, global_asm};
use std::convert::Infallible;
use std::ptr::read_volatile;

global_asm!(
    ".globl rt_entry",
    ".type rt_entry, @function",
    "rt_entry:",
    "mov rdi, rsp",
    "push rdx",
    "sub rsp, 8",
    "call {seal}",
    "add rsp, 8",
    "pop rdx",
    "jmp _start",
    seal = sym seal,
);

/// The variable of [`crate::runtime::seal`].
const HOST_BINARY: &[u8] = b"_RT_HOST_BINARY=\0";
/// A folder that every machine has, for the second layer that an overlay wants; no binary is in it, or nothing is done.
const SCRATCH: &[u8] = b":/etc\0";

const PATH_ROOM: usize = 4096;
const ENVIRONMENT_ROOM: usize = 1024;
const STAT_ROOM: usize = 18;
const AT_FDCWD: isize = libc::AT_FDCWD as isize;

type Text = *const u8;

/// `stack` is what the kernel left there: argc, argv, null, envp, null. Returns where the ordinary start is to go on.
unsafe extern "C" fn seal(stack: *const usize) {
    // SAFETY: the kernel's layout of a new process's stack (System V ABI); all below lives as long as the process.
    unsafe {
        let argc = *stack;
        let argv = stack.add(1).cast::<Text>();
        if argc > 1 && is_sealed_command(argv.add(1)) {
            execute_view(argv, argv.add(argc + 1));
        }
    }
}

/// Whether the command is one from whose process a container could get at the binary. Not with `--debug`: people read
/// what is said of sealing.
///
/// SAFETY: `words` ends with null.
unsafe fn is_sealed_command(mut words: *const Text) -> bool {
    // SAFETY: nothing is read behind the null. Texts are written out, since a table would want to be relocated.
    unsafe {
        loop {
            let word = *words;
            if word.is_null() || equals(word, b"--debug\0") {
                return false;
            }
            if read_volatile(word) != b'-' {
                return equals(word, b"create\0") || equals(word, b"run\0") || equals(word, b"exec\0");
            }
            words = words.add(1);
            let has_value = equals(word, b"--root\0")
                || equals(word, b"--log\0")
                || equals(word, b"--log-format\0")
                || equals(word, b"--rootless\0")
                || equals(word, b"--config\0")
                || equals(word, b"--proof\0");
            if has_value && !(*words).is_null() {
                words = words.add(1);
            }
        }
    }
}

/// Replaces this process by itself, run from a view in which nothing can be written. Returns where something is in the
/// way; nothing is left open then.
///
/// SAFETY: both lists end with null.
unsafe fn execute_view(argv: *const Text, envp: *const Text) -> Option<Infallible> {
    // On the stack they would be filled or copied by memset and memcpy.
    static mut VARIABLE: [u8; PATH_ROOM + 32] = [0; PATH_ROOM + 32];
    static mut LAYERS: [u8; PATH_ROOM + 8] = [0; PATH_ROOM + 8];
    static mut ENVIRONMENT: [Text; ENVIRONMENT_ROOM + 2] = [std::ptr::null(); ENVIRONMENT_ROOM + 2];
    let (variable, layers) = ((&raw mut VARIABLE).cast::<u8>(), (&raw mut LAYERS).cast::<u8>());
    let environment = (&raw mut ENVIRONMENT).cast::<Text>();
    // SAFETY: each buffer has room for what is written: the path has at most PATH_ROOM - 1 bytes, the environment is counted.
    unsafe {
        let head = copy(variable, HOST_BINARY.as_ptr());
        let path = variable.add(head);
        let length = call(
            libc::SYS_readlink,
            [c"/proc/self/exe".as_ptr() as isize, path as isize, PATH_ROOM as isize - 1, 0, 0],
        );
        let length = usize::try_from(length).ok().filter(|length| *length < PATH_ROOM - 1)?;
        path.add(length).write(0);
        let mut count = 0;
        while !(*envp.add(count)).is_null() {
            // It has been here already, or there are more than there is room for.
            if count == ENVIRONMENT_ROOM || starts(*envp.add(count), HOST_BINARY) {
                return None;
            }
            environment.add(count).write(*envp.add(count));
            count += 1;
        }
        environment.add(count).write(variable);
        environment.add(count + 1).write(std::ptr::null());
        let slash = layers_of(path, layers)?;
        let root = overlay(layers)?;
        let flags = (libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) as isize;
        let view = call(libc::SYS_openat, [root, path.add(slash + 1) as isize, flags, 0, 0]);
        close(root);
        if view < 0 {
            return None;
        }
        // A layer has no mounts: of a binary that is bind-mounted it shows what lies below.
        if is_same(view) {
            let empty = c"".as_ptr() as isize;
            call(
                libc::SYS_execveat,
                [view, empty, argv as isize, environment as isize, libc::AT_EMPTY_PATH as isize],
            );
        }
        close(view);
        None
    }
}

/// Writes the layers for the folder of the binary `path`; returns where its last slash is. `None` for a path with a
/// character that overlayfs takes for its own, or one that is in the scratch folder.
///
/// SAFETY: `path` ends with 0, and `layers` has room for it and SCRATCH.
unsafe fn layers_of(path: *const u8, layers: *mut u8) -> Option<usize> {
    // SAFETY: nothing is read behind the 0.
    unsafe {
        let (mut slash, mut at) = (0, 0);
        loop {
            match read_volatile(path.add(at)) {
                0 => break,
                b':' | b',' | b'\\' => return None,
                b'/' => slash = at,
                _ => {}
            }
            layers.add(at).write_volatile(read_volatile(path.add(at)));
            at += 1;
        }
        if slash == 0 || starts(path, b"/etc/\0") {
            return None;
        }
        copy(layers.add(slash), SCRATCH.as_ptr());
        Some(slash)
    }
}

/// An unattached, read-only overlay mount of these layers.
///
/// SAFETY: `layers` ends with 0.
unsafe fn overlay(layers: *const u8) -> Option<isize> {
    const FSCONFIG_SET_STRING: isize = 1;
    const FSCONFIG_CMD_CREATE: isize = 6;
    /// Read-only, no set-user-id, no devices.
    const ATTRIBUTES: isize = 1 | 2 | 4;
    // SAFETY: all strings end with 0 and outlive the calls.
    unsafe {
        let context = call(libc::SYS_fsopen, [c"overlay".as_ptr() as isize, 1, 0, 0, 0]);
        if context < 0 {
            return None;
        }
        let key = c"lowerdir".as_ptr() as isize;
        let made = call(libc::SYS_fsconfig, [context, FSCONFIG_SET_STRING, key, layers as isize, 0]) == 0
            && call(libc::SYS_fsconfig, [context, FSCONFIG_CMD_CREATE, 0, 0, 0]) == 0;
        let root = if made { call(libc::SYS_fsmount, [context, 1, ATTRIBUTES, 0, 0]) } else { -1 };
        close(context);
        (root >= 0).then_some(root)
    }
}

/// Whether the file behind `view` is the one that runs: by inode, size and time of change of struct stat.
fn is_same(view: isize) -> bool {
    const INODE: usize = 1;
    const SIZE: usize = 6;
    const CHANGED: usize = 11;
    static mut SEEN: [usize; STAT_ROOM] = [0; STAT_ROOM];
    static mut OWN: [usize; STAT_ROOM] = [0; STAT_ROOM];
    let (seen, own) = ((&raw mut SEEN).cast::<usize>(), (&raw mut OWN).cast::<usize>());
    // SAFETY: struct stat of x86_64 has 144 bytes, 18 words; it is read only when the kernel has written it.
    unsafe {
        let empty = c"".as_ptr() as isize;
        let own_path = c"/proc/self/exe".as_ptr() as isize;
        call(libc::SYS_newfstatat, [view, empty, seen as isize, libc::AT_EMPTY_PATH as isize, 0]) == 0
            && call(libc::SYS_newfstatat, [AT_FDCWD, own_path, own as isize, 0, 0]) == 0
            && *seen.add(INODE) == *own.add(INODE)
            && *seen.add(SIZE) == *own.add(SIZE)
            && *seen.add(CHANGED) == *own.add(CHANGED)
    }
}

fn close(descriptor: isize) {
    // SAFETY: close(2) takes a number.
    unsafe { call(libc::SYS_close, [descriptor, 0, 0, 0, 0]) };
}

/// SAFETY: that of the system call.
unsafe fn call(number: libc::c_long, [a, b, c, d, e]: [isize; 5]) -> isize {
    let result: isize;
    // SAFETY: the kernel changes rax, rcx and r11, and memory as the call has it.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// SAFETY: both end with 0.
unsafe fn equals(word: Text, other: &[u8]) -> bool {
    // SAFETY: where they are the same so far, neither has ended.
    unsafe { starts(word, other) && read_volatile(word.add(other.len() - 1)) == 0 }
}

/// Whether `word` begins with `head`, whose last byte is 0 and does not count.
///
/// SAFETY: both end with 0.
unsafe fn starts(word: Text, head: &[u8]) -> bool {
    let mut at = 0;
    while at + 1 < head.len() {
        // SAFETY: a word that ends early differs there.
        if unsafe { read_volatile(word.add(at)) } != head[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Copies up to and with the 0; returns the length without it.
///
/// SAFETY: `from` ends with 0, and `to` has room.
unsafe fn copy(to: *mut u8, from: *const u8) -> usize {
    let mut at = 0;
    loop {
        // SAFETY: by the contract.
        let byte = unsafe { read_volatile(from.add(at)) };
        // SAFETY: by the contract.
        unsafe { to.add(at).write_volatile(byte) };
        if byte == 0 {
            return at;
        }
        at += 1;
    }
}
