//! `--systemd-cgroup`: containers as units of systemd, over D-Bus, with the limits as systemd's properties too.

mod common;

use std::path::Path;

use common::*;
use serde_json::json;

const MIB: i64 = 1 << 20;

fn needs_systemd() -> bool {
    if !needs_root() {
        return false;
    }
    let booted = Path::new("/run/systemd/system").is_dir();
    if !booted {
        skip("systemd");
    }
    booted
}

/// A bundle whose container is a scope of its own in a slice of its own.
struct Scope {
    sandbox: Sandbox,
    bundle: Bundle,
    id: String,
}

impl Scope {
    fn new(name: &str) -> Self {
        let sandbox = Sandbox::new();
        let mut bundle = sandbox.bundle();
        let id = sandbox.id(name);
        bundle.set("/linux/cgroupsPath", json!(format!("rttest-units.slice:rt:{id}")));
        Self { sandbox, bundle, id }
    }

    fn unit(&self) -> String {
        format!("rt-{}.scope", self.id)
    }

    fn create(&mut self) -> Run {
        let path = self.sandbox.prepare(&mut self.bundle, &self.id);
        self.sandbox.rt(["--systemd-cgroup", "create", "--bundle", &path, &self.id])
    }

    fn start(&mut self) {
        self.create().ok();
        self.sandbox.rt(["start", &self.id]).ok();
    }

    /// `systemctl show` of one property.
    #[track_caller]
    fn property(&self, name: &str) -> String {
        show(&self.unit(), name)
    }
}

#[track_caller]
fn show(unit: &str, name: &str) -> String {
    let shown = Run::new("systemctl").args(["show", "--value", "--property", name, unit]).ok();
    shown.stdout.trim().to_owned()
}

fn v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn limits_are_properties_of_a_scope_and_in_the_kernel() {
    if !needs_systemd() {
        return;
    }
    let mut scope = Scope::new("limits");
    let memory = json!({ "limit": 64 * MIB, "reservation": 16 * MIB });
    scope.bundle.set("/linux/resources/memory", memory);
    scope.bundle.set("/linux/resources/cpu", json!({ "quota": 25_000, "period": 50_000, "shares": 2048 }));
    scope.bundle.set("/linux/resources/pids", json!({ "limit": 77 }));
    scope.create().ok();
    // Before the first program of the container runs.
    assert_eq!(scope.property("ActiveState"), "active");
    assert_eq!(scope.property("Slice"), "rttest-units.slice");
    assert_eq!(scope.property("Delegate"), "yes");
    assert_eq!(scope.property("Description"), format!("libcontainer container {}", scope.id));
    assert_eq!(scope.property("DevicePolicy"), "strict");
    let devices = scope.property("DeviceAllow");
    assert!(devices.contains("/dev/char/1:3 rwm") && devices.contains("char-pts rwm"), "{devices}");
    assert!(devices.contains("char-* m") && !devices.contains("1:11"), "{devices}");
    let cgroup = scope.sandbox.cgroup(&scope.id, "memory");
    assert!(cgroup.path.ends_with(format!("rttest.slice/rttest-units.slice/{}", scope.unit())), "{cgroup:?}");
    assert_eq!(cgroup.memory_limit(), (64 * MIB).to_string());
    assert_eq!(scope.sandbox.cgroup(&scope.id, "pids").read("pids.max", "pids.max"), "77");
    if v2() {
        assert_eq!(scope.property("MemoryMax"), (64 * MIB).to_string());
        assert_eq!(scope.property("MemoryLow"), (16 * MIB).to_string());
        assert_eq!(scope.property("TasksMax"), "77");
        assert_eq!(scope.property("CPUQuotaPerSecUSec"), "500ms");
        assert_eq!(scope.property("CPUQuotaPeriodUSec"), "50ms");
        assert_eq!(cgroup.read("", "cpu.max"), "25000 50000");
        assert_eq!(scope.property("CPUWeight"), cgroup.read("", "cpu.weight"));
    }
    scope.sandbox.rt(["start", &scope.id]).ok();
    scope.sandbox.delete(&scope.id);
    assert_eq!(scope.property("LoadState"), "not-found");
    scope.sandbox.assert_nothing_left(&scope.id);
}

