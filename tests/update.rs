//! `update`: all of it or nothing, by flags and by resources, and what is not new is left alone.

mod common;

use common::*;
use serde_json::json;

const MIB: i64 = 1 << 20;

#[test]
fn an_update_of_the_limit_alone_keeps_memory_and_swap_together() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    if !has_swap_accounting(&sandbox) {
        return skip("swap accounting");
    }
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 32 * MIB, "swap": 64 * MIB }));
    let id = sandbox.start(&mut bundle, "total");
    let memory = sandbox.cgroup(&id, "memory");
    let has = |limit: i64, total: i64| {
        assert_eq!(memory.memory_limit(), (limit * MIB).to_string());
        let swap = if memory.v2 { total - limit } else { total } * MIB;
        assert_eq!(memory.read("memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
    };
    let by_flag = |limit: i64| sandbox.rt(["update", "--memory", &(limit * MIB).to_string(), &id]);
    let by_file = |limit: i64| {
        let resources = json!({ "memory": { "limit": limit * MIB, "swap": 0 } }).to_string();
        sandbox.rt(["update", "-r", "-", &id]).stdin(resources)
    };
    by_flag(48).ok();
    has(48, 64);
    by_file(16).ok();
    has(16, 64);
    for refused in [by_flag(80).run(), by_file(80).run()] {
        refused.fails_with(if memory.v2 { "memory+swap limit should be >= memory limit" } else { "invalid" });
        has(16, 64);
    }
    sandbox.rt(["update", "--memory-swap", &(96 * MIB).to_string(), &id]).ok();
    has(16, 96);
    by_flag(80).ok();
    has(80, 96);
    sandbox.rt(["update", "--memory", "-1", &id]).ok();
    by_flag(48).ok();
    assert_eq!(memory.memory_limit(), (48 * MIB).to_string());
    let swap = memory.read("memory.memsw.limit_in_bytes", "memory.swap.max");
    assert!(swap == "max" || swap.parse::<u64>().is_ok_and(|n| n > 1 << 60), "{swap}");
}

#[test]
fn update_changes_single_limits_by_flags() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    let id = sandbox.start(&mut bundle, "flags");
    let memory = sandbox.cgroup(&id, "memory");
    sandbox.rt(["update", "--memory", "83886080", &id]).ok();
    assert_eq!(memory.memory_limit(), (80 * MIB).to_string());
    sandbox.rt(["update", "--pids-limit", "50", &id]).ok();
    assert_eq!(sandbox.cgroup(&id, "pids").read("pids.max", "pids.max"), "50");
    assert_eq!(memory.memory_limit(), (80 * MIB).to_string());
    sandbox.rt(["update", "--pids-limit", "-1", &id]).ok();
    assert_eq!(sandbox.cgroup(&id, "pids").read("pids.max", "pids.max"), "max");
    sandbox.rt(["update", "--cpu-period", "100000", "--cpu-quota", "50000", &id]).ok();
    let cpu = sandbox.cgroup(&id, "cpu");
    assert_eq!(cpu.read("cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("50000"));
    sandbox.rt(["update", "--memory", "-1", &id]).ok();
    let unlimited = memory.memory_limit();
    assert!(unlimited == "max" || unlimited.parse::<u64>().is_ok_and(|n| n > 1 << 60), "{unlimited}");
    sandbox.rt(["update", "--memory", "nonsense", &id]).run().fails_with("");
}

#[test]
fn update_reads_resources_and_leaves_zeros_alone() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    bundle.set("/linux/resources/pids", json!({ "limit": 77 }));
    let id = sandbox.start(&mut bundle, "resources");
    let memory = sandbox.cgroup(&id, "memory");
    // As docker sends it.
    let resources = json!({
        "memory": { "limit": 48 * MIB, "reservation": 0, "swap": 0, "kernel": 0 },
        "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "" },
    });
    sandbox.rt(["update", "--resources", "-", &id]).stdin(resources.to_string()).ok();
    assert_eq!(memory.memory_limit(), (48 * MIB).to_string());
    assert_eq!(sandbox.cgroup(&id, "pids").read("pids.max", "pids.max"), "77");
    // As podman sends it.
    let file = sandbox.path("resources.json");
    std::fs::write(&file, json!({ "memory": { "limit": 56 * MIB } }).to_string()).expect("a file");
    let flag = format!("--resources={}", file.display());
    sandbox.rt(["update", &flag, &id]).ok();
    assert_eq!(memory.memory_limit(), (56 * MIB).to_string());
    sandbox.rt(["update", "--resources", "-", &id]).stdin("{ not json").run().fails_with("");
}

/// What says that device rules were not loaded again: the programs of a v2 cgroup, or the list of v1 with what somebody
/// else added to it.
fn rules_in_force(devices: &Cgroup) -> String {
    if !devices.v2 {
        return devices.read("devices.list", "");
    }
    let folder = std::fs::File::open(&devices.path).expect("the cgroup");
    let programs = libcgroups::v2::devices::bpf::prog::query(std::os::fd::AsRawFd::as_raw_fd(&folder));
    programs.expect("its programs").iter().map(|program| format!("{} ", program.id)).collect()
}

#[test]
fn an_update_applies_device_rules_that_change_and_leaves_equal_ones() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}/-"), json!("CAP_MKNOD"));
    }
    // /dev/kmsg: no rule of the defaults allows it.
    let none = json!([{ "allow": false, "access": "rwm" }]);
    let kmsg = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "w" },
    ]);
    bundle.set("/linux/resources/devices", none.clone());
    let id = sandbox.start(&mut bundle, "devices");
    sandbox.exec(&id, "mknod /tmp/kmsg c 1 11").succeeds();
    let denied = || sandbox.exec(&id, "exec 3>/tmp/kmsg").fails_with("Operation not permitted");
    let update = |resources: serde_json::Value| {
        sandbox.rt(["update", "-r", "-", &id]).stdin(resources.to_string()).run()
    };
    let devices = sandbox.cgroup(&id, "devices");
    denied();
    update(json!({ "devices": kmsg })).succeeds();
    sandbox.exec(&id, "exec 3>/tmp/kmsg && : </dev/null").succeeds();
    if !devices.v2 {
        std::fs::write(devices.path.join("devices.allow"), "c 1:12 r").expect("one rule more");
    }
    let before = rules_in_force(&devices);
    update(json!({ "devices": kmsg, "pids": { "limit": 44 } })).succeeds();
    assert_eq!(rules_in_force(&devices), before);
    assert_eq!(sandbox.cgroup(&id, "pids").read("pids.max", "pids.max"), "44");
    update(json!({ "devices": none })).succeeds();
    assert_ne!(rules_in_force(&devices), before);
    denied();
    update(json!({ "devices": [{ "allow": true, "type": "p", "access": "r" }] })).fails_with("device type");
    denied();
}

