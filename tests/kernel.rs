//! What only some kernels have: pressure (PSI), cpusets, huge pages that are limited, time namespaces.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use serde_json::json;

/// True if the controller is on cgroup v2 or has a hierarchy of its own; else prints the skip. In the unified hierarchy of
/// a hybrid host it has none of the container's limits, with runc neither.
fn needs_controller(name: &str) -> bool {
    if !needs_root() {
        return false;
    }
    let root = Path::new("/sys/fs/cgroup");
    let on_v2 = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let found = on_v2.split_whitespace().any(|word| word == name) || root.join(name).is_dir();
    if !found {
        skip(&format!("the {name} controller"));
    }
    found
}

#[test]
fn the_pressure_of_a_stress_is_that_of_the_containers_own_cgroup() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    if !Path::new("/proc/pressure/memory").exists()
        || !unified.iter().any(|root| Path::new(root).join("cgroup.controllers").exists())
    {
        return skip("PSI of cgroups");
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("pressed");
    let empty = sandbox.path("empty");
    fs::create_dir(&empty).unwrap();
    sandbox.rt(["create", &id, "--ram=16"]).cwd(empty).ok();
    sandbox.rt(["start", &id]).ok();
    let reading = || sandbox.rt(["monitor", &id, "0", "--format", "json"]).ok().json();
    let before = reading();
    assert_eq!(before["pressure_scope"], "cgroup", "{before}");
    // A file's pages are given back again and again, which is what pressure counts; in an emulated machine not in seconds.
    let seconds = if std::env::var_os("RT_GUEST").is_some() { "40" } else { "2" };
    let stress = sandbox
        .rt(["stress-memory", &id, "32", seconds, "--strategy", "sequential,sequential,file"])
        .args(["--format", "json"])
        .ok()
        .json();
    let summary = &stress["summary"];
    assert_eq!((&stress["verdict"], &summary["pressure_scope"]), (&json!("held"), &json!("cgroup")));
    assert!(summary["pressure_some_us"].as_u64() > Some(0), "{summary}");
    let after = reading();
    let total = |reading: &serde_json::Value| reading["pressure"]["some_total_us"].as_u64();
    assert!(total(&after) > total(&before), "{before}\n{after}");
}

#[test]
fn a_cpuset_is_in_the_kernel_and_changes_with_an_update() {
    if !needs_controller("cpuset") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/cpu", json!({ "cpus": "0", "mems": "0" }));
    let id = sandbox.start(&mut bundle, "cpuset");
    let cgroup = sandbox.cgroup(&id, "cpuset");
    assert_eq!(cgroup.read("cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(cgroup.read("cpuset.mems", "cpuset.mems"), "0");
    let allowed = || {
        let status = sandbox.exec(&id, "grep Cpus_allowed_list /proc/self/status").succeeds().stdout;
        status.split_whitespace().last().map(str::to_owned)
    };
    assert_eq!(allowed().as_deref(), Some("0"));
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if online.trim() != "0" {
        sandbox.rt(["update", "--cpuset-cpus", "1", &id]).ok();
        assert_eq!(allowed().as_deref(), Some("1"));
    }
    sandbox.rt(["update", "--cpuset-cpus", "4000", &id]).run().fails_with("cpuset.cpus");
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn huge_pages_are_limited() {
    if !needs_controller("hugetlb") {
        return;
    }
    if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        return skip("huge pages of 2 MiB");
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/hugepageLimits", json!([{ "pageSize": "2MB", "limit": 4 << 20 }]));
    let id = sandbox.start(&mut bundle, "huge");
    let limit = || sandbox.cgroup(&id, "hugetlb").read("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max");
    assert_eq!(limit(), (4 << 20).to_string());
    let stats = sandbox.rt(["events", "--stats", &id]).ok().json();
    assert_eq!(stats["data"]["hugetlb"]["2MB"]["failcnt"], 0, "{stats}");
    sandbox.delete(&id);
    bundle.set("/linux/resources/hugepageLimits", json!([{ "pageSize": "3MB", "limit": 4 << 20 }]));
    let wrong = sandbox.id("wrong");
    sandbox.create_command(&mut bundle, &wrong).run().fails_with("page size");
    sandbox.assert_nothing_left(&wrong);
}

#[test]
fn a_time_namespace_has_its_own_clocks() {
    if !needs_root() {
        return;
    }
    if !Path::new("/proc/self/ns/time").exists() {
        return skip("time namespaces");
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/namespaces/-", json!({ "type": "time" }));
    bundle.set(
        "/linux/timeOffsets",
        json!({ "boottime": { "secs": 100_000 }, "monotonic": { "secs": 50_000 } }),
    );
    let id = sandbox.start(&mut bundle, "time");
    let inside = sandbox.exec(&id, "cat /proc/uptime").succeeds().stdout;
    let seconds = |text: &str| text.split('.').next().and_then(|s| s.parse::<u64>().ok()).expect("seconds");
    let outside = fs::read_to_string("/proc/uptime").unwrap();
    let ahead = seconds(&inside) - seconds(&outside);
    assert!((99_900..=100_100).contains(&ahead), "{inside} {outside}");
    sandbox.delete(&id);
    // Offsets without a namespace of their own would be the host's clocks.
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/timeOffsets", json!({ "boottime": { "secs": 5 } }));
    let wrong = sandbox.id("offsets");
    sandbox.create_command(&mut bundle, &wrong).run().fails_with("time");
    sandbox.assert_nothing_left(&wrong);
}
