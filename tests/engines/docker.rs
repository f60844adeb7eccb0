//! docker: an own dockerd on an own containerd, with the runtime under test registered.

use crate::common::{Run, Sandbox, needs_engine, needs_root};
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
