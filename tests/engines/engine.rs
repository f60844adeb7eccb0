//! What the engines' tests share: images from busybox, daemons, the end of both.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{PATIENCE, Run, Running, Sandbox, wait_until};

/// Engines do much around a container, and CI's disks are slow.
pub const ENGINE_PATIENCE: Duration = Duration::from_secs(120);

/// A sandbox for one engine; what runs with its folder on the command line is killed at the end.
#[derive(Debug)]
pub struct Engine {
    daemons: Vec<Running>,
    /// The network namespace that its daemons are in; `None` for this process's.
    network: Option<PathBuf>,
    pub sandbox: Sandbox,
}

impl Engine {
    pub fn new() -> Self {
        Self { daemons: Vec::new(), network: None, sandbox: Sandbox::new() }
    }

    /// One whose daemons live in a network namespace, as on a machine of their own.
    pub fn in_network(network: &Path) -> Self {
        let mut engine = Self::new();
        engine.network = Some(network.to_owned());
        engine
    }

    /// A program where the daemons are. `ip netns exec` would hide the cgroup mounts.
    pub fn program(&self, name: &str) -> Run {
        match &self.network {
            None => Run::new(name),
            Some(network) => Run::new("nsenter").arg(format!("--net={}", network.display())).arg(name),
        }
    }

    /// A file in this engine's folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.sandbox.path(name);
        fs::write(&path, text).expect("a file of an engine");
        path
    }

    /// The same, to be executed.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name, text);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("mode 0755");
        path
    }

    pub fn text(&self, name: &str) -> String {
        self.sandbox.path(name).display().to_string()
    }

    /// A tar of a root file system.
    pub fn root_archive(&self) -> PathBuf {
        let archive = self.sandbox.path("root.tar");
        let bundle = self.sandbox.bundle();
        Run::new("tar").arg("-C").arg(bundle.rootfs("")).arg("-cf").arg(&archive).arg(".").ok();
        archive
    }

    /// Starts a daemon and waits until `ready` succeeds.
    pub fn daemon(&mut self, command: Run, ready: impl Fn() -> bool) {
        let (key, value) = self.sandbox.mark().split_once('=').expect("a mark");
        let mut daemon = command.env(key, value).spawn();
        wait_until("a daemon", || {
            assert!(daemon.is_running(), "the daemon ended: {}", daemon.text());
            ready()
        });
        self.daemons.push(daemon);
    }

    /// containerd with everything of its own; returns its socket.
    pub fn containerd(&mut self) -> String {
        let config = containerd_config(&self.text("containerd"), &self.text("containerd.sock"));
        let config = self.file("containerd.toml", &config);
        let socket = self.text("containerd.sock");
        let command = self.program("containerd").arg("--config").arg(config);
        let probe = socket.clone();
        self.daemon(command, || Run::new("ctr").args(["--address", &probe, "version"]).run().code == 0);
        socket
    }
}

fn containerd_config(folder: &str, socket: &str) -> String {
    format!(
        "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\", \
         \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.devmapper\"]\n\
         [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n"
    )
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The last one started uses the ones before it.
        while let Some(mut daemon) = self.daemons.pop() {
            daemon.signal(Signal::SIGTERM);
            let start = std::time::Instant::now();
            while daemon.is_running() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        kill_with_argument(&self.sandbox.path(""));
    }
}

/// Kills what names the folder on its command line: shims and monitors.
fn kill_with_argument(folder: &Path) {
    let own = std::process::id().cast_signed();
    let folder = folder.display().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != own && String::from_utf8_lossy(&line).contains(folder.trim_end_matches('/')) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
