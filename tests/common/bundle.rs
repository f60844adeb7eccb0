//! A bundle with a busybox root file system and a config.json that a test edits.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";

/// A folder with `config.json` and `rootfs`. Changes of `config` reach the file by [`Bundle::save`].
#[derive(Debug, Clone)]
pub struct Bundle {
    pub path: PathBuf,
    pub config: Value,
}

impl Bundle {
    /// Makes it in `path`; `mark` is put into the environment of the container's process.
    pub fn new(path: &Path, mark: &str) -> Self {
        let rootfs = path.join("rootfs");
        make_rootfs(&rootfs);
        let bundle = Self { path: path.to_owned(), config: default_config(mark) };
        bundle.save();
        bundle
    }

    pub fn rootfs(&self, inside: &str) -> PathBuf {
        self.path.join("rootfs").join(inside.trim_start_matches('/'))
    }

    /// Writes an executable script or program into the root.
    pub fn program(&self, inside: &str, text: &str) -> PathBuf {
        let path = self.rootfs(inside);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder in the root");
        fs::write(&path, text).expect("a file in the root");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode 0755");
        path
    }

    /// A user namespace of its own, whose root is the host's 100000, who owns the files.
    #[track_caller]
    pub fn with_new_user(&mut self) -> &mut Self {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        self.set("/linux/namespaces/-", json!({ "type": "user" }));
        self.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let owner = Command::new("chown").args(["-hR", "100000:100000"]).arg(self.rootfs("")).status();
        assert!(owner.is_ok_and(|status| status.success()));
        self
    }

    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.set("/process/args", json!(args))
    }

    pub fn shell(&mut self, script: &str) -> &mut Self {
        self.args(&["sh", "-c", script])
    }

    /// Sets what a JSON pointer names; missing objects on the way are made, `-` appends to an array.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut here = &mut self.config;
        for key in pointer.split('/').skip(1) {
            if key == "-" && !here.is_array() {
                *here = json!([]);
            } else if key != "-" && !here.is_object() && !here.is_array() {
                *here = json!({});
            }
            here = match here {
                Value::Array(list) => {
                    let index = key.parse().unwrap_or(list.len());
                    if index == list.len() {
                        list.push(Value::Null);
                    }
                    &mut list[index]
                }
                object => &mut object[key],
            };
        }
        *here = value;
        self
    }

    /// Removes a key of an object.
    pub fn unset(&mut self, pointer: &str) -> &mut Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        if let Some(object) = self.config.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(key);
        }
        self
    }

    pub fn save(&self) {
        let text = serde_json::to_string_pretty(&self.config).expect("JSON");
        fs::write(self.path.join("config.json"), text).expect("config.json");
    }
}

/// busybox with a link for every applet, and the few files a program looks for.
pub fn make_rootfs(rootfs: &Path) {
    for folder in ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var"] {
        fs::create_dir_all(rootfs.join(folder)).expect("a folder of the root");
    }
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("mode 1777");
    fs::copy(BUSYBOX, rootfs.join("bin/busybox")).expect("a copy of busybox (package busybox-static)");
    for applet in applets() {
        let _ = symlink("busybox", rootfs.join("bin").join(applet));
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nwendy:x:1000:1000::/home/wendy:/bin/sh\n";
    fs::write(rootfs.join("etc/passwd"), passwd).expect("passwd");
    fs::write(rootfs.join("etc/group"), "root:x:0:\nwendy:x:1000:\nextra:x:2000:wendy\n").expect("group");
}

fn applets() -> &'static [String] {
    static APPLETS: OnceLock<Vec<String>> = OnceLock::new();
    APPLETS.get_or_init(|| {
        let list =
            Command::new(BUSYBOX).arg("--list").output().expect("busybox runs (package busybox-static)");
        String::from_utf8_lossy(&list.stdout).lines().filter(|a| *a != "busybox").map(String::from).collect()
    })
}

/// Like `runc spec`, without a terminal, and with a lower limit of open files than any engine's (raising needs a capability).
fn default_config(mark: &str) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sleep", "1000"],
            "env": ["PATH=/bin:/usr/bin", "TERM=xterm", mark],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "sandbox",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
