//! The starter spec as types of its own: oci-spec's keep capabilities in sets, and a file that people edit
//! should come out in the same order every time.

use serde::Serialize;

use crate::commands::version::SPEC_VERSION;

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// A spec with many options set, so that people see what one looks like.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Starter {
    oci_version: &'static str,
    process: Process,
    root: Root,
    hostname: &'static str,
    mounts: Vec<Mount>,
    linux: Linux,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    terminal: bool,
    user: User,
    args: [&'static str; 1],
    env: [&'static str; 2],
    cwd: &'static str,
    capabilities: Capabilities,
    rlimits: [Rlimit; 1],
    no_new_privileges: bool,
}

#[derive(Debug, Serialize)]
struct User {
    uid: u32,
    gid: u32,
}

#[derive(Debug, Serialize)]
struct Capabilities {
    bounding: [&'static str; 3],
    effective: [&'static str; 3],
    permitted: [&'static str; 3],
}

#[derive(Debug, Serialize)]
struct Rlimit {
    #[serde(rename = "type")]
    kind: &'static str,
    hard: u64,
    soft: u64,
}

#[derive(Debug, Serialize)]
struct Root {
    path: &'static str,
    readonly: bool,
}

#[derive(Debug, Serialize)]
struct Mount {
    destination: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    source: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid_mappings: Option<[IdMapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid_mappings: Option<[IdMapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    namespaces: Vec<Namespace>,
    masked_paths: [&'static str; 10],
    readonly_paths: [&'static str; 5],
}

#[derive(Debug, Serialize)]
struct IdMapping {
    #[serde(rename = "containerID")]
    container: u32,
    #[serde(rename = "hostID")]
    host: u32,
    size: u32,
}

#[derive(Debug, Serialize)]
struct Resources {
    devices: [Device; 1],
}

#[derive(Debug, Serialize)]
struct Device {
    allow: bool,
    access: &'static str,
}

#[derive(Debug, Serialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Starter {
    /// runc's. On a `unified` hierarchy the container gets a cgroup namespace.
    pub(super) fn new(unified: bool) -> Self {
        Self {
            oci_version: SPEC_VERSION,
            process: Process::shell(),
            root: Root { path: "rootfs", readonly: true },
            hostname: "runc",
            mounts: mounts(),
            linux: Linux::isolated(unified),
        }
    }

    /// Makes it one that works without root: a user namespace instead of a network one, no limits, /sys bound
    /// from the host, mounts without owners.
    pub(super) fn make_rootless(&mut self, uid: u32, gid: u32) {
        for mount in &mut self.mounts {
            if mount.destination == "/sys" {
                *mount = Mount::new("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
            }
            mount.options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
        }
        let map = |host| Some([IdMapping { container: 0, host, size: 1 }]);
        self.linux.uid_mappings = map(uid);
        self.linux.gid_mappings = map(gid);
        self.linux.resources = None;
        self.linux.namespaces.retain(|namespace| namespace.kind != "network");
        self.linux.namespaces.push(Namespace { kind: "user" });
    }
}

impl Process {
    fn shell() -> Self {
        Self {
            terminal: true,
            user: User { uid: 0, gid: 0 },
            args: ["sh"],
            env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            cwd: "/",
            capabilities: Capabilities {
                bounding: CAPABILITIES,
                effective: CAPABILITIES,
                permitted: CAPABILITIES,
            },
            rlimits: [Rlimit { kind: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
            no_new_privileges: true,
        }
    }
}

impl Mount {
    fn new(
        destination: &'static str,
        kind: &'static str,
        source: &'static str,
        options: &[&'static str],
    ) -> Self {
        Self { destination, kind, source, options: options.to_vec() }
    }
}

fn mounts() -> Vec<Mount> {
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    vec![
        Mount::new("/proc", "proc", "proc", &[]),
        Mount::new("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        Mount::new("/dev/pts", "devpts", "devpts", &pts),
        Mount::new("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        Mount::new("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        Mount::new("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        Mount::new("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

impl Linux {
    fn isolated(unified: bool) -> Self {
        let kinds = ["pid", "network", "ipc", "uts", "mount"].into_iter().chain(unified.then_some("cgroup"));
        Self {
            uid_mappings: None,
            gid_mappings: None,
            resources: Some(Resources { devices: [Device { allow: false, access: "rwm" }] }),
            namespaces: kinds.map(|kind| Namespace { kind }).collect(),
            masked_paths: [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            readonly_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;
    use serde_json::Value;

    use super::*;

    fn types(spec: &Starter) -> Vec<&str> {
        spec.linux.namespaces.iter().map(|namespace| namespace.kind).collect()
    }

    #[test]
    fn the_starter_is_a_valid_spec() {
        let spec = Starter::new(true);
        assert_eq!(types(&spec), ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
        assert!(!types(&Starter::new(false)).contains(&"cgroup"));
        let parsed: Spec = serde_json::from_value(serde_json::to_value(spec).unwrap()).unwrap();
        assert_eq!(parsed.process().as_ref().unwrap().terminal(), Some(true));
        assert_eq!(parsed.mounts().as_ref().unwrap().len(), 7);
        parsed.linux().as_ref().unwrap().resources().as_ref().unwrap();
    }

    #[test]
    fn rootless_has_a_user_namespace_and_no_limits() {
        let mut spec = Starter::new(false);
        spec.make_rootless(1000, 100);
        assert_eq!(types(&spec), ["pid", "ipc", "uts", "mount", "user"]);
        let json: Value = serde_json::to_value(spec).unwrap();
        assert_eq!(json["linux"]["uidMappings"][0]["hostID"], 1000);
        assert_eq!(json["linux"]["gidMappings"][0]["hostID"], 100);
        assert!(json["linux"].get("resources").is_none());
        assert_eq!(json["mounts"][5]["options"][0], "rbind");
        assert!(!json["mounts"].to_string().contains("gid="));
        serde_json::from_value::<Spec>(json).unwrap();
    }
}