#[test]
fn an_update_refuses_what_it_cannot_do_and_takes_what_create_was_given() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let v2 = sandbox.cgroup(&sandbox.start(&mut bundle, "probe"), "memory").v2;
    if !v2 {
        return skip("memory on cgroup v2");
    }
    let network = json!({ "classID": 5 });
    bundle.set("/linux/resources/network", network.clone());
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB, "swappiness": 7 }));
    let id = sandbox.id("given");
    let outcome = sandbox.create_command(&mut bundle, &id).ok();
    for told in ["memory.swappiness 7", "network.classID 5"] {
        assert!(
            outcome.stderr.contains(&format!("ignored: {told}: not supported on cgroup v2")),
            "{outcome}"
        );
    }
    let update = |resources: serde_json::Value| {
        sandbox.rt(["update", "-r", "-", &id]).stdin(resources.to_string()).run()
    };
    let memory = json!({ "limit": 48 * MIB, "swappiness": 7 });
    update(json!({ "memory": memory, "network": network })).succeeds();
    assert_eq!(sandbox.cgroup(&id, "memory").memory_limit(), (48 * MIB).to_string());
    for (words, resources) in [
        ("cannot set memory.swappiness 8", json!({ "memory": { "limit": 40 * MIB, "swappiness": 8 } })),
        (
            "cannot set memory.disableOOMKiller true",
            json!({ "memory": { "limit": 40 * MIB, "disableOOMKiller": true } }),
        ),
        (
            "cannot set network.classID 6",
            json!({ "memory": { "limit": 40 * MIB }, "network": { "classID": 6 } }),
        ),
    ] {
        update(resources).fails_with(words);
        assert_eq!(sandbox.cgroup(&id, "memory").memory_limit(), (48 * MIB).to_string());
    }
}

#[test]
fn odd_values_are_rounded_down_or_refused_at_create_and_update() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let odd = json!({
        "memory": { "limit": 64 * MIB + 4097, "reservation": 8 * MIB + 1 },
        "cpu": { "quota": 12_345, "period": 54_321, "shares": 3 }, "pids": { "limit": 4_194_303 },
    });
    for name in ["memory", "cpu", "pids"] {
        bundle.set(&format!("/linux/resources/{name}"), odd[name].clone());
    }
    let id = sandbox.start(&mut bundle, "odd");
    let has_them = || {
        let (memory, cpu) = (sandbox.cgroup(&id, "memory"), sandbox.cgroup(&id, "cpu"));
        assert_eq!(memory.memory_limit(), (64 * MIB + 4096).to_string());
        assert_eq!(memory.read("memory.soft_limit_in_bytes", "memory.low"), (8 * MIB).to_string());
        assert_eq!(cpu.read("cpu.cfs_quota_us", "cpu.max"), if cpu.v2 { "12345 54321" } else { "12345" });
        assert_eq!(cpu.read("cpu.shares", "cpu.weight"), if cpu.v2 { "2" } else { "3" });
        assert_eq!(sandbox.cgroup(&id, "pids").read("pids.max", "pids.max"), "4194303");
    };
    has_them();
    let other =
        json!({ "memory": { "limit": 80 * MIB, "reservation": 4 * MIB }, "cpu": { "quota": 20_000 } });
    sandbox.rt(["update", "-r", "-", &id]).stdin(other.to_string()).ok();
    sandbox.rt(["update", "-r", "-", &id]).stdin(odd.to_string()).ok();
    has_them();
    for beyond in [json!({ "pids": { "limit": 4_194_305 } }), json!({ "cpu": { "quota": 999 } })] {
        sandbox.rt(["update", "-r", "-", &id]).stdin(beyond.to_string()).run().fails_with("invalid argument");
    }
    has_them();
}