#[test]
fn limits_survive_when_systemd_reads_its_units_again() {
    if !needs_systemd() {
        return;
    }
    let mut scope = Scope::new("reload");
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    scope.bundle.set("/linux/resources/pids", json!({ "limit": 77 }));
    for kind in ["bounding", "effective", "permitted"] {
        scope.bundle.set(&format!("/process/capabilities/{kind}/-"), json!("CAP_MKNOD"));
    }
    scope.start();
    let check = |scope: &Scope| {
        assert_eq!(scope.sandbox.cgroup(&scope.id, "memory").memory_limit(), (64 * MIB).to_string());
        assert_eq!(scope.sandbox.cgroup(&scope.id, "pids").read("pids.max", "pids.max"), "77");
        scope
            .sandbox
            .exec(&scope.id, "mknod /tmp/mem c 1 1; exec 3>/tmp/mem")
            .fails_with("Operation not permitted");
        scope.sandbox.exec(&scope.id, "head -c 1 /dev/zero >/dev/null").succeeds();
    };
    check(&scope);
    Run::new("systemctl").arg("daemon-reload").ok();
    check(&scope);
}

#[test]
fn unified_files_and_an_oom_policy_are_properties() {
    if !needs_systemd() || !needs_rt() {
        return;
    }
    if !v2() {
        return skip("memory on cgroup v2");
    }
    let mut scope = Scope::new("unified");
    let files = json!({
        "memory.high": (40 * MIB).to_string(), "memory.min": (4 * MIB).to_string(), "memory.max": (48 * MIB).to_string(),
        "memory.oom.group": "1", "pids.max": "max", "cpu.max": "30000",
    });
    scope.bundle.set("/linux/resources/unified", files);
    scope.start();
    assert_eq!(scope.property("MemoryHigh"), (40 * MIB).to_string());
    assert_eq!(scope.property("MemoryMin"), (4 * MIB).to_string());
    assert_eq!(scope.property("MemoryMax"), (48 * MIB).to_string());
    assert_eq!(scope.property("TasksMax"), "infinity");
    assert_eq!(scope.property("CPUQuotaPerSecUSec"), "300ms");
    assert_eq!(scope.property("OOMPolicy"), "kill");
    assert_eq!(scope.sandbox.cgroup(&scope.id, "memory").read("", "memory.oom.group"), "1");
    // One kill would take the container.
    let (verdict, code, record) = proof(&scope);
    assert_eq!((verdict.as_str(), code), ("refused", 3), "{record}");
    assert!(record.to_string().contains("group-kill"), "{record}");
}

#[test]
fn annotations_set_other_properties() {
    if !needs_systemd() {
        return;
    }
    let mut scope = Scope::new("annotated");
    let annotations = json!({
        "org.systemd.property.TimeoutStopSec": "uint64 123",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.Documentation": "['man:rt(8)']",
        "org.other.property": "not for systemd",
    });
    scope.bundle.set("/annotations", annotations);
    scope.start();
    assert_eq!(scope.property("TimeoutStopUSec"), "2min 3s");
    assert_eq!(scope.property("CollectMode"), "inactive-or-failed");
    assert!(scope.property("Documentation").contains("man:rt(8)"));
}

#[test]
fn a_property_that_systemd_refuses_leaves_nothing() {
    if !needs_systemd() {
        return;
    }
    for (name, value, words) in [
        ("NoSuchThing", "true", "NoSuchThing"),
        ("CollectMode", "what", "value parse error"),
        ("TimeoutStopUSec", "'text'", "systemd unit"),
    ] {
        let mut scope = Scope::new("refused");
        scope.bundle.set("/annotations", json!({ format!("org.systemd.property.{name}"): value }));
        scope.create().run().fails_with(words);
        assert_eq!(scope.property("LoadState"), "not-found");
        scope.sandbox.assert_nothing_left(&scope.id);
    }
}

