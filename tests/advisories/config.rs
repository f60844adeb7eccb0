//! Values of a config that once were more than one value, and what the default config hides.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::*;

#[test]
fn the_value_of_a_parameter_sets_that_parameter_alone() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let read = || fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    let before = read();
    for (number, (key, value)) in [
        ("net.ipv4.ping_group_range", "0 0+kernel.core_pattern=|/evil"),
        ("net.ipv4.ping_group_range=0 0+kernel.core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("kernel.core_pattern", "|/evil"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = sandbox.bundle();
        bundle.set("/linux/sysctl", json!({ key: value })).shell("true");
        let outcome = sandbox.run_command(&mut bundle, &format!("value{number}")).run();
        assert_eq!(read(), before, "{key} = {value}: {outcome}");
    }
}

#[test]
fn a_parameter_of_a_shared_namespace_is_refused() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    for (namespace, key) in
        [("network", "net.core.somaxconn"), ("ipc", "kernel.shmmni"), ("ipc", "fs.mqueue.msg_max")]
    {
        let mut bundle = sandbox.bundle();
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|found| found["type"] != namespace);
        let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| mount["type"] != "mqueue" && mount["type"] != "sysfs");
        bundle.set("/linux/sysctl", json!({ key: "7" })).shell("true");
        sandbox.run_command(&mut bundle, namespace).run().fails_with(key);
    }
}

#[test]
fn a_field_longer_than_64_kib_is_still_one_field() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let long = "x".repeat(0x1_0000 + 4);
    let mut bundle = sandbox.bundle();
    bundle.set("/process/env/-", json!(format!("LONG={long}"))).shell("echo ${#LONG} $(cat /proc/1/comm)");
    assert_eq!(sandbox.run_command(&mut bundle, "env").ok().stdout, format!("{} sh\n", long.len()));
    let mut bundle = sandbox.bundle();
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|found| found["type"] != "uts");
    bundle.set("/linux/namespaces/-", json!({ "type": "uts", "path": format!("/{long}") })).shell("echo ran");
    let outcome = sandbox.run_command(&mut bundle, "path").run();
    assert!(outcome.code != 0 && !outcome.stdout.contains("ran"), "{}", outcome.code);
}

#[test]
fn no_release_agent_is_in_reach() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    for cgroup_namespace in [false, true] {
        let mut bundle = sandbox.bundle();
        let options = ["nosuid", "noexec", "nodev", "relatime"];
        let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options });
        bundle.set("/mounts/-", mount);
        if cgroup_namespace {
            bundle.set("/linux/namespaces/-", json!({ "type": "cgroup" }));
        }
        // With the capabilities that engines give, nothing can be mounted either.
        bundle.shell("find /sys/fs/cgroup -name release_agent; mkdir /x && mount -t cgroup -o memory x /x && echo mounted; echo looked");
        let outcome = sandbox.run_command(&mut bundle, &format!("agent{cgroup_namespace}")).ok();
        assert_eq!(outcome.stdout, "looked\n", "{outcome}");
    }
}

#[test]
fn the_default_config_hides_what_tells_of_or_controls_the_host() {
    if !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let folder = sandbox.path("spec");
    fs::create_dir(&folder).expect("a folder");
    sandbox.rt(["spec"]).cwd(&folder).ok();
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/default/config.json");
    let common = ["/proc/acpi", "/proc/scsi", "/proc/kcore", "/proc/keys", "/sys/firmware"];
    // `spec` writes what runc's writes.
    for (file, more) in [(folder.join("config.json"), None), (default, Some("/sys/devices/virtual/powercap"))]
    {
        let config: Value = serde_json::from_slice(&fs::read(&file).expect("a config")).expect("JSON");
        let masked = config["linux"]["maskedPaths"].as_array().expect("masked paths");
        for path in common.into_iter().chain(more) {
            assert!(masked.contains(&json!(path)), "{path} in {}", file.display());
        }
        let process = &config["process"];
        assert!(
            process["capabilities"]["inheritable"].as_array().is_none_or(Vec::is_empty),
            "{}",
            file.display()
        );
        assert_eq!(process["noNewPrivileges"], true, "{}", file.display());
    }
}
