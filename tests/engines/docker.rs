//! docker: an own dockerd on an own containerd, with the runtime under test registered.

use crate::common::{Cgroup, Run, Sandbox, needs_engine, needs_root, needs_rt};
use crate::engine::{ENGINE_PATIENCE, Engine};

/// A dockerd of a test's own, with the runtime under test as `rt`.
pub struct Docker {
    pub engine: Engine,
    host: String,
}

impl Docker {
    /// `config` is the daemon.json; `None` where the machine has no docker.
    pub fn start(config: &str) -> Option<Self> {
        Self::needs().then(|| Self::start_on(Engine::new(), "rt", config))
    }

    pub fn needs() -> bool {
        needs_root() && needs_engine("dockerd") && needs_engine("docker") && needs_engine("containerd")
    }

    /// On an engine's folder and network, with a default runtime that may come from the daemon.json.
    pub fn start_on(mut engine: Engine, default_runtime: &str, config: &str) -> Self {
        let containerd = engine.containerd();
        let host = format!("unix://{}", engine.text("docker.sock"));
        let parent = format!("/{}", engine.sandbox.id("docker"));
        let runtime = format!("rt={}", Sandbox::binary().display());
        let config = engine.file("daemon.json", config).display().to_string();
        let daemon = engine
            .program("dockerd")
            .args(["--containerd", &containerd, "--host", &host])
            .args(["--add-runtime", &runtime, "--default-runtime", default_runtime])
            .args(["--data-root", &engine.text("docker-root"), "--exec-root", &engine.text("docker-exec")])
            .args(["--pidfile", &engine.text("docker.pid"), "--config-file", &config])
            .args(["--storage-driver", "vfs", "--cgroup-parent", &parent])
            .args(["--default-ulimit", "nofile=1024:1024", "--iptables=false", "--ip6tables=false"])
            .args(["--bridge=none", "--exec-opt", "native.cgroupdriver=cgroupfs"]);
        let docker = |args: &[&str]| Run::new("docker").args(["--host", &host]).args(args);
        engine.daemon(daemon, || docker(&["version"]).run().code == 0);
        let docker = Self { engine, host };
        docker.command(&["import", &docker.engine.root_archive().display().to_string(), "box"]).ok();
        docker
    }

    /// The root of the runtime's state, which docker chooses.
    pub fn runtime_root(&self) -> String {
        self.engine.text("docker-exec/runtime-runc/moby")
    }

    pub fn command(&self, args: &[&str]) -> Run {
        Run::new("docker").args(["--host", &self.host]).args(args).time_limit(ENGINE_PATIENCE)
    }
}

#[test]
fn docker_runs_execs_updates_and_stops_with_a_limit() {
    let Some(daemon) = Docker::start("{}") else { return };
    let docker = |args: &[&str]| daemon.command(args);
    let run = ["run", "--network", "none"];

    let outcome =
        docker(&run).args(["--rm", "-m", "64m", "box", "sh", "-c", "echo from docker; exit 6"]).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (6, "from docker\n"), "{outcome}");
    assert_eq!(docker(&run).args(["--rm", "box", "/no/such"]).run().code, 127);
    assert_eq!(docker(&run).args(["--rm", "box", "/etc/passwd"]).run().code, 126);

    docker(&run).args(["--detach", "--name", "one", "-m", "64m", "box", "sleep", "1000"]).ok();
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", "one"]).ok().stdout;
    let memory = Cgroup::of(pid.trim().parse().expect("a pid"), "memory").expect("a memory cgroup");
    assert_eq!(memory.memory_limit(), (64 << 20).to_string());
    docker(&["update", "--memory", "48m", "--memory-swap", "96m", "one"]).ok();
    assert_eq!(memory.memory_limit(), (48 << 20).to_string());
    let exec = docker(&["exec", "one", "sh", "-c", "echo inside; exit 4"]).run();
    assert_eq!((exec.code, exec.stdout.as_str()), (4, "inside\n"), "{exec}");
    assert!(docker(&["top", "one"]).ok().stdout.contains("sleep 1000"));
    docker(&["stop", "--time", "0", "one"]).ok();
    docker(&["rm", "--force", "one"]).ok();

    let fill = "exec dd if=/dev/zero of=/dev/shm/fill bs=1M count=60";
    let outcome = docker(&run).args(["--name", "oom", "-m", "32m", "box", "sh", "-c", fill]).run();
    assert_eq!(outcome.code, 137, "{outcome}");
    assert_eq!(docker(&["inspect", "--format", "{{.State.OOMKilled}}", "oom"]).ok().stdout, "true\n");
    let id = docker(&["inspect", "--format", "{{.Id}}", "oom"]).ok().stdout;
    docker(&["rm", "--force", "oom"]).ok();
    if needs_rt() {
        let root = daemon.runtime_root();
        let why = daemon.engine.sandbox.bare(["--root", &root, "why", id.trim()]).ok().stdout;
        assert!(why.contains("OOM-killed by its own limit of 32 MiB"), "{why}");
    }
}
