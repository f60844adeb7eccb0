//! containerd: ctr run, exec, kill, rm through the runc v2 shim.

use crate::common::{Cgroup, Run, Sandbox, needs_engine, needs_root, needs_rt, wait_until};
use crate::engine::{ENGINE_PATIENCE, Engine};

const IMAGE: &str = "docker.io/library/box:latest";

#[test]
fn containerd_runs_execs_pauses_and_kills() {
    if !needs_root() || !needs_engine("containerd") || !needs_engine("ctr") {
        return;
    }
    let mut engine = Engine::new();
    let socket = engine.containerd();
    let namespace = engine.sandbox.id("ctr");
    let ctr = |args: &[&str]| {
        Run::new("ctr")
            .args(["--address", &socket, "--namespace", &namespace])
            .args(args)
            .time_limit(ENGINE_PATIENCE)
    };
    let archive = engine.image_archive(IMAGE).display().to_string();
    ctr(&["image", "import", "--no-unpack", &archive]).ok();
    let runtime = Sandbox::binary().display().to_string();
    let run = ["run", "--runc-binary", &runtime, "--snapshotter", "native"];

    let outcome = ctr(&run).args(["--rm", IMAGE, "first", "sh", "-c", "echo from containerd; exit 5"]).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (5, "from containerd\n"), "{outcome}");
    let outcome = ctr(&run).args(["--rm", IMAGE, "missing", "/no/such"]).run();
    assert!(outcome.code != 0 && outcome.stderr.contains("no such file or directory"), "{outcome}");

    ctr(&run).args(["--detach", "--memory-limit", "67108864", IMAGE, "second", "sleep", "1000"]).ok();
    let list = ctr(&["task", "ls"]).ok().stdout;
    let line = list.lines().find(|l| l.starts_with("second")).unwrap_or_default();
    let pid: i64 = line.split_whitespace().nth(1).and_then(|p| p.parse().ok()).expect("a pid");
    assert_eq!(Cgroup::of(pid, "memory").expect("a memory cgroup").memory_limit(), (64 << 20).to_string());
    let exec = ctr(&["task", "exec", "--exec-id", "e1", "second", "sh", "-c", "echo inside; exit 4"]).run();
    assert_eq!((exec.code, exec.stdout.as_str()), (4, "inside\n"), "{exec}");
    assert!(ctr(&["task", "ps", "second"]).ok().stdout.contains(&pid.to_string()));
    ctr(&["task", "pause", "second"]).ok();
    assert!(ctr(&["task", "ls"]).ok().stdout.contains("PAUSED"));
    ctr(&["task", "resume", "second"]).ok();
    ctr(&["task", "kill", "--signal", "SIGKILL", "second"]).ok();
    wait_until("its end", || ctr(&["task", "ls"]).ok().stdout.contains("STOPPED"));
    ctr(&["task", "rm", "second"]).run();
    ctr(&["container", "rm", "second"]).ok();

    let root = format!("/run/containerd/runc/{namespace}");
    if needs_rt() {
        let why = engine.sandbox.bare(["--root", &root, "why", "second"]).ok().stdout;
        assert!(why.contains("killed by SIGKILL, sent with 'kill'"), "{why}");
    }
    std::fs::remove_dir_all(root).expect("the runtime's folder of this namespace");
}