#[test]
fn a_name_that_another_unit_has_is_refused_and_the_unit_lives_on() {
    if !needs_systemd() {
        return;
    }
    for (slice, words) in [("system.slice", "already"), ("rttest-units.slice", "cgroup is not empty")] {
        let mut scope = Scope::new("taken");
        let unit = scope.unit();
        let args = ["--scope", "--slice", slice, "--unit", &unit, "sleep", "1000"];
        let mut other = Run::new("systemd-run").args(args).spawn();
        wait_until("the other unit", || show(&unit, "ActiveState") == "active");
        scope.create().run().fails_with(words);
        assert!(other.is_running(), "{slice}");
        assert_eq!(scope.property("ActiveState"), "active");
        Run::new("systemctl").args(["stop", &unit]).ok();
    }
}

#[test]
fn updates_go_through_systemd() {
    if !needs_systemd() {
        return;
    }
    let mut scope = Scope::new("update");
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    scope.start();
    let id = scope.id.clone();
    scope.sandbox.rt(["update", "--memory", &(48 * MIB).to_string(), "--pids-limit", "33", &id]).ok();
    scope.sandbox.rt(["update", "--cpu-quota", "20000", "--cpu-period", "100000", &id]).ok();
    assert_eq!(scope.sandbox.cgroup(&id, "memory").memory_limit(), (48 * MIB).to_string());
    if v2() {
        assert_eq!(scope.property("MemoryMax"), (48 * MIB).to_string());
        assert_eq!(scope.property("TasksMax"), "33");
        assert_eq!(scope.property("CPUQuotaPerSecUSec"), "200ms");
        scope.sandbox.rt(["update", "--cpu-share", "4096", &id]).ok();
        assert_eq!(scope.property("CPUQuotaPerSecUSec"), "200ms");
        assert_eq!(scope.property("CPUWeight"), scope.sandbox.cgroup(&id, "cpu").read("", "cpu.weight"));
        scope.sandbox.rt(["update", "--memory", "-1", &id]).ok();
        assert_eq!(scope.property("MemoryMax"), "infinity");
    }
    Run::new("systemctl").arg("daemon-reload").ok();
    assert_eq!(scope.sandbox.cgroup(&id, "pids").read("pids.max", "pids.max"), "33");
}

#[test]
fn an_update_of_the_limit_alone_keeps_memory_and_swap_together() {
    if !needs_systemd() {
        return;
    }
    if !v2() {
        return skip("memory on cgroup v2");
    }
    let mut scope = Scope::new("total");
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 32 * MIB, "swap": 64 * MIB }));
    scope.start();
    let update = |limit: i64| scope.sandbox.rt(["update", "--memory", &(limit * MIB).to_string(), &scope.id]);
    let has = |limit: i64, swap: i64| {
        let memory = scope.sandbox.cgroup(&scope.id, "memory");
        for (property, file, value) in
            [("MemoryMax", "memory.max", limit), ("MemorySwapMax", "memory.swap.max", swap)]
        {
            let value = (value * MIB).to_string();
            assert_eq!((scope.property(property), memory.read("", file)), (value.clone(), value), "{file}");
        }
    };
    update(48).ok();
    has(48, 16);
    update(80).run().fails_with("memory+swap limit should be >= memory limit");
    has(48, 16);
    update(16).ok();
    has(16, 48);
}

#[test]
fn an_update_that_is_refused_half_way_is_set_back_in_systemd_too() {
    if !needs_systemd() || !needs_rt() {
        return;
    }
    if !v2() {
        return skip("memory on cgroup v2");
    }
    let mut scope = Scope::new("half");
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    scope.bundle.set("/linux/resources/cpu", json!({ "quota": 25_000, "period": 100_000 }));
    scope.start();
    let said = || {
        ["MemoryMax", "MemorySwapMax", "TasksMax", "CPUQuotaPerSecUSec", "CPUWeight"]
            .map(|name| scope.property(name))
            .into_iter()
            .chain(["memory.max", "pids.max", "cpu.max", "cpu.weight"].map(|file| {
                scope.sandbox.cgroup(&scope.id, file.split('.').next().unwrap_or_default()).read("", file)
            }))
            .collect::<Vec<_>>()
    };
    let before = said();
    // systemd takes any number of tasks; the kernel has not so many.
    let change = json!({
        "memory": { "limit": 48 * MIB, "swap": 64 * MIB }, "cpu": { "quota": 50_000, "shares": 77 },
        "pids": { "limit": 1_i64 << 40 },
    });
    let update = scope.sandbox.rt(["update", "-r", "-", &scope.id]).stdin(change.to_string());
    update.run().fails_with("pids.max");
    // What systemd had no word for is a number now, and the same.
    let unlimited = |value: String| if value == "[not set]" { "100".to_owned() } else { value };
    let after = said().into_iter().map(unlimited).collect::<Vec<_>>();
    assert_eq!(after, before.into_iter().map(unlimited).collect::<Vec<_>>());
}