#[test]
fn an_update_of_which_one_limit_is_refused_changes_none() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    bundle.unset("/linux/resources/pids");
    let id = sandbox.start(&mut bundle, "half");
    let said = || {
        let (memory, pids, cpu) =
            (sandbox.cgroup(&id, "memory"), sandbox.cgroup(&id, "pids"), sandbox.cgroup(&id, "cpu"));
        let reservation = memory.read("memory.soft_limit_in_bytes", "memory.low");
        let cpu = (cpu.read("cpu.cfs_quota_us", "cpu.max"), cpu.read("cpu.shares", "cpu.weight"));
        (memory.memory_limit(), reservation, pids.read("pids.max", "pids.max"), cpu)
    };
    let before = said();
    // Each is written before something that is refused: more processes than the kernel has, or a period that is too short.
    for refused in [
        json!({ "memory": { "limit": 48 * MIB, "reservation": 8 * MIB }, "cpu": { "shares": 77, "quota": 20_000 },
            "pids": { "limit": 1_i64 << 40 } }),
        json!({ "pids": { "limit": 50 }, "cpu": { "shares": 77 }, "hugepageLimits": [{ "pageSize": "3MB", "limit": 0 }] }),
    ] {
        sandbox.rt(["update", "-r", "-", &id]).stdin(refused.to_string()).run().fails_with("");
        assert_eq!(said(), before, "{refused}");
    }
}

#[test]
fn an_update_that_is_killed_or_cannot_be_recorded_is_set_back() {
    if !needs_root() || !needs_rt() || !needs_engine("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    bundle.unset("/linux/resources/pids");
    let id = sandbox.start(&mut bundle, "record");
    let said = || {
        (
            sandbox.cgroup(&id, "memory").memory_limit(),
            sandbox.cgroup(&id, "pids").read("pids.max", "pids.max"),
        )
    };
    let of = |memory: i64, pids: &str| ((memory * MIB).to_string(), pids.to_owned());
    let update = |inject: &str, arguments: &[&str]| {
        Run::new("strace")
            .args([
                "-qq",
                "-f",
                "-o",
                "/dev/null",
                "-e",
                "trace=rename,write",
                "-e",
                &format!("inject={inject}"),
            ])
            .arg(Sandbox::binary())
            .arg("--root")
            .arg(sandbox.root())
            .arg("update")
            .args(arguments)
            .arg(&id)
            .run()
    };
    let memory = (48 * MIB).to_string();
    let both = ["--memory", &memory, "--pids-limit", "50"];
    // The record is replaced twice: before the kernel's files are written, and after.
    for when in [1, 2] {
        update(&format!("rename:error=ENOSPC:when={when}"), &both).fails_with("no space left on device");
        assert_eq!(said(), of(64, "max"), "rename {when}");
    }
    assert_eq!(update("rename:signal=KILL:when=1", &both).code, 137);
    assert_eq!(said(), of(64, "max"));
    assert_eq!(update("rename:error=ENOSPC:signal=KILL:when=2", &both).code, 137);
    assert_eq!(said(), of(48, "50"));
    let outcome = sandbox.rt(["update", "--pids-limit", "60", &id]).ok();
    assert!(outcome.stderr.contains("an update was cut short"), "{outcome}");
    assert_eq!(said(), of(64, "60"));
    let outcome = sandbox.rt(["update", "--pids-limit", "70", &id]).ok();
    assert_eq!((outcome.stderr.as_str(), said()), ("", of(64, "70")));
    // Killed at any other write: of the record, of each control file, of the record again.
    let mut killed = 0;
    for when in 1.. {
        if update(&format!("write:signal=KILL:when={when}"), &both).code != 137 {
            break;
        }
        killed += 1;
        sandbox.rt(["update", "--cpu-share", "512", &id]).ok();
        assert_eq!(said(), of(64, "70"), "write {when}");
    }
    assert!(killed >= 4, "{killed}");
    assert_eq!(said(), of(48, "50"));
}

fn has_swap_accounting(sandbox: &Sandbox) -> bool {
    let id = sandbox.start(&mut sandbox.bundle(), "probe");
    let cgroup = sandbox.cgroup(&id, "memory");
    cgroup.path.join(if cgroup.v2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" }).exists()
}
