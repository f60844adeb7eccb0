//! `features`: what this build understands, in the shape of the OCI features document.

use serde_json::{Value, json};

use super::version::{COMMIT, SPEC_VERSION, VERSION, libseccomp};
use crate::cli::Global;
use crate::exit::ExitStatus;
use crate::runtime::process::{capabilities, memory_policy};
use crate::runtime::rootfs::known_mount_options;
use crate::runtime::seccomp;

const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// The version of runc whose commands, files and messages rt follows.
const COMPATIBLE_WITH: &str = "1.4.3";

/// Annotations with which a config.json can have rt do more than the rest of it says; one with a dot at the
/// end is a prefix.
const POTENTIALLY_UNSAFE: [&str; 3] = ["bundle", "org.systemd.property.", "org.criu.config"];

/// Prints the document.
#[inline(never)]
pub fn run(_: &Global) -> anyhow::Result<ExitStatus> {
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
    serde::Serialize::serialize(&document(), &mut serializer)?;
    text.push(b'\n');
    super::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitStatus::SUCCESS)
}

fn document() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": HOOKS,
        "mountOptions": known_mount_options(),
        "linux": {
            "namespaces": NAMESPACES,
            "capabilities": capabilities::NAMES.as_slice(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": seccomp::ACTIONS,
                "operators": seccomp::OPERATORS,
                "archs": seccomp::ARCHITECTURES,
                "knownFlags": seccomp::FLAGS,
                "supportedFlags": seccomp::supported_flags(),
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": { "modes": memory_policy_modes(), "flags": memory_policy_flags() },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": annotations(),
        "potentiallyUnsafeConfigAnnotations": POTENTIALLY_UNSAFE,
    })
}

fn memory_policy_modes() -> Vec<&'static str> {
    let mut names = memory_policy::MODES.to_vec();
    names.sort_unstable();
    names
}

fn memory_policy_flags() -> Vec<&'static str> {
    let mut names: Vec<_> = memory_policy::FLAGS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

/// runc lets other programs use its annotations but for the commit.
fn annotations() -> Value {
    let mut annotations = json!({
        "org.opencontainers.runc.checkpoint.enabled": "true",
        "org.opencontainers.runc.version": COMPATIBLE_WITH,
        "rt.version": VERSION,
    });
    if let Some(version) = libseccomp() {
        annotations["io.github.seccomp.libseccomp.version"] = version.into();
    }
    if let Some(commit) = COMMIT {
        annotations["rt.commit"] = commit.into();
    }
    annotations
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Features;

    use super::*;

    #[test]
    fn the_document_has_the_shape_of_the_specification() {
        let parsed: Features = serde_json::from_value(document()).unwrap();
        assert_eq!(parsed.oci_version_max(), "1.3.0");
        let linux = parsed.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), NAMESPACES.len());
        assert_eq!(linux.cgroup().as_ref().unwrap().v2(), &Some(true));
        assert!(linux.capabilities().as_ref().unwrap().iter().any(|name| name == "CAP_SYS_ADMIN"));
        assert!(parsed.mount_options().as_ref().unwrap().iter().any(|name| name == "rro"));
    }

    #[test]
    fn lists_are_sorted_and_hold_nothing_twice() {
        let document = document();
        for pointer in
            ["/mountOptions", "/linux/namespaces", "/linux/seccomp/archs", "/linux/memoryPolicy/modes"]
        {
            let list: Vec<_> = document.pointer(pointer).unwrap().as_array().unwrap().iter().collect();
            assert!(list.is_sorted_by(|a, b| a.as_str() < b.as_str()), "{pointer}");
        }
    }
}