#[test]
fn cpusets_are_properties() {
    if !needs_systemd() {
        return;
    }
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !controllers.split_whitespace().any(|name| name == "cpuset") {
        return skip("cpuset on cgroup v2");
    }
    let mut scope = Scope::new("cpuset");
    scope.bundle.set("/linux/resources/cpu", json!({ "cpus": "1", "mems": "0" }));
    scope.start();
    assert_eq!(
        (scope.property("AllowedCPUs"), scope.property("AllowedMemoryNodes")),
        ("1".into(), "0".into())
    );
    assert_eq!(scope.sandbox.cgroup(&scope.id, "cpuset").read("", "cpuset.cpus"), "1");
    let cpus = scope.sandbox.exec(&scope.id, "grep Cpus_allowed_list /proc/self/status").succeeds();
    assert_eq!(cpus.stdout.split_whitespace().last(), Some("1"));
    scope.sandbox.rt(["update", "--cpuset-cpus", "0", &scope.id]).ok();
    assert_eq!(scope.property("AllowedCPUs"), "0");
}

#[test]
fn a_container_from_nothing_is_proved_in_its_scope() {
    if !needs_systemd() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("proof");
    sandbox.rt(["--systemd-cgroup", "create", &id, "--ram=64", "--cpu=25"]).ok();
    sandbox.rt(["start", &id]).ok();
    let cgroup = sandbox.cgroup(&id, "memory").path;
    assert!(cgroup.ends_with(format!("system.slice/rt-{id}.scope")), "{cgroup:?}");
    let proof = sandbox.rt(["test-memory", &id, "--format", "json", "--strategy", "sequential"]).ok().json();
    assert_eq!(
        (&proof["verdict"], &proof["cgroup"]["limit_bytes"]),
        (&json!("enforced"), &json!(64 * MIB)),
        "{proof}"
    );
    let lines = sandbox.rt(["monitor", &id, "1", "--format", "json"]).ok();
    assert!(lines.stdout.contains(&(64 * MIB).to_string()), "{lines}");
    sandbox.rt(["kill", &id, "KILL"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    sandbox.delete(&id);
    assert_eq!(show(&format!("rt-{id}.scope"), "LoadState"), "not-found");
    sandbox.assert_nothing_left(&id);
}

/// The verdict of a proof, its exit code, and all that was said.
#[track_caller]
fn proof(scope: &Scope) -> (String, i32, serde_json::Value) {
    let args = ["test-memory", &scope.id, "--strategy", "sequential", "--format", "json"];
    let outcome = scope.sandbox.rt(args).run();
    let record = outcome.json();
    (record["verdict"].as_str().expect("a verdict").to_owned(), outcome.code, record)
}

#[test]
fn a_limit_is_proved_beside_protection_and_throttling() {
    if !needs_systemd() || !needs_rt() {
        return;
    }
    if !v2() {
        return skip("memory on cgroup v2");
    }
    let mut scope = Scope::new("beside");
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    let files = json!({
        "memory.low": (16 * MIB).to_string(), "memory.min": (8 * MIB).to_string(), "memory.high": (24 * MIB).to_string(),
        "memory.swap.max": "0",
    });
    scope.bundle.set("/linux/resources/unified", files.clone());
    scope.start();
    let cgroup = scope.sandbox.cgroup(&scope.id, "memory");
    for (file, property) in [
        ("memory.low", "MemoryLow"),
        ("memory.min", "MemoryMin"),
        ("memory.high", "MemoryHigh"),
        ("memory.swap.max", "MemorySwapMax"),
    ] {
        assert_eq!(
            (cgroup.read("", file), scope.property(property)),
            (files[file].as_str().unwrap().into(), files[file].as_str().unwrap().into())
        );
    }
    let (verdict, code, record) = proof(&scope);
    assert_eq!((verdict.as_str(), code), ("throttled", 4), "{record}");
    let update = |file: &str, value: &str| {
        let resources = json!({ "unified": { file: value } }).to_string();
        scope.sandbox.rt(["update", "--resources", "-", &scope.id]).stdin(resources).ok();
        cgroup.read("", file)
    };
    assert_eq!(
        (update("memory.high", "max"), scope.property("MemoryHigh")),
        ("max".into(), "infinity".into())
    );
    assert_eq!((update("memory.min", "0"), scope.property("MemoryMin")), ("0".into(), "0".into()));
    scope.sandbox.rt(["update", "--memory-reservation", &(4 * MIB).to_string(), &scope.id]).ok();
    assert_eq!(
        (cgroup.read("", "memory.low"), scope.property("MemoryLow")),
        ((4 * MIB).to_string(), (4 * MIB).to_string())
    );
    let (verdict, code, record) = proof(&scope);
    assert_eq!((verdict.as_str(), code), ("enforced", 0), "{record}");
    assert_eq!(scope.property("ActiveState"), "active");
}

#[test]
fn an_update_takes_every_limit_away() {
    if !needs_systemd() || !needs_rt() {
        return;
    }
    if !v2() {
        return skip("memory on cgroup v2");
    }
    let mut scope = Scope::new("unlimited");
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB, "swap": 96 * MIB }));
    scope.bundle.set("/linux/resources/cpu", json!({ "quota": 25_000, "period": 50_000 }));
    scope.bundle.set("/linux/resources/pids", json!({ "limit": 77 }));
    scope.start();
    let args = ["update", "--memory=-1", "--memory-swap=-1", "--pids-limit=-1", "--cpu-quota=-1", &scope.id];
    scope.sandbox.rt(args).ok();
    let check = || {
        for property in ["MemoryMax", "MemorySwapMax", "TasksMax", "CPUQuotaPerSecUSec"] {
            assert_eq!(scope.property(property), "infinity", "{property}");
        }
        for (controller, file) in
            [("memory", "memory.max"), ("memory", "memory.swap.max"), ("pids", "pids.max")]
        {
            assert_eq!(scope.sandbox.cgroup(&scope.id, controller).read("", file), "max", "{file}");
        }
        assert!(scope.sandbox.cgroup(&scope.id, "cpu").read("", "cpu.max").starts_with("max "));
    };
    check();
    Run::new("systemctl").arg("daemon-reload").ok();
    check();
    let (verdict, code, record) = proof(&scope);
    assert_eq!((verdict.as_str(), code), ("refused", 3), "{record}");
    assert!(record.to_string().contains("unlimited"), "{record}");
    // And back.
    scope.sandbox.rt(["update", "--memory", &(32 * MIB).to_string(), &scope.id]).ok();
    let (verdict, code, record) = proof(&scope);
    assert_eq!((verdict.as_str(), code), ("enforced", 0), "{record}");
    assert_eq!(record["cgroup"]["limit_bytes"], json!(32 * MIB));
}

