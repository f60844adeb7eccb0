//! `rt create NAME --ram=… --cpu=…`: a container without image, bundle or download.

mod common;

use common::*;

/// Runs with an empty current folder, so that no config.json is found.
fn create(sandbox: &Sandbox, id: &str, flags: &[&str]) -> Run {
    let empty = sandbox.path("empty");
    std::fs::create_dir_all(&empty).expect("a folder");
    sandbox.rt(["create", id]).args(flags).cwd(empty)
}

#[test]
fn a_container_from_nothing_lives_like_any_other() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("nothing");
    create(&sandbox, &id, &["--ram=128", "--cpu=25"]).ok();
    assert_eq!(sandbox.status(&id), "created");
    assert_eq!(sandbox.cgroup(&id, "memory").memory_limit(), (128 << 20).to_string());
    let cpu = sandbox.cgroup(&id, "cpu");
    let (quota, period) = if cpu.v2 {
        let text = cpu.read("", "cpu.max");
        text.split_once(' ').map(|(q, p)| (q.to_owned(), p.to_owned())).unwrap_or_default()
    } else {
        (cpu.read("cpu.cfs_quota_us", ""), cpu.read("cpu.cfs_period_us", ""))
    };
    let share = quota.parse::<f64>().expect("a quota") / period.parse::<f64>().expect("a period");
    assert!((share - 0.25).abs() < 0.001, "{quota} of {period}");

    sandbox.rt(["start", &id]).ok();
    assert_eq!(sandbox.status(&id), "running");
    assert!(sandbox.rt(["list", "-q"]).ok().stdout.contains(&id));
    let pid = sandbox.pid(&id);
    for kind in ["pid", "mnt", "net", "ipc", "uts"] {
        let namespace =
            |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        assert_ne!(namespace(&pid.to_string()), namespace("self"), "{kind}");
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");

    // Its init ends on SIGTERM.
    sandbox.rt(["kill", &id, "TERM"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    sandbox.rt(["delete", &id]).ok();
    sandbox.assert_nothing_left(&id);
}

#[test]
fn sizes_take_mebibytes_units_and_max() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for (flag, bytes) in [
        ("--ram=64", 64_u64 << 20),
        ("--ram=64M", 64 << 20),
        ("--ram=1g", 1 << 30),
        ("--ram=65536k", 64 << 20),
    ] {
        let id = sandbox.id("size");
        create(&sandbox, &id, &[flag]).ok();
        assert_eq!(sandbox.cgroup(&id, "memory").memory_limit(), bytes.to_string(), "{flag}");
        sandbox.delete(&id);
    }
    let id = sandbox.id("max");
    create(&sandbox, &id, &["--ram=max"]).ok();
    let unlimited = sandbox.cgroup(&id, "memory").memory_limit();
    assert!(unlimited == "max" || unlimited.parse::<u64>().is_ok_and(|n| n > 1 << 60), "{unlimited}");
    sandbox.delete(&id);
}

#[test]
fn bad_values_are_refused_and_named() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for flag in [
        "--ram=",
        "--ram=0",
        "--ram=-5",
        "--ram=lots",
        "--ram=12q",
        "--ram=99999999999999999999",
        "--cpu=0",
        "--cpu=-1",
        "--cpu=x",
    ] {
        let id = sandbox.id("bad");
        let value = flag.split_once('=').map_or("", |(_, value)| value);
        create(&sandbox, &id, &[flag]).run().fails_with(value);
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_taken_name_and_an_unwritable_root_are_clear_errors() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("taken");
    create(&sandbox, &id, &["--ram=64"]).ok();
    create(&sandbox, &id, &["--ram=64"]).run().fails_with("exist");
    assert_eq!(sandbox.status(&id), "created");
    sandbox
        .bare(["--root", "/proc/nowhere", "create", &id, "--ram=64"])
        .cwd(sandbox.path("empty"))
        .run()
        .fails_with("/proc/nowhere");
}

#[test]
fn without_ram_or_cpu_a_missing_bundle_is_an_error_as_in_runc() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    create(&sandbox, &sandbox.id("plain"), &[]).run().fails_with("config.json");
}

#[test]
fn ram_and_cpu_override_the_limits_of_a_bundle() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", serde_json::json!({ "limit": 32 << 20 }));
    let id = sandbox.id("override");
    sandbox.create_command(&mut bundle, &id).arg("--ram=96").ok();
    assert_eq!(sandbox.cgroup(&id, "memory").memory_limit(), (96 << 20).to_string());
    sandbox.rt(["start", &id]).ok();
    sandbox.exec(&id, "true").succeeds();
}

#[test]
fn its_system_calls_are_those_of_programs_without_privileges() {
    if !needs_root() {
        return;
    }
    let config = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/default/config.json");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/seccomp", config["linux"]["seccomp"].clone());
    let id = sandbox.start(&mut bundle, "profile");
    let work = "set -e; cd /tmp; (sleep 0.1 & wait); seq 9000 | sort -rn | gzip | gunzip | head -n 1; find / -xdev -name sh; \
                cp -a /bin/busybox x; mv x y; chmod 755 y; ln -s y z; ls -la; rm y z; mkfifo f; timeout 5 cat f & echo hi >f; wait; \
                ps; top -b -n 1; free; date; id; hostname; df; stat /; touch a; tar -cf b a; tar -tf b; \
                echo 1 2 | awk '{ print $2 }' | xargs echo | sed s/2/3/; setsid true; ip link; ip addr; \
                (nc -l -p 8080 >got &); sleep 0.3; echo over | nc -w 1 127.0.0.1 8080 || true";
    let done = sandbox.exec(&id, work).succeeds();
    assert!(
        !done.text().contains("Operation not permitted") && !done.text().contains("not implemented"),
        "{done}"
    );
    for escape in [
        "unshare -U true",
        "unshare -m true",
        "nsenter -t 1 -m true",
        "chroot / true",
        "dmesg",
        "mount -t tmpfs x /tmp",
    ] {
        sandbox.exec(&id, escape).fails_with("ermi");
    }
}
