"""Where processor time goes: perf's samples of many lives and of many execs, by process and by part."""

import os
import re
import subprocess

HERTZ = 9999
# What asks CPUID in the C library's start (__libc_start_main has some of them inlined) and in Rust's; each traps to the
# hypervisor in a virtual machine.
CPUID = re.compile(r"(intel_check_word|handle_intel|get_common_|get_extended_ind|update_active|init_cpu_features|.*init_cacheinfo|"
                   r"__libc_start_main|std_detect)")
START = re.compile(r"(_start$|rt_entry$|rt::sys::entry|__libc_(init|setup)|_dl_|__tunable|apply_irel|.*_ifunc)")
ENTRY = {"entry_SYSCALL_64_after_hwframe", "entry_SYSCALL_64", "do_syscall_64", "x64_sys_call"}
SWITCH = ("exit_to_user_mode_loop", "irqentry_exit_to_user_mode", "asm_sysvec_", "ret_from_fork_asm")
CALL = re.compile(r"(?:__x64_sys_|__do_sys_|__se_sys_|ksys_|__sys_|do_sys_|do_(?=seccomp$))(\w+)$")
CPUID_PART, START_PART, CODE, ENTERING, OTHERS = "C library: CPUID", "C library: rest of its start", "user code", "other calls", "interrupts and switches"
# The kernel's work by system call; cgroups' files are told apart by what is called for them.
FAMILIES = {
    "execve": "execve execveat",
    "clone": "clone clone3 fork vfork",
    "unshare, setns": "unshare setns",
    "mount": "mount umount umount2 move_mount open_tree fsopen fsconfig fsmount mount_setattr pivot_root",
    "cgroup: mkdir": "", "cgroup: rmdir": "", "cgroup: files": "",
    "capabilities, seccomp, ids": "prctl seccomp capset capget setuid setgid setgroups setresuid setresgid",
    "files: open, close": "open openat openat2 close close_range",
    "files: read, write, stat": "read write pread64 lseek newfstatat newfstat fstat statx fstatfs statfs readlink readlinkat access faccessat2 getdents64",
    "files: make, rename, remove": "mkdir mkdirat mknodat symlinkat rename renameat unlink unlinkat rmdir chmod fchmod",
    "messages, waiting": "sendmsg recvmsg sendto recvfrom socket socketpair wait4 waitid poll ppoll pidfd_open",
    "exit": "exit exit_group",
}
FAMILY = {call: family for family, calls in FAMILIES.items() for call in calls.split()}
# What the kernel puts off to threads of its own.
LATER = {"cleanup_net": "later: network namespace", "free_ipc": "later: IPC namespace", "bpf_jit_free": "later: seccomp filter",
         "css_killed_work_fn": "later: cgroups", "css_release_work_fn": "later: cgroups", "css_free_rwork_fn": "later: cgroups"}
PARTS = [CPUID_PART, START_PART, CODE, "page faults", *FAMILIES, ENTERING, *dict.fromkeys(LATER.values()), OTHERS]


class Recorder:
    """perf, on all processors: attached to processes it would let go of them before their memory is freed."""

    def __init__(self, folder):
        self.data = f"{folder}/perf.data"
        control, told = f"{folder}/control", f"{folder}/told"
        for fifo in (control, told):
            os.path.exists(fifo) or os.mkfifo(fifo)
        self.perf = subprocess.Popen(
            ["perf", "record", "-q", "-a", "-e", "cpu-clock:I", "-F", str(HERTZ), "-g", "-D", "-1", "-o", self.data, "--control", f"fifo:{control},{told}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.control, self.told = open(control, "w"), open(told)
        self.tell("enable")

    def tell(self, word):
        self.control.write(f"{word}\n"), self.control.flush()
        self.told.readline()

    def stop(self):
        self.tell("stop")
        self.perf.wait()
        self.control.close(), self.told.close()


def record(setting, rounds, execs):
    """Records lives or execs of the bundle with seccomp and limits: the recording, and pid → what the process is."""
    roles = {}
    # Filters are kept from the first life on; afterwards the folder of a container that was is there too.
    id, _, init = setting.create("full sleeping", "held")
    setting.command("start", id)
    recorder = Recorder(setting.folder)
    for number in range(rounds):
        if execs:
            roles[setting.command("exec", id, "true")] = "exec"
            continue
        life, create, own = setting.create("full", f"life-{number}")
        roles |= {create: "create", own: "init", setting.command("start", life): "start"}
        os.waitpid(own, 0)
        roles[setting.command("delete", life)] = "delete"
    recorder.stop()
    setting.command("delete", "--force", id)
    os.waitpid(init, 0)
    return recorder.data, roles


def stacks(data, roles, rt, folder):
    """Counts by folded stack: (role, part, frame, …), outermost first."""
    symbols = view_of_symbols(rt, folder)
    command = ["perf", "script", "-i", data, "--symfs", symbols, "--kallsyms", "/proc/kallsyms", "-F", "comm,pid,ip,sym,dso"]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")
    counts = {}
    for sample in text.split("\n\n"):
        head, *frames = [line for line in sample.splitlines() if line.strip()] or [""]
        # A process may have spaces in its name.
        found = re.match(r"\s*(.+?)\s+(\d+)\s*$", head)
        role = found and role_of(found[1], int(found[2]), roles, frames)
        if role:
            stack = (role, *fold(frames))
            counts[stack] = counts.get(stack, 0) + 1
    return counts


def role_of(comm, pid, roles, frames):
    """What a process is to us, None for what is not to be counted: this program itself, before rt is executed."""
    if comm in ("true", "busybox"):
        return "program"
    if comm.startswith("python") or comm == "perf-exec":
        return roles.get(pid) if any("_execve" in frame for frame in frames) else None
    if comm.startswith("kworker"):
        return "kernel" if any(work in frame for frame in frames for work in LATER) else None
    return roles.get(pid) or ("child of exec" if comm.startswith("rt") else None)


def view_of_symbols(rt, folder):
    """Where perf finds the binary under both names that it runs by: sealed it is /rt."""
    view = f"{folder}/symbols"
    for name in (f"/{os.path.basename(rt)}", rt):
        os.makedirs(os.path.dirname(view + name), exist_ok=True)
        os.path.exists(view + name) or os.symlink(rt, view + name)
    return view


def fold(frames):
    """(part, frame, …) of one sample. Of user code the innermost frame alone is known: there are no frame pointers."""
    names = [re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", frame) for frame in frames]
    names = [(tidy(name[1]), "kernel" in name[2]) for name in names if name]
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
    """Percent of all samples: a row a part, a column a process. Parts of less than 0.05 % have none."""
    all = sum(counts.values())
    cells = {}
    for (role, part, *_), number in counts.items():
        for column in (role, "all"):
            cells[part, column] = cells.get((part, column), 0) + number
            cells["all", column] = cells.get(("all", column), 0) + number
    columns = [*roles, "all"]
    lines = ["| part | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for part in [*(part for part in PARTS if cells.get((part, "all"), 0) >= all / 2000), "all"]:
        shares = [100 * cells.get((part, column), 0) / all for column in columns]
        lines.append(f"| {part} | " + " | ".join(f"{share:.1f}" if share >= 0.05 else "" for share in shares) + " |")
    return "\n".join(lines) + "\n"