#[test]
fn a_tighter_limit_of_the_slice_is_named() {
    if !needs_systemd() || !needs_rt() {
        return;
    }
    if !v2() {
        return skip("memory on cgroup v2");
    }
    let mut scope = Scope::new("above");
    scope.bundle.set("/linux/cgroupsPath", json!(format!("rttest-above.slice:rt:{}", scope.id)));
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    scope.start();
    let limit = |value: &str| {
        let args = ["set-property", "--runtime", "rttest-above.slice", &format!("MemoryMax={value}")];
        Run::new("systemctl").args(args).ok();
    };
    limit("32M");
    let (verdict, code, record) = proof(&scope);
    let line = scope.sandbox.rt(["monitor", &scope.id, "0"]).ok().stdout;
    limit("infinity");
    assert_eq!((verdict.as_str(), code), ("refused", 3), "{record}");
    assert!(record.to_string().contains("limited-above"), "{record}");
    assert!(record.to_string().contains("/rttest.slice/rttest-above.slice"), "{record}");
    assert!(line.contains("of 32 MiB (limit of /rttest.slice/rttest-above.slice"), "{line}");
    let (verdict, code, record) = proof(&scope);
    assert_eq!((verdict.as_str(), code), ("enforced", 0), "{record}");
}

#[test]
fn device_rules_are_properties_and_hold_after_updates_and_reloads() {
    if !needs_systemd() {
        return;
    }
    let mut scope = Scope::new("devices");
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "w" },
    ]);
    scope.bundle.set("/linux/resources/devices", rules);
    for kind in ["bounding", "effective", "permitted"] {
        scope.bundle.set(&format!("/process/capabilities/{kind}/-"), json!("CAP_MKNOD"));
    }
    scope.start();
    scope.sandbox.exec(&scope.id, "mknod /tmp/kmsg c 1 11 && mknod /tmp/mem c 1 1").succeeds();
    let check = || {
        assert_eq!(scope.property("DevicePolicy"), "strict");
        assert!(
            scope.property("DeviceAllow").contains("/dev/char/1:11 w"),
            "{}",
            scope.property("DeviceAllow")
        );
        let inside = |script: &str| scope.sandbox.exec(&scope.id, script);
        inside("exec 3</tmp/kmsg").fails_with("Operation not permitted");
        inside("exec 3>/tmp/kmsg").succeeds();
        inside("exec 3>/tmp/mem").fails_with("Operation not permitted");
        inside("exec 3<>/dev/null && head -c 1 /dev/zero >/dev/null").succeeds();
    };
    check();
    scope.sandbox.rt(["update", "--pids-limit", "50", &scope.id]).ok();
    check();
    Run::new("systemctl").arg("daemon-reload").ok();
    check();
    // Other rules: systemd gets them too, or takes its own again when it reloads. On v1 it would deny all for a moment.
    let none = json!({ "devices": [{ "allow": false, "access": "rwm" }] }).to_string();
    let update = scope.sandbox.rt(["update", "-r", "-", &scope.id]).stdin(none).run();
    if v2() {
        update.succeeds();
        for _ in 0..2 {
            assert!(!scope.property("DeviceAllow").contains("1:11"), "{}", scope.property("DeviceAllow"));
            scope.sandbox.exec(&scope.id, "exec 3>/tmp/kmsg").fails_with("Operation not permitted");
            scope.sandbox.exec(&scope.id, ": </dev/null").succeeds();
            Run::new("systemctl").arg("daemon-reload").ok();
        }
    } else {
        update.fails_with("cannot change device rules of a unit of systemd on cgroup v1");
        check();
    }
    // Where nothing is denied, systemd denies nothing.
    let mut open = Scope::new("open");
    open.bundle.set("/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]));
    open.start();
    assert_eq!((open.property("DevicePolicy"), open.property("DeviceAllow")), ("auto".into(), String::new()));
}

