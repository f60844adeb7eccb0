//! podman: run, exec, stop, rm, update, logs, build.

use std::fs;

use crate::common::{Cgroup, Outcome, Run, Sandbox, needs_engine, needs_root, needs_rt, wait_until};
use crate::engine::{ENGINE_PATIENCE, Engine};

const CONF: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";

/// podman with its own storage and the runtime under test.
pub struct Podman {
    pub engine: Engine,
    parent: String,
}

impl Podman {
    pub fn new() -> Self {
        let engine = Engine::new();
        let parent = engine.sandbox.id("podman");
        engine.file("containers.conf", CONF);
        engine.file("policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}");
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
            engine.text("podman-run"),
            engine.text("podman-root")
        );
        engine.file("storage.conf", &storage);
        let podman = Self { engine, parent };
        let archive = podman.engine.root_archive();
        podman.command(&["import"]).arg(archive).arg("box").ok();
        podman
    }

    pub fn command(&self, args: &[&str]) -> Run {
        let text = |name| self.engine.text(name);
        let (key, value) = self.engine.sandbox.mark().split_once('=').expect("a mark");
        Run::new("podman")
            .arg("--runtime")
            .arg(Sandbox::binary())
            .args([
                "--cgroup-manager",
                "cgroupfs",
                "--tmpdir",
                &text("podman-tmp"),
                "--storage-driver",
                "vfs",
            ])
            .args(["--root", &text("podman-root"), "--runroot", &text("podman-run")])
            .args(args)
            .env(key, value)
            .env("CONTAINERS_CONF", text("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", text("storage.conf"))
            .cwd(self.engine.sandbox.path(""))
            .time_limit(ENGINE_PATIENCE)
    }

    /// `podman run` without a network, in a cgroup of this test.
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.run_with(&[], args)
    }

    /// The same with options of podman's own.
    pub fn run_with(&self, globals: &[&str], args: &[&str]) -> Outcome {
        let parent = format!("/{}", self.parent);
        let run = ["run", "--network", "none", "--cgroup-parent", &parent];
        self.command(globals).args(run).args(args).run()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "--all", "--force", "--time", "0"]).run();
    }
}

pub fn needs_podman() -> bool {
    needs_root() && needs_engine("podman") && needs_engine("conmon")
}

#[test]
fn podman_runs_a_container_to_its_end() {
    if !needs_podman() {
        return;
    }
    let podman = Podman::new();
    let outcome = podman.run(&["--rm", "box", "sh", "-c", "echo from podman; exit 7"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (7, "from podman\n"), "{outcome}");
    let outcome = podman.run(&["--rm", "-i", "box", "/no/such"]);
    assert_eq!(outcome.code, 127, "{outcome}");
    let outcome = podman.run(&["--rm", "box", "/etc/passwd"]);
    assert_eq!(outcome.code, 126, "{outcome}");
}

#[test]
fn podman_execs_updates_stops_and_removes() {
    if !needs_podman() {
        return;
    }
    let podman = Podman::new();
    let script = "trap 'echo bye; exit 0' TERM; echo hello; while true; do sleep 0.05; done";
    podman
        .run(&[
            "--detach",
            "--name",
            "one",
            "--memory",
            "64m",
            "--pids-limit",
            "50",
            "box",
            "sh",
            "-c",
            script,
        ])
        .succeeds();
    let exec = podman.command(&["exec", "--env", "A=b", "one", "sh", "-c", "echo $A; exit 3"]).run();
    assert_eq!((exec.code, exec.stdout.as_str()), (3, "b\n"), "{exec}");
    assert_eq!(podman.command(&["exec", "one", "/no/such"]).run().code, 127);

    let pid = podman.command(&["inspect", "--format", "{{.State.Pid}}", "one"]).ok().stdout;
    let pid: i64 = pid.trim().parse().expect("a pid");
    let memory = Cgroup::of(pid, "memory").expect("a memory cgroup");
    assert_eq!(memory.memory_limit(), (64 << 20).to_string());
    podman.command(&["update", "--memory", "48m", "one"]).ok();
    assert_eq!(memory.memory_limit(), (48 << 20).to_string());

    podman.command(&["pause", "one"]).ok();
    podman.command(&["unpause", "one"]).ok();
    wait_until("its log", || podman.command(&["logs", "one"]).ok().stdout.contains("hello"));
    podman.command(&["stop", "--time", "20", "one"]).ok();
    assert!(podman.command(&["logs", "one"]).ok().stdout.contains("bye"), "stop must send SIGTERM and wait");
    podman.command(&["start", "one"]).ok();
    podman.command(&["rm", "--force", "--time", "0", "one"]).ok();
    assert!(podman.command(&["ps", "--all", "--quiet"]).ok().stdout.is_empty());
}

#[test]
fn podman_sees_an_out_of_memory_kill() {
    if !needs_podman() {
        return;
    }
    let podman = Podman::new();
    let fill = "exec dd if=/dev/zero of=/dev/shm/fill bs=1M count=60";
    let outcome =
        podman.run(&["--name", "oom", "--memory", "32m", "--shm-size", "64m", "box", "sh", "-c", fill]);
    assert_eq!(outcome.code, 137, "{outcome}");
    let oom_killed = podman.command(&["inspect", "--format", "{{.State.OOMKilled}}", "oom"]).ok().stdout;
    if needs_rt() {
        // Also where podman does not know it.
        let id = podman.command(&["inspect", "--format", "{{.Id}}", "oom"]).ok().stdout;
        podman.command(&["rm", "oom"]).ok();
        let why = podman.engine.sandbox.bare(["why", id.trim()]).ok().stdout;
        assert!(why.contains("OOM-killed by its own limit of 32 MiB"), "{why}");
    }
    // On cgroup v1, conmon 2.1 misses the kill with any runtime.
    if !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return;
    }
    assert_eq!(oom_killed, "true\n");
}

