//! What is measured and where: the runtimes, the bundles, the mount namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "../../tests/common/bundle.rs"]
#[allow(dead_code, reason = "the benchmark needs the root file system alone")]
mod bundle;

#[derive(Debug)]
pub struct Runtime {
    pub name: &'static str,
    pub path: PathBuf,
    pub version: String,
}

/// rt, another build of it where RT_BEFORE names one, then those of runc and crun that are installed.
pub fn runtimes() -> Vec<Runtime> {
    let own =
        std::env::var_os("RT_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_rt")), PathBuf::from);
    let mut all = vec![("rt", own)];
    all.extend(std::env::var_os("RT_BEFORE").map(|path| ("rt before", PathBuf::from(path))));
    for (name, variable) in [("runc", "RUNC"), ("crun", "CRUN")] {
        match std::env::var_os(variable).map(PathBuf::from).or_else(|| in_path(name)) {
            Some(path) => all.push((name, path)),
            None => eprintln!("{name} is not installed and stays out of the table"),
        }
    }
    all.into_iter().map(|(name, path)| Runtime { name, version: version(&path), path }).collect()
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin"]).map(|folder| Path::new(folder).join(name)).find(|p| p.exists())
}

fn version(path: &Path) -> String {
    let output = Command::new(path).arg("--version").output().expect("a version");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().and_then(|l| l.rsplit(' ').next()).unwrap_or("?").to_owned()
}

/// Moves this process into a mount namespace of its own, without cgroup2 if controllers are on v1.
pub fn leave_unified_hierarchy() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("private mounts");
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.join("cgroup.procs").exists() {
        umount2(unified, MntFlags::MNT_DETACH).expect("to unmount cgroup2");
    }
}

#[derive(Debug)]
pub struct Bundle {
    pub name: &'static str,
    pub path: PathBuf,
    config: Value,
}

/// A temporary folder with the bundles and a state folder for each runtime.
#[derive(Debug)]
pub struct Setting {
    folder: TempDir,
    bundles: Vec<Bundle>,
}

impl Setting {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("rt-bench-").tempdir().expect("a temporary folder");
        let plain = plain_config();
        let mut full = plain.clone();
        full["linux"]["seccomp"] = serde_json::from_str(include_str!("seccomp.json")).expect("the profile");
        let limits = json!({
            "memory": { "limit": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 }, "pids": { "limit": 100 },
        });
        for (key, value) in limits.as_object().unwrap() {
            full["linux"]["resources"][key] = value.clone();
        }
        let mut bundles = Vec::new();
        for (name, config) in [("plain", plain), ("seccomp and limits", full)] {
            let path = folder.path().join(name.replace(' ', "-"));
            bundle::make_rootfs(&path.join("rootfs"));
            bundles.push(Bundle { name, path, config });
        }
        for bundle in &bundles {
            bundle.write(&bundle.config);
        }
        Self { folder, bundles }
    }

    pub fn bundles(&self) -> &[Bundle] {
        &self.bundles
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of a runtime with its own state folder, silent.
    pub fn command(&self, runtime: &Runtime, args: &[&str]) -> Command {
        let mut command = Command::new(&runtime.path);
        command.arg("--root").arg(self.file(runtime.name)).args(args);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command
    }
}

impl Bundle {
    fn write(&self, config: &Value) {
        fs::write(self.path.join("config.json"), config.to_string()).expect("config.json");
    }

    /// Rewrites config.json with another memory limit; None is the bundle's own.
    pub fn set_memory_limit(&self, bytes: Option<u64>) {
        let mut config = self.config.clone();
        if let Some(bytes) = bytes {
            config["linux"]["resources"]["memory"] = json!({ "limit": bytes });
        }
        self.write(&config);
    }
}

/// What `runc spec` makes, without a terminal, running `true`.
fn plain_config() -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spec = Command::new(in_path("runc").unwrap_or_else(|| runtimes()[0].path.clone()));
    let status = { spec }.arg("spec").current_dir(folder.path()).status().expect("spec");
    assert!(status.success());
    let text = fs::read_to_string(folder.path().join("config.json")).expect("config.json");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["true"]);
    config["root"]["readonly"] = json!(false);
    config
}
