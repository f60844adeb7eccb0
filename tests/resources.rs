//! Limits: what was asked for is what the kernel's files say.

mod common;

use common::*;
use serde_json::json;

const MIB: i64 = 1 << 20;

#[test]
fn limits_of_the_config_are_in_the_kernel() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB, "reservation": 32 * MIB }));
    bundle.set("/linux/resources/cpu", json!({ "quota": 25_000, "period": 100_000, "shares": 512 }));
    bundle.set("/linux/resources/pids", json!({ "limit": 77 }));
    let id = sandbox.create(&mut bundle, "limits");
    let memory = sandbox.cgroup(&id, "memory");
    assert_eq!(memory.memory_limit(), (64 * MIB).to_string());
    assert_eq!(memory.read("memory.soft_limit_in_bytes", "memory.low"), (32 * MIB).to_string());
    assert_eq!(sandbox.cgroup(&id, "pids").read("pids.max", "pids.max"), "77");
    let cpu = sandbox.cgroup(&id, "cpu");
    if cpu.v2 {
        assert_eq!(cpu.read("", "cpu.max"), "25000 100000");
    } else {
        assert_eq!(cpu.read("cpu.cfs_quota_us", ""), "25000");
        assert_eq!(cpu.read("cpu.cfs_period_us", ""), "100000");
        assert_eq!(cpu.read("cpu.shares", ""), "512");
    }
    sandbox.rt(["start", &id]).ok();
    assert_eq!(sandbox.cgroup(&id, "memory").memory_limit(), (64 * MIB).to_string());
}

#[test]
fn the_memory_limit_kills_what_goes_beyond_it() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 32 * MIB, "swap": 32 * MIB }));
    if !has_swap_accounting(&sandbox) {
        bundle.unset("/linux/resources/memory/swap");
    }
    // A file on tmpfs counts as memory.
    bundle.shell("dd if=/dev/zero of=/dev/shm/fill bs=1M count=20 2>/dev/null && echo within; exec dd if=/dev/zero of=/dev/shm/more bs=1M count=40 2>/dev/null");
    let outcome = sandbox.run_command(&mut bundle, "oom").run();
    assert_eq!((outcome.stdout.as_str(), outcome.code), ("within\n", 137), "{outcome}");
}

fn has_swap_accounting(sandbox: &Sandbox) -> bool {
    let id = sandbox.start(&mut sandbox.bundle(), "probe");
    let cgroup = sandbox.cgroup(&id, "memory");
    cgroup.path.join(if cgroup.v2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" }).exists()
}

#[test]
fn swap_is_memory_and_swap_together() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    if !has_swap_accounting(&sandbox) {
        skip("swap accounting");
        return;
    }
    for (swap, v1, v2) in [(64, 64, 0), (96, 96, 32)] {
        let mut bundle = sandbox.bundle();
        bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB, "swap": swap * MIB }));
        let id = sandbox.create(&mut bundle, &format!("swap{swap}"));
        let memory = sandbox.cgroup(&id, "memory");
        let expected = if memory.v2 { v2 } else { v1 } * MIB;
        assert_eq!(memory.read("memory.memsw.limit_in_bytes", "memory.swap.max"), expected.to_string());
    }
}

/// rt's arguments, run where the cgroup hierarchy at `mount` is read-only.
fn with_read_only(mount: &str, sandbox: &Sandbox, args: &[&str]) -> Run {
    let script = format!("mount --bind {mount} {mount} && mount -o remount,ro,bind {mount} && exec \"$@\"");
    let root = sandbox.root();
    Run::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(Sandbox::binary())
        .arg("--root")
        .arg(root)
        .args(args)
}

#[test]
fn a_container_outside_of_a_hierarchy_without_limits_is_said_and_one_outside_of_limits_is_none() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let points = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
    let Some(point) = points.into_iter().find(|point| std::path::Path::new(point).is_dir()) else {
        return skip("a cgroup hierarchy without limits");
    };
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.id("outside");
    let path = sandbox.prepare(&mut bundle, &id);
    let create = ["create", "--bundle", &path, &id];
    let outcome = with_read_only(point, &sandbox, &create).ok();
    let warnings = outcome.stderr.matches("no cgroup of its own in hierarchies without limits").count();
    assert_eq!(warnings, 1, "{outcome}");
    assert!(outcome.stderr.contains(&format!("mkdir {point}/")), "{outcome}");
    sandbox.rt(["delete", "--force", &id]).ok();
    let refused = with_read_only("/sys/fs/cgroup/pids", &sandbox, &create).run();
    refused.fails_with("unable to apply cgroup configuration: mkdir /sys/fs/cgroup/pids/");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_limit_too_small_to_start_with_says_so() {
    if !needs_root() || !needs_rt() {
        return;
    }
    // Depending on how far init comes, the kernel kills it or its program, or refuses it memory.
    let mut killed = 0;
    for kib in [64, 80, 96, 112, 128] {
        let sandbox = Sandbox::new();
        let mut bundle = sandbox.bundle();
        bundle.shell("exit 0");
        bundle.set("/linux/resources/memory", json!({ "limit": kib * 1024 }));
        let id = sandbox.id("tiny");
        let outcome = sandbox.run_command(&mut bundle, "tiny").run();
        killed += i32::from(outcome.stderr.contains("container init was OOM-killed (memory limit too low?)"));
        assert_ne!(outcome.code, 0, "{}", outcome.text());
        sandbox.assert_nothing_left(&id);
    }
    assert!(killed > 0);
}

#[test]
fn the_pids_limit_stops_a_fork_bomb() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/pids", json!({ "limit": 10 }));
    bundle.shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; wait");
    let id = sandbox.create(&mut bundle, "bomb");
    let pids = sandbox.cgroup(&id, "pids");
    sandbox.rt(["start", &id]).ok();
    let count = || pids.read("pids.current", "pids.current").parse::<u32>().expect("a number");
    wait_until("the processes or their end", || count() >= 9 || sandbox.status(&id) == "stopped");
    assert!(count() <= 10);
}

#[test]
fn events_reports_the_memory_of_a_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    let id = sandbox.start(&mut bundle, "events");
    let stats = sandbox.rt(["events", "--stats", &id]).ok().json();
    assert_eq!(stats["type"], "stats");
    assert_eq!(stats["id"], json!(id));
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(64 * MIB));
    assert!(stats["data"]["memory"]["usage"]["usage"].as_i64().is_some_and(|n| n > 0));
    assert!(stats["data"]["cpu"]["usage"]["total"].as_i64().is_some_and(|n| n > 0));
    assert!(stats["data"]["pids"]["current"].as_i64().is_some_and(|n| n >= 1));
}

#[test]
fn a_device_that_no_rule_allows_cannot_be_opened() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let capabilities = json!(["CAP_MKNOD"]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}"), capabilities.clone());
    }
    // 1:1 is /dev/mem, which nothing allows; 1:3 is /dev/null, which every container has.
    bundle.shell("mknod /mem c 1 1 && cat /mem; mknod /null c 1 3 && : > /null && echo null works; : > /dev/null && echo null");
    let outcome = sandbox.run_command(&mut bundle, "devices").run();
    assert!(outcome.stderr.contains("Operation not permitted"), "{outcome}");
    assert!(outcome.stdout.contains("null"), "{outcome}");
}
