"""System calls of commands, seen by strace, counted by the phase that they belong to. Each is placed by what it is and by the file
that it is for: a process's phase goes on at certain calls, and cgroups, sealing and messages are told apart within it."""

import os
import re

PHASES = {
    "start": "start of the program",
    "seal": "sealing",
    "state": "config and state",
    "cgroup": "cgroups",
    "clone": "clone and messages",
    "namespace": "namespaces",
    "mount": "mounts",
    "restrict": "restrictions",
    "exec": "exec of the program",
    "end": "end",
}
COMMANDS = ("create", "start", "exec", "state", "kill", "delete")
LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()")
MESSAGES = {"clone", "clone3", "fork", "vfork", "socketpair", "sendmsg", "recvmsg", "pidfd_open", "sched_setaffinity", "wait4", "waitid"}
# A process goes from phase to phase by the first of these, never back.
MARKS = [
    ("namespace", re.compile(r"(setsid|unshare|setns)\(")),
    ("mount", re.compile(r"(mount|open_tree|pivot_root)\(|umask\(000\)")),
    ("restrict", re.compile(r"prctl\(PR_(SET_NO_NEW_PRIVS|CAPBSET)|capset\(|setgroups\(|setgid\(|seccomp\(")),
    ("exec", re.compile(r"rt_sigaction\(SIG|close_range\(|execve\(")),
]


# Where init waits for `start`.
GATE = re.compile(r"read\(\d+<[^>]*/exec\.fifo>")


class Process:
    """The phase that a process is in. `child`: cloned by rt, not called by us."""

    def __init__(self, child):
        self.child, self.phase = child, "clone" if child else "start"
        self.released = self.ended = False

    def place(self, call, line, own):
        """The phase of one call. `own`: a path of rt's root or of the bundle is in it."""
        if self.child:
            return self.place_in_child(call, line)
        if call == "exit_group":
            return "end"
        if self.phase == "start":
            if call in ("fsopen", "memfd_create"):
                self.phase = "seal"
            elif own and call != "execve":
                self.phase = "state"
        elif self.phase == "seal" and call in ("execveat", "execve"):
            self.phase = "start"
            return "seal"
        if "</rt>" in line or "F_GET_SEALS" in line or 'PR_SET_NAME, "rt"' in line or 'openat(AT_FDCWD</>, "/proc/self/exe"' in line:
            return "seal"
        if self.phase == "state":
            if "/sys/fs/cgroup" in line or "/proc/self/cgroup" in line:
                return "cgroup"
            if call in MESSAGES or "<socket:" in line or "<anon_inode:[pidfd]>" in line:
                return "clone"
        return self.phase

    def place_in_child(self, call, line):
        order = list(PHASES)
        for phase, mark in MARKS:
            if order.index(phase) > order.index(self.phase) and mark.search(line):
                self.phase = phase
        if call in ("sendmsg", "recvmsg", "clone", "clone3", "fork") or "<socket:" in line and self.phase != "namespace":
            return "clone"
        if self.phase == "clone" and "/sys/fs/cgroup" in line:
            return "cgroup"
        if call == "execve":
            self.ended = True
        return self.phase


def count(trace, own_paths):
    """Counts a trace: by phase, what is before init's gate is opened, and init's calls after it."""
    before, after, processes = {}, {}, {}
    for line in open(trace, errors="replace"):
        found = LINE.match(line)
        # Counted where it begins; the other half of a call that was interrupted is not another one.
        if not found or found[2]:
            continue
        pid, call, text = found[1], found[3], line[found.start(3):]
        process = processes.setdefault(pid, Process(child=bool(processes)))
        if process.ended:
            continue
        phase = process.place(call, text, any(path in text for path in own_paths))
        process.released |= process.child and bool(GATE.match(text))
        counts = after if process.released else before
        counts[phase] = counts.get(phase, 0) + 1
    return before, after


def trace_all(setting, kind):
    """Counts of every command for one kind of bundle, by command and phase."""
    own, results = (setting.root, setting.bundles[kind]), {command: {} for command in COMMANDS}

    def strace(command):
        return ("strace", "-f", "-y", "-s", "64", "-o", f"{setting.folder}/{command}.trace")

    def counted(command):
        return count(f"{setting.folder}/{command}.trace", own)

    # Filters are kept from the first life on, as on a node.
    id, _, init = setting.create(kind, "warm")
    setting.command("delete", "--force", id)
    os.waitpid(init, 0)
    id, tracer = setting.created_behind(kind, "traced", strace("create"))
    setting.command("start", id, before=strace("start"))
    os.waitpid(tracer, 0)
    setting.command("delete", id, before=strace("delete"))
    sleeper, _, init = setting.create(f"{kind} sleeping", "sleeper")
    setting.command("start", sleeper)
    setting.command("exec", sleeper, "true", before=strace("exec"))
    setting.command("state", sleeper, before=strace("state"))
    setting.command("kill", sleeper, "KILL", before=strace("kill"))
    os.waitpid(init, 0)
    setting.command("delete", sleeper)
    for command in COMMANDS:
        before, after = counted(command)
        # init is traced with create, but released by start.
        for late, counts in ((command, before), ("start" if command == "create" else command, after)):
            for phase, number in counts.items():
                results[late][phase] = results[late].get(phase, 0) + number
    return results


def table(results):
    lines = ["| phase | " + " | ".join(COMMANDS) + " |", "|---|" + "---:|" * len(COMMANDS)]
    for phase, words in PHASES.items():
        cells = [str(results[command].get(phase, "")) for command in COMMANDS]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    sums = [str(sum(results[command].values())) for command in COMMANDS]
    return "\n".join([*lines, "| all | " + " | ".join(sums) + " |"]) + "\n"
