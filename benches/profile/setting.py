"""Where it is measured: bundles like those of benches/lifecycle, a state folder on a tmpfs, and commands with their process ids."""

import atexit
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

PROFILE = os.path.join(os.path.dirname(__file__), "../lifecycle/seccomp.json")
PR_SET_CHILD_SUBREAPER = 36
LIMITS = {"memory": {"limit": 64 << 20}, "cpu": {"quota": 50_000, "period": 100_000, "shares": 512}, "pids": {"limit": 100}}


class Setting:
    """`rt` runs with its state on a tmpfs of a mount namespace of our own (see `run`), so nothing stays mounted."""

    def __init__(self, rt):
        # Containers' processes become our children, and their end is seen without polling.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.rt, self.held = rt, set()
        self.folder = tempfile.mkdtemp(prefix="rt-profile-")
        atexit.register(self.remove)
        self.root = f"{self.folder}/state"
        os.mkdir(self.root)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.root], check=True)
        self.null = os.open("/dev/null", os.O_RDWR)
        self.bundles = self.make_bundles()

    def make_bundles(self):
        """Folders: plain and full run `true`, the sleeping ones stay."""
        rootfs = f"{self.folder}/rootfs"
        os.makedirs(f"{rootfs}/bin")
        for name in ("proc", "sys", "dev", "etc"):
            os.mkdir(f"{rootfs}/{name}")
        shutil.copy("/bin/busybox", f"{rootfs}/bin/busybox")
        for name in ("true", "sleep"):
            os.symlink("busybox", f"{rootfs}/bin/{name}")
        subprocess.run([self.rt, "spec", "--bundle", self.folder], check=True)
        plain = json.load(open(f"{self.folder}/config.json"))
        plain["root"] = {"path": rootfs, "readonly": False}
        plain["process"].update(terminal=False, args=["true"])
        full = json.loads(json.dumps(plain))
        full["linux"]["seccomp"] = json.load(open(PROFILE))
        full["linux"]["resources"].update(LIMITS)
        for name in ("hostname", "hosts", "resolv.conf"):
            source = f"{self.folder}/{name}"
            open(source, "w").write("# as docker's\n")
            full["mounts"].append({"destination": f"/etc/{name}", "type": "bind", "source": source, "options": ["rbind", "rprivate"]})
        bundles = {}
        for name, config in (("plain", plain), ("full", full)):
            bundles[name] = self.bundle(name, config)
            config["process"]["args"] = ["sleep", "100000"]
            bundles[f"{name} sleeping"] = self.bundle(f"{name}-sleeping", config)
        return bundles

    def bundle(self, name, config):
        path = f"{self.folder}/{name}"
        os.mkdir(path)
        json.dump(config, open(f"{path}/config.json", "w"))
        return path

    def id(self, name):
        return f"rt-profile-{os.getpid()}-{name}"

    def spawn(self, *args, before=(), errors=None):
        """The process id of a command of rt, silent and with no descriptor of ours. `before` are words before the program."""
        words = [*before, self.rt, "--root", self.root, *args]
        if args[0] == "create":
            self.held.add(args[-1])
        # A container would keep a pipe open.
        ends = [(os.POSIX_SPAWN_DUP2, self.null, 0), (os.POSIX_SPAWN_DUP2, self.null, 1)]
        return os.posix_spawnp(words[0], words, os.environ, file_actions=[*ends, (os.POSIX_SPAWN_DUP2, errors or self.null, 2)])

    def command(self, *args, before=()):
        """Runs a command to its end; returns its process id."""
        with tempfile.TemporaryFile() as errors:
            pid = self.spawn(*args, before=before, errors=errors.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status:
                errors.seek(0)
                sys.exit(f"rt {' '.join(args)}: exit {status}: {errors.read().decode()[-500:]}")
        if args[0] == "delete":
            self.held.discard(args[-1])
        return pid

    def create(self, bundle, name, before=()):
        """Creates and returns (id, pid of the command, pid of init)."""
        id, file = self.id(name), f"{self.root}/.pid"
        pid = self.command("create", "--bundle", self.bundles[bundle], "--pid-file", file, id, before=before)
        return id, pid, int(open(file).read())

    def created_behind(self, bundle, name, before):
        """The same for a tracer that stays with init: (id, pid of the tracer), once the container is created."""
        id = self.id(name)
        tracer = self.spawn("create", "--bundle", self.bundles[bundle], id, before=before)
        for _ in range(1000):
            state = subprocess.run([self.rt, "--root", self.root, "state", id], capture_output=True)
            if b'"created"' in state.stdout:
                return id, tracer
            time.sleep(0.01)
        sys.exit(f"{id} was not created within 10 s")

    def remove(self):
        """Whatever ended us, nothing stays."""
        for id in self.held:
            subprocess.run([self.rt, "--root", self.root, "delete", "--force", id], stdout=self.null, stderr=self.null)
        subprocess.run(["umount", "--lazy", self.root], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