#[test]
fn slices_nest_by_their_dashes_and_have_a_default() {
    if !needs_systemd() {
        return;
    }
    for (slice, path) in [
        ("rttest-a-b.slice", "rttest.slice/rttest-a.slice/rttest-a-b.slice/"),
        ("", "system.slice/"),
        ("user.slice", "user.slice/"),
        ("-.slice", ""),
    ] {
        let mut scope = Scope::new("slice");
        scope.bundle.set("/linux/cgroupsPath", json!(format!("{slice}:rt:{}", scope.id)));
        scope.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
        scope.start();
        assert_eq!(scope.property("Slice"), if slice.is_empty() { "system.slice" } else { slice });
        let cgroup = scope.sandbox.cgroup(&scope.id, "memory");
        let mount = if cgroup.v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        assert_eq!(cgroup.path, Path::new(mount).join(path).join(scope.unit()));
        assert_eq!(cgroup.memory_limit(), (64 * MIB).to_string());
        scope.sandbox.delete(&scope.id);
        assert_eq!(scope.property("LoadState"), "not-found");
        scope.sandbox.assert_nothing_left(&scope.id);
    }
    for (slice, words) in
        [("rttest--a.slice", "invalid slice"), ("rttest", "invalid slice"), ("/a.slice", "invalid slice")]
    {
        let mut scope = Scope::new("slice");
        scope.bundle.set("/linux/cgroupsPath", json!(format!("{slice}:rt:{}", scope.id)));
        scope.create().run().fails_with(words);
        scope.sandbox.assert_nothing_left(&scope.id);
    }
    // A unit that is a slice itself takes no process.
    let mut scope = Scope::new("slice");
    let unit = format!("rttest-{}.slice", scope.id.replace('-', "_"));
    scope.bundle.set("/linux/cgroupsPath", json!(format!("rttest.slice:rt:{unit}")));
    scope.create().run().fails_with(&unit);
    scope.sandbox.assert_nothing_left(&scope.id);
    assert_ne!(show(&unit, "ActiveState"), "active");
}