#[test]
fn podman_gives_a_terminal() {
    if !needs_podman() {
        return;
    }
    let podman = Podman::new();
    let outcome = podman.run(&["--rm", "--tty", "box", "sh", "-c", "test -t 1 && tty"]).succeeds();
    assert!(outcome.stdout.contains("/dev/"), "{outcome}");
}

#[test]
fn podman_builds_an_image() {
    if !needs_podman() {
        return;
    }
    let podman = Podman::new();
    let context = podman.engine.sandbox.path("context");
    fs::create_dir(&context).expect("a folder");
    fs::write(
        context.join("Containerfile"),
        "FROM localhost/box\nRUN echo built > /built && id -u >> /built\n",
    )
    .expect("a file");
    podman
        .command(&["build", "--network", "none", "--tag", "built", "--signature-policy"])
        .arg(podman.engine.sandbox.path("policy.json"))
        .arg(&context)
        .ok();
    let outcome = podman.run(&["--rm", "built", "cat", "/built"]);
    assert_eq!(outcome.stdout, "built\n0\n", "{outcome}");
}

#[test]
fn a_container_of_podman_with_runc_is_proved_watched_and_stressed_by_its_pid() {
    if !needs_podman() || !needs_engine("runc") || !needs_rt() {
        return;
    }
    let podman = Podman::new();
    let globals = ["--runtime", "runc"];
    podman.run_with(&globals, &["-d", "--name", "web", "-m", "64m", "box", "sleep", "1000"]).succeeds();
    let inspected = podman.command(&globals).args(["inspect", "-f", "{{.State.Pid}}", "web"]).ok().stdout;
    let pid = inspected.trim();
    let rt = |args: &[&str]| podman.engine.sandbox.rt(args.iter().copied()).args(["--pid", pid]);
    let proof = rt(&["test-memory", "--strategy", "sequential,file", "--expect", "64"]).ok().stdout;
    assert!(proof.contains("overall: enforced (sequential enforced, file held-by-reclaim)"), "{proof}");
    rt(&["test-memory", "--expect", "32"]).run().fails_with("not-enforced (limit-not-applied)");
    let reading = rt(&["monitor", "0"]).ok().stdout;
    assert!(reading.contains("of 64 MiB"), "{reading}");
    let stress = rt(&["stress-memory", "96", "1"]).ok().stdout;
    assert!(stress.contains("held: "), "{stress}");
    let status = podman.command(&globals).args(["inspect", "-f", "{{.State.Status}}", "web"]).ok().stdout;
    assert_eq!(status.trim(), "running", "unharmed");
}
