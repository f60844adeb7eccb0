"""What the machine itself takes, below any runtime: CPUID, the start of a program, and the ways into a cgroup."""

import contextlib
import os
import struct
import subprocess
import time

ROUNDS = 40
EMPTY = "int main(void) { return 0; }"
BARE = 'void _start(void) { __asm__ volatile("mov $60, %eax\\n xor %edi, %edi\\n syscall"); }'


def programs(folder, v2):
    """Words and microseconds (the fastest tenth, the median); see floors.c. `v2`: where cgroup v2 is, if anywhere."""
    def build(name, text, *flags):
        subprocess.run(["cc", "-O2", "-static", *flags, "-o", f"{folder}/{name}", "-x", "c", "-"], input=text.encode(), check=True)
        return f"{folder}/{name}"

    empty, bare = build("empty", EMPTY), build("bare", BARE, "-nostdlib")
    floors = build("floors", open(os.path.join(os.path.dirname(__file__), "floors.c")).read())
    words = ["one CPUID", "life of an empty static program", "the same without the C library", "clone3 of a small process",
             "the same into a cgroup of v2"]
    with cgroup(v2) as born_in:
        lines = subprocess.check_output([floors, empty, bare, *born_in], text=True).splitlines()
    return [(what, *map(float, line.split())) for what, line in zip(words, lines)]


@contextlib.contextmanager
def cgroup(parents):
    """A new cgroup below the first of the folders, as a list; none below none."""
    made = [f"{parent}/rt-profile-{os.getpid()}" for parent in parents[:1]]
    try:
        for folder in made:
            os.mkdir(folder)
        yield made
    finally:
        for folder in made:
            remove(folder)


def hierarchies():
    """The mount points of cgroup v1 hierarchies, and that of v2."""
    v1, v2 = [], []
    for line in open("/proc/self/mountinfo"):
        before, after = line.split(" - ")
        kind = after.split()[0]
        if kind in ("cgroup", "cgroup2"):
            (v1 if kind == "cgroup" else v2).append(before.split()[4])
    return v1, v2


def held_child():
    """A child that waits to be killed."""
    child = os.fork()
    if not child:
        while True:
            time.sleep(1000)
    return child


def end(child):
    os.kill(child, 9)
    os.waitpid(child, 0)


def by_procs(folder):
    child = held_child()
    try:
        file = os.open(f"{folder}/cgroup.procs", os.O_WRONLY)
        began = time.perf_counter()
        os.write(file, str(child).encode())
        took = time.perf_counter() - began
        os.close(file)
    finally:
        end(child)
    return took


def by_tasks(folder):
    """A process of one thread moves itself; what it took comes back by a pipe."""
    inner, outer = os.pipe()
    child = os.fork()
    if not child:
        file = os.open(f"{folder}/tasks", os.O_WRONLY)
        began = time.perf_counter()
        os.write(file, b"0")
        os.write(outer, struct.pack("d", time.perf_counter() - began))
        os._exit(0)
    os.waitpid(child, 0)
    took = struct.unpack("d", os.read(inner, 8))[0]
    os.close(inner), os.close(outer)
    return took


def ways_into_cgroups(v1, v2):
    """The same for each way of a process that runs already."""
    # Of v1 one that takes a process without settings.
    plain = [folder for folder in v1 if not os.path.exists(f"{folder}/cpuset.cpus")]
    ways = [("`cgroup.procs` of v1, by another process", by_procs, plain), ("`tasks` of v1, by itself", by_tasks, plain),
            ("`cgroup.procs` of v2, by another process", by_procs, v2)]
    found = []
    for words, way, parents in ways:
        with cgroup(parents) as folders:
            for folder in folders:
                times = sorted(after_a_rest(way, folder) * 1e6 for _ in range(ROUNDS))
                found.append((f"into a cgroup by {words}", times[ROUNDS // 10], times[ROUNDS // 2]))
    return found


def after_a_rest(way, folder):
    """Moves shortly after another share its wait."""
    time.sleep(0.02)
    return way(folder)


def remove(folder):
    for _ in range(100):
        try:
            return os.rmdir(folder)
        except OSError:
            time.sleep(0.01)


def table(folder):
    v1, v2 = hierarchies()
    # The programs are written for x86_64, and only there is CPUID.
    of_programs = programs(folder, v2) if os.uname().machine == "x86_64" else []
    lines = ["| what | fastest tenth, µs | median, µs |", "|---|---:|---:|"]
    for what, *times in of_programs + ways_into_cgroups(v1, v2):
        lines.append(f"| {what} | " + " | ".join(f"{took:.{0 if took >= 20 else 1}f}" for took in times) + " |")
    if of_programs:
        (_, cpuid, _), (_, empty, _), (_, bare, _) = of_programs[:3]
        lines += ["", f"The C library's share of the empty program is that of {(empty - bare) / cpuid:.0f} CPUIDs."]
    return "\n".join(lines) + "\n"