#[test]
fn a_unit_whose_init_was_oom_killed_gives_its_name_back() {
    if !needs_systemd() || !needs_rt() {
        return;
    }
    let mut scope = Scope::new("oom");
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 16 * MIB }));
    scope.bundle.args(&["dd", "if=/dev/zero", "of=/dev/shm/a", "bs=1M", "count=60"]);
    scope.create().ok();
    scope.sandbox.rt(["start", &scope.id]).ok();
    scope.sandbox.wait_for_status(&scope.id, "stopped");
    let why = scope.sandbox.rt(["why", &scope.id]).ok();
    assert!(why.stdout.contains("OOM"), "{why}");
    scope.sandbox.rt(["delete", &scope.id]).ok();
    assert_eq!(scope.property("LoadState"), "not-found");
    scope.sandbox.assert_nothing_left(&scope.id);
    // Once more, and its state is lost, as in a reboot that systemd's units survived.
    scope.create().ok();
    scope.sandbox.rt(["start", &scope.id]).ok();
    scope.sandbox.wait_for_status(&scope.id, "stopped");
    std::fs::remove_dir_all(scope.sandbox.root().join(&scope.id)).expect("its state");
    scope.bundle.args(&["sleep", "1000"]);
    scope.start();
    assert_eq!(
        (scope.property("ActiveState"), scope.sandbox.status(&scope.id)),
        ("active".into(), "running".into())
    );
    scope.sandbox.delete(&scope.id);
    assert_eq!(scope.property("LoadState"), "not-found");
    scope.sandbox.assert_nothing_left(&scope.id);
}

#[test]
fn limits_that_annotations_give_are_in_the_kernel_and_stay() {
    if !needs_systemd() || !needs_rt() {
        return;
    }
    if !v2() {
        return skip("memory on cgroup v2");
    }
    let mut scope = Scope::new("given");
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    let annotations = json!({
        "org.systemd.property.MemoryHigh": format!("uint64 {}", 40 * MIB),
        "org.systemd.property.MemoryLow": format!("uint64 {}", 8 * MIB),
        "org.systemd.property.TasksMax": "uint64 55",
    });
    scope.bundle.set("/annotations", annotations);
    scope.start();
    let check = |pids: &str| {
        let cgroup = scope.sandbox.cgroup(&scope.id, "memory");
        let values =
            ["memory.max", "memory.high", "memory.low", "pids.max"].map(|file| cgroup.read("", file));
        assert_eq!(
            values,
            [(64 * MIB).to_string(), (40 * MIB).to_string(), (8 * MIB).to_string(), pids.into()]
        );
    };
    check("55");
    let (verdict, code, record) = proof(&scope);
    assert_eq!((verdict.as_str(), code), ("throttled", 4), "{record}");
    scope.sandbox.rt(["update", "--pids-limit", "44", &scope.id]).ok();
    check("44");
    Run::new("systemctl").arg("daemon-reload").ok();
    check("44");
}

#[test]
fn a_paused_scope_stays_paused_and_can_be_killed() {
    if !needs_systemd() {
        return;
    }
    let mut scope = Scope::new("paused");
    scope.start();
    let id = &scope.id;
    scope.sandbox.rt(["pause", id]).ok();
    assert_eq!(scope.sandbox.status(id), "paused");
    Run::new("systemctl").arg("daemon-reload").ok();
    assert_eq!(scope.sandbox.status(id), "paused");
    scope.sandbox.rt(["update", "--pids-limit", "33", id]).ok();
    assert_eq!(scope.sandbox.status(id), "paused");
    scope.sandbox.rt(["resume", id]).ok();
    scope.sandbox.exec(id, "true").succeeds();
    scope.sandbox.rt(["pause", id]).ok();
    scope.sandbox.delete(id);
    assert_eq!(scope.property("LoadState"), "not-found");
    scope.sandbox.assert_nothing_left(id);
}

