//! The bundles, all with one root file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

#[path = "../../../tests/common/bundle.rs"]
#[allow(dead_code, reason = "the benchmark needs the root file system alone")]
mod bundle;

#[derive(Debug)]
pub struct Bundle {
    pub path: PathBuf,
    config: Value,
}

/// Two specs, each once with `true` and once with a process that stays.
#[derive(Debug)]
pub struct Bundles {
    /// What `runc spec` makes.
    pub plain: Bundle,
    /// With what docker adds: its seccomp profile, limits, and the files it mounts for names.
    pub full: Bundle,
    pub plain_sleeping: Bundle,
    pub full_sleeping: Bundle,
    /// Like `plain_sleeping` in the machine's network namespace: thousands of their own take the kernel gigabytes and minutes.
    pub many: Bundle,
    pub rootfs: PathBuf,
}

impl Bundles {
    pub fn new(folder: &Path, runc: &Path) -> Self {
        let rootfs = folder.join("rootfs");
        bundle::make_rootfs(&rootfs);
        let plain = plain_config(runc, &rootfs);
        let full = full_config(&plain, folder);
        let mut many = sleeping(&plain);
        let namespaces = many["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != "network");
        let make = |name: &str, config: Value| {
            let bundle = Bundle { path: folder.join(name.replace(' ', "-")), config };
            fs::create_dir(&bundle.path).expect("a bundle");
            bundle.write(&bundle.config);
            bundle
        };
        Self {
            plain_sleeping: make("plain sleeping", sleeping(&plain)),
            full_sleeping: make("full sleeping", sleeping(&full)),
            plain: make("plain", plain),
            full: make("full", full),
            many: make("many", many),
            rootfs,
        }
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
fn plain_config(runc: &Path, rootfs: &Path) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let status = Command::new(runc).arg("spec").current_dir(folder.path()).status().expect("spec");
    assert!(status.success());
    let text = fs::read_to_string(folder.path().join("config.json")).expect("config.json");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["true"]);
    config["root"] = json!({ "path": rootfs, "readonly": false });
    config
}

fn full_config(plain: &Value, folder: &Path) -> Value {
    let mut full = plain.clone();
    full["linux"]["seccomp"] = serde_json::from_str(include_str!("../seccomp.json")).expect("the profile");
    let limits = json!({
        "memory": { "limit": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 }, "pids": { "limit": 100 },
    });
    for (key, value) in limits.as_object().unwrap() {
        full["linux"]["resources"][key] = value.clone();
    }
    for name in ["hostname", "hosts", "resolv.conf"] {
        let source = folder.join(name);
        fs::write(&source, "# as docker's\n").expect("a file to mount");
        let mount = json!({ "destination": format!("/etc/{name}"), "type": "bind", "source": source, "options": ["rbind", "rprivate"] });
        full["mounts"].as_array_mut().expect("mounts").push(mount);
    }
    full
}

fn sleeping(config: &Value) -> Value {
    let mut config = config.clone();
    config["process"]["args"] = json!(["sleep", "100000"]);
    config
}
