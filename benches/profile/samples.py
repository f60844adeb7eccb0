"""Where processor time goes: perf's samples of many lives and of many execs, by process and by part (see parts.py)."""

import os
import re
import select
import subprocess
import sys
import time

from parts import LATER, fold

HERTZ = 9999


class Recorder:
    """perf, on all processors: attached to processes it would let go of them before their memory is freed."""

    def __init__(self, folder):
        self.data = f"{folder}/perf.data"
        control, told = f"{folder}/control", f"{folder}/told"
        for fifo in (control, told):
            os.path.exists(fifo) or os.mkfifo(fifo)
        # Open at both ends, so that nothing here waits for a perf that failed.
        self.control, self.told = os.open(control, os.O_RDWR), os.open(told, os.O_RDWR)
        # perf ends with us, however we end.
        command = ["setpriv", "--pdeathsig", "INT", "perf", "record", "-q", "-a", "-e", "cpu-clock:I", "-F", str(HERTZ), "-g", "-D", "-1",
                   "-k", "CLOCK_MONOTONIC", "-o", self.data, "--control", f"fifo:{control},{told}"]
        self.perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.tell("enable")

    def tell(self, word):
        os.write(self.control, f"{word}\n".encode())
        while not select.select([self.told], [], [], 0.1)[0]:
            if self.perf.poll() is not None:
                sys.exit(f"perf: {self.perf.stderr.read().decode()}")
        os.read(self.told, 64)

    def stop(self):
        self.tell("stop")
        self.perf.wait()
        os.close(self.control), os.close(self.told)


class Roles:
    """What processes are to us, and when they were: a busy machine uses their ids again."""

    def __init__(self):
        self.lives = {}

    def add(self, pid, role, begin, end=None):
        self.lives.setdefault(pid, []).append((begin, end or time.monotonic(), role))

    def at(self, pid, moment):
        """(begin, end, role), nothing for processes that are not ours."""
        return next((life for life in self.lives.get(pid, ()) if life[0] <= moment <= life[1]), (0, 0, None))

    def add_children(self, text):
        """exec's child, which has a child of its own where there is a user namespace, from the forks that perf saw."""
        for moment, child, parent in re.findall(r"([\d.]+): PERF_RECORD_FORK\((\d+):\d+\):\((\d+):", text):
            _, end, role = self.at(int(parent), float(moment))
            if role in ("exec", "child of exec"):
                self.add(int(child), "child of exec", float(moment), end)


def record(setting, rounds, execs):
    """Records lives or execs of the bundle with seccomp and limits: the recording, and the roles of processes."""
    roles = Roles()
    # exec is called in it; lives find filters that are kept and warm caches.
    id, _, init = setting.create("full sleeping", "held")
    setting.command("start", id)
    recorder = Recorder(setting.folder)
    for number in range(rounds):
        begin = time.monotonic()
        if execs:
            roles.add(setting.command("exec", id, "true"), "exec", begin)
            continue
        life, create, own = setting.create("full", f"life-{number}")
        roles.add(create, "create", begin)
        released = time.monotonic()
        roles.add(setting.command("start", life), "start", released)
        os.waitpid(own, 0)
        roles.add(own, "init", begin)
        ended = time.monotonic()
        roles.add(setting.command("delete", life), "delete", ended)
    recorder.stop()
    setting.command("delete", "--force", id)
    os.waitpid(init, 0)
    return recorder.data, roles


def stacks(data, roles, rt, folder):
    """Counts by folded stack: (role, part, frame, …), outermost first."""
    symbols = view_of_symbols(rt, folder)
    command = ["perf", "script", "-i", data, "--symfs", symbols, "--kallsyms", "/proc/kallsyms", "--show-task-events",
               "-F", "comm,pid,time,ip,sym,dso"]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")
    roles.add_children(text)
    counts = {}
    for sample in re.sub(r".*PERF_RECORD_.*\n", "", text).split("\n\n"):
        head, *frames = [line for line in sample.splitlines() if line.strip()] or [""]
        # A process may have spaces in its name.
        found = re.match(r"\s*(.+?)\s+(\d+)\s+([\d.]+):", head)
        role = found and role_of(found[1], roles.at(int(found[2]), float(found[3]))[2], frames)
        if role:
            stack = (role, *fold(frames))
            counts[stack] = counts.get(stack, 0) + 1
    return counts


def role_of(comm, role, frames):
    """What a sample is of; None for other processes of the machine, and for this program before it has executed rt."""
    if comm.startswith("kworker"):
        return "kernel" if any(work in frame for frame in frames for work in LATER) else None
    if comm.startswith("python") and not any("_execve" in frame for frame in frames):
        return None
    # Its name is the program's once it has executed it.
    return "program" if role in ("init", "child of exec") and not comm.startswith("rt") else role


def view_of_symbols(rt, folder):
    """Where perf finds the binary under both names that it runs by: sealed it is /rt."""
    view = f"{folder}/symbols"
    for name in (f"/{os.path.basename(rt)}", rt):
        os.makedirs(os.path.dirname(view + name), exist_ok=True)
        os.path.exists(view + name) or os.symlink(rt, view + name)
    return view