#[test]
fn without_systemd_the_manager_is_refused() {
    if !needs_root() {
        return;
    }
    let mut scope = Scope::new("none");
    if Path::new("/run/systemd/system").is_dir() {
        // Where there is one: a path that is none of systemd's.
        scope.bundle.set("/linux/cgroupsPath", json!("/not/three/parts"));
        scope.create().run().fails_with("slice:prefix:name");
    } else {
        scope
            .create()
            .run()
            .fails_with("systemd not running on this host, cannot use systemd cgroups manager");
    }
    scope.sandbox.assert_nothing_left(&scope.id);
}

#[test]
fn systemd_runs_in_a_container_and_gives_limits_of_its_own() {
    if !needs_systemd() {
        return;
    }
    if !v2() {
        return skip("memory on cgroup v2");
    }
    let mut scope = Scope::new("boot");
    let layer = Layer::new(&scope.sandbox);
    scope.bundle.set("/root/path", json!(layer.0));
    scope.bundle.set("/linux/resources/memory", json!({ "limit": 512 * MIB }));
    scope.bundle.set("/linux/namespaces/-", json!({ "type": "cgroup" }));
    let mounts = [
        ("/sys/fs/cgroup", "cgroup", vec!["rw", "nosuid", "nodev", "noexec"]),
        ("/run", "tmpfs", vec!["nosuid", "nodev", "mode=755"]),
        ("/tmp", "tmpfs", vec!["nosuid", "nodev", "mode=1777"]),
        ("/var/log/journal", "tmpfs", vec!["nosuid", "nodev", "mode=755"]),
    ];
    for (path, kind, options) in mounts {
        scope.bundle.set(
            "/mounts/-",
            json!({ "destination": path, "type": kind, "source": kind, "options": options }),
        );
    }
    let capabilities: Vec<String> = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
        "NET_ADMIN",
        "NET_BIND_SERVICE",
    ]
    .iter()
    .map(|name| format!("CAP_{name}"))
    .collect();
    for kind in ["bounding", "effective", "permitted"] {
        scope.bundle.set(&format!("/process/capabilities/{kind}"), json!(capabilities));
    }
    scope.bundle.set("/process/noNewPrivileges", json!(false));
    scope.bundle.set("/process/env/-", json!("container=rt"));
    // Only one unit and what it needs; what the machine starts at boot is no business of this test.
    let unit = "[Service]\nExecStart=/bin/sleep 1000\nMemoryMax=20M\n";
    std::fs::write(layer.0.join("etc/systemd/system/limited.service"), unit).expect("a unit");
    let args = ["/lib/systemd/systemd", "--unit=limited.service", "--log-target=console", "--show-status=no"];
    scope.bundle.args(&args);
    scope.start();
    let cgroup = Path::new("/sys/fs/cgroup/rttest.slice/rttest-units.slice").join(scope.unit());
    let limit = cgroup.join("system.slice/limited.service/memory.max");
    wait_until("systemd's own limit in the container", || {
        std::fs::read_to_string(&limit).is_ok_and(|text| text.trim() == (20 * MIB).to_string())
    });
    let inside = scope.sandbox.rt(["exec", &scope.id, "systemctl", "is-active", "limited.service"]).ok();
    assert_eq!(inside.stdout.trim(), "active");
    // The outer limit stands, whatever runs within, and exec still finds a cgroup.
    let pid = scope.sandbox.pid(&scope.id);
    let path = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("init's cgroup");
    assert!(path.trim().ends_with("/init.scope"), "{path}");
    scope.sandbox.rt(["update", "--memory", &(400 * MIB).to_string(), &scope.id]).ok();
    assert_eq!(scope.property("MemoryMax"), (400 * MIB).to_string());
    scope.sandbox.delete(&scope.id);
    drop(layer);
    scope.sandbox.assert_nothing_left(&scope.id);
}
