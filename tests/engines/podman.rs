//! podman with storage of a test's own.

use crate::common::{Outcome, Run, Sandbox, needs_engine, needs_root, needs_rt};
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
    // What a disk that others keep busy cannot take in time is killed for, which proves the limit as well.
    let proven = |file| proof.contains(&format!("overall: enforced (sequential enforced, file {file})"));
    assert!(proven("held-by-reclaim") || proven("enforced"), "{proof}");
    rt(&["test-memory", "--expect", "32"]).run().fails_with("not-enforced (limit-not-applied)");
    let reading = rt(&["monitor", "0"]).ok().stdout;
    assert!(reading.contains("of 64 MiB"), "{reading}");
    let stress = rt(&["stress-memory", "96", "1"]).ok().stdout;
    assert!(stress.contains("held: "), "{stress}");
    let status = podman.command(&globals).args(["inspect", "-f", "{{.State.Status}}", "web"]).ok().stdout;
    assert_eq!(status.trim(), "running", "unharmed");
}
