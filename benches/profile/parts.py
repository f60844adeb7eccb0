"""The parts of processor time: which one a sample belongs to, and the table of them."""

import re

# What asks CPUID in the C library's start (__libc_start_main has some of them inlined) and in Rust's; each traps to the
# hypervisor in a virtual machine.
CPUID = re.compile(r"(intel_check_word|handle_intel|get_common_|get_extended_ind|update_active|init_cpu_features|.*init_cacheinfo|"
                   r"__libc_start_main|std_detect)")
START = re.compile(r"(_start$|rt_entry$|rt::sys::entry|__libc_(init|setup)|_dl_|__tunable|apply_irel|.*_ifunc)")
ENTRY = {"entry_SYSCALL_64_after_hwframe", "entry_SYSCALL_64", "do_syscall_64", "x64_sys_call"}
SWITCH = ("exit_to_user_mode_loop", "irqentry_exit_to_user_mode", "asm_sysvec_", "ret_from_fork_asm")
CALL = re.compile(r"(?:__x64_sys_|__do_sys_|__se_sys_|ksys_|__sys_|do_sys_|do_(?=seccomp$))(\w+)$")
CPUID_PART, START_PART, CODE = "C library: CPUID", "C library: rest of its start", "user code"
ENTERING, OTHERS = "other calls", "interrupts and switches"
# The kernel's work by system call; cgroups' files are told apart by what is called for them.
FAMILIES = {
    "execve": "execve execveat",
    "clone": "clone clone3 fork vfork",
    "unshare, setns": "unshare setns",
    "mount": "mount umount umount2 move_mount open_tree fsopen fsconfig fsmount mount_setattr pivot_root",
    "cgroup: mkdir": "", "cgroup: rmdir": "", "cgroup: files": "",
    "capabilities, seccomp, ids": "prctl seccomp capset capget setuid setgid setgroups setresuid setresgid",
    "files: open, close": "open openat openat2 close close_range",
    "files: read, write, stat": "read write pread64 lseek newfstatat newfstat statx fstatfs statfs readlink readlinkat access faccessat2 "
                               "getdents64",
    "files: make, rename, remove": "mkdir mkdirat mknodat symlinkat rename renameat unlink unlinkat rmdir chmod fchmod",
    "messages, waiting": "sendmsg recvmsg sendto recvfrom socket socketpair wait4 waitid poll ppoll pidfd_open",
    "exit": "exit exit_group",
}
FAMILY = {call: family for family, calls in FAMILIES.items() for call in calls.split()}
# What the kernel puts off to threads of its own.
LATER = {"cleanup_net": "later: network namespace", "free_ipc": "later: IPC namespace", "bpf_jit_free": "later: seccomp filter",
         "css_killed_work_fn": "later: cgroups", "css_release_work_fn": "later: cgroups", "css_free_rwork_fn": "later: cgroups"}
PARTS = [CPUID_PART, START_PART, CODE, "page faults", *FAMILIES, ENTERING, *dict.fromkeys(LATER.values()), OTHERS]


def fold(frames):
    """(part, frame, …) of one sample. Of user code the innermost frame alone is known: there are no frame pointers."""
    names = [re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", frame) for frame in frames]
    names = [(tidy(name[1]), name[2].startswith("[kernel")) for name in names if name]
    kernel = [name for name, inside in names if inside][::-1]
    if not kernel:
        name = names[0][0] if names else "[unknown]"
        if CPUID.match(name):
            return CPUID_PART, name
        return (START_PART, name) if START.match(name) else (CODE, *crate(name))
    for depth, name in enumerate(kernel):
        if name in LATER:
            return LATER[name], *kernel[depth:]
    inner = [name for name in kernel if name not in ENTRY]
    if not inner:
        return ENTERING, "entry"
    fault = inner[0] == "asm_exc_page_fault"
    inner = inner[1:] if fault and len(inner) > 1 else inner
    if inner[0].startswith(SWITCH) and not {"do_exit", "do_group_exit", "task_work_run"} & set(inner):
        return OTHERS, *inner
    if fault:
        return "page faults", *inner
    found = CALL.match(inner[0])
    return family(inner), *([found[1], *inner[1:]] if found else inner)


def family(kernel):
    """The kernel's work for one system call; what is put off to its end (closing mounts) belongs to it."""
    seen = set(kernel)
    if "cgroup_mkdir" in seen or "cgroup_rmdir" in seen:
        return "cgroup: mkdir" if "cgroup_mkdir" in seen else "cgroup: rmdir"
    called = [FAMILY[found[1]] for found in map(CALL.match, kernel) if found and found[1] in FAMILY]
    if seen & {"cleanup_mnt", "namespace_unlock", "kern_unmount_array", "dissolve_on_fput"} and called[:1] != ["exit"]:
        return "mount"
    if called and not called[0].startswith("files"):
        return called[0]
    if any(name.startswith(("kernfs_fop_", "cgroup_")) for name in kernel):
        return "cgroup: files"
    if called:
        return called[0]
    return "exit" if seen & {"do_exit", "do_group_exit"} else ENTERING


def tidy(name):
    name = re.sub(r"\+0x[0-9a-f]+$", "", name)
    name = re.sub(r"\.(constprop|isra|part|llvm)\.\d+(\.\w+)*", "", name)
    return re.sub(r"::h[0-9a-f]{16}$", "", name)


def crate(name):
    """The crate that a Rust function is from, and the function; what has no crate is C."""
    found = re.search(r"([a-z_][a-z0-9_]*)::", name)
    return found[1] if found else "C library", name


def table(counts, roles):
    """Percent of all samples of `roles`: a row a part, a column a process. Parts of less than 0.05 % have no row, and what the kernel
    does later, maybe for others, stands behind the sum."""
    cells = {}
    for (role, part, *_), number in counts.items():
        for column in (role, "all") if role in roles else ("kernel",):
            for row in (part, "all"):
                cells[row, column] = cells.get((row, column), 0) + number
    all = cells["all", "all"]
    columns = [*roles, "all", "kernel"]
    lines = ["| part | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for part in [*PARTS, "all"]:
        shares = [100 * cells.get((part, column), 0) / all for column in columns]
        if max(shares) >= 0.05:
            lines.append(f"| {part} | " + " | ".join(f"{share:.1f}" if share >= 0.05 else "" for share in shares) + " |")
    return "\n".join(lines) + "\n"
