//! What only cgroup v2 has: files by name, kills and freezing of whole groups, device rules in eBPF, and cgroups that a
//! container makes within its own.

mod common;

use std::path::Path;

use common::*;
use serde_json::json;

const MIB: i64 = 1 << 20;

fn needs_v2() -> bool {
    if !needs_root() {
        return false;
    }
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let found = controllers.split_whitespace().any(|name| name == "memory");
    if !found {
        skip("memory on cgroup v2");
    }
    found
}

#[test]
fn unified_files_are_written_and_win_over_the_other_fields() {
    if !needs_v2() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB, "reservation": 8 * MIB }));
    bundle.set("/linux/resources/pids", json!({ "limit": 20 }));
    let files = json!({
        "memory.max": (48 * MIB).to_string(), "memory.high": (40 * MIB).to_string(),
        "memory.low": (16 * MIB).to_string(), "memory.min": (4 * MIB).to_string(),
        "memory.oom.group": "1", "pids.max": "30", "cpu.weight": "77",
    });
    bundle.set("/linux/resources/unified", files.clone());
    let id = sandbox.start(&mut bundle, "unified");
    let cgroup = sandbox.cgroup(&id, "memory");
    for (name, value) in files.as_object().unwrap() {
        assert_eq!(cgroup.read("", name), value.as_str().unwrap(), "{name}");
    }
    // An update of one limit leaves the others.
    sandbox.rt(["update", "--pids-limit", "25", &id]).ok();
    assert_eq!(cgroup.read("", "pids.max"), "25");
    assert_eq!(cgroup.read("", "memory.high"), (40 * MIB).to_string());
    let resources = json!({ "unified": { "memory.high": "max" } }).to_string();
    sandbox.rt(["update", "--resources", "-", &id]).stdin(resources).ok();
    assert_eq!(cgroup.read("", "memory.high"), "max");
}

#[test]
fn a_unified_file_that_is_none_leaves_no_container() {
    if !needs_v2() {
        return;
    }
    let sandbox = Sandbox::new();
    for (name, value, words) in [
        ("memory.no-such-file", "1", "memory.no-such-file"),
        ("memory.max", "much", "memory.max"),
        ("../memory.max", "1", "must be a file name (no slashes)"),
    ] {
        let mut bundle = sandbox.bundle();
        bundle.set("/linux/resources/unified", json!({ name: value }));
        let id = sandbox.id("bad");
        sandbox.create_command(&mut bundle, &id).run().fails_with(words);
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn high_slows_down_and_does_not_kill() {
    if !needs_v2() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set(
        "/linux/resources/unified",
        json!({ "memory.high": (8 * MIB).to_string(), "memory.swap.max": "0" }),
    );
    let id = sandbox.start(&mut bundle, "high");
    sandbox.exec(&id, "dd if=/dev/zero of=/dev/shm/a bs=64k count=160 2>/dev/null").succeeds();
    let events = sandbox.cgroup(&id, "memory").read("", "memory.events");
    let count = |name: &str| {
        let line = events.lines().find_map(|line| line.strip_prefix(name)).expect("an event");
        line.trim().parse::<u64>().expect("a number")
    };
    assert!(count("high ") > 0, "{events}");
    assert_eq!(count("oom_kill "), 0, "{events}");
}

#[test]
fn one_kill_ends_the_whole_group_that_asked_for_it() {
    if !needs_v2() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 32 * MIB, "swap": 32 * MIB }));
    if !sandbox_has_swap_limit(&sandbox) {
        bundle.unset("/linux/resources/memory/swap");
    }
    bundle.set("/linux/resources/unified", json!({ "memory.oom.group": "1" }));
    let id = sandbox.start(&mut bundle, "group");
    // init itself is as small as can be; without the group it would live on.
    sandbox.exec(&id, "dd if=/dev/zero of=/dev/shm/a bs=1M count=60 2>/dev/null");
    sandbox.wait_for_status(&id, "stopped");
}

fn sandbox_has_swap_limit(sandbox: &Sandbox) -> bool {
    let id = sandbox.start(&mut sandbox.bundle(), "probe");
    sandbox.cgroup(&id, "memory").path.join("memory.swap.max").exists()
}

#[test]
fn device_rules_hold_for_programs_that_run_and_after_updates() {
    if !needs_v2() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    // /dev/kmsg: no rule of the defaults allows it.
    bundle.set(
        "/linux/resources/devices",
        json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "w" },
        ]),
    );
    for kind in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{kind}/-"), json!("CAP_MKNOD"));
    }
    let id = sandbox.start(&mut bundle, "devices");
    sandbox.exec(&id, "mknod /tmp/kmsg c 1 11 && mknod /tmp/mem c 1 1").succeeds();
    let check = || {
        sandbox.exec(&id, "exec 3</tmp/kmsg").fails_with("Operation not permitted");
        sandbox.exec(&id, "exec 3>/tmp/kmsg").succeeds();
        sandbox.exec(&id, "exec 3>/tmp/mem").fails_with("Operation not permitted");
        sandbox.exec(&id, "exec 3<>/dev/null && head -c 1 /dev/zero >/dev/null").succeeds();
    };
    check();
    sandbox.rt(["update", "--pids-limit", "50", &id]).ok();
    check();
}

#[test]
fn a_kill_reaches_what_left_the_process_group_and_the_sub_cgroups() {
    if !needs_v2() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    // Without a pid namespace the death of init ends nobody else: only the cgroup knows them.
    let spaces = json!([{ "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" }]);
    bundle.set("/linux/namespaces", spaces);
    with_own_cgroups(&mut bundle);
    let id = sandbox.start(&mut bundle, "kill");
    let script = "mkdir /sys/fs/cgroup/a && sh -c 'echo $$ >/sys/fs/cgroup/a/cgroup.procs; exec sleep 1000' & \
                  setsid sleep 1000 & sleep 0.3";
    sandbox.exec(&id, script).succeeds();
    let cgroup = sandbox.cgroup(&id, "memory").path;
    let count = |dir: &std::path::Path| {
        std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines().count()
    };
    assert_eq!((count(&cgroup), count(&cgroup.join("a"))), (2, 1));
    sandbox.rt(["kill", &id, "KILL"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    wait_until("nobody is left", || count(&cgroup) + count(&cgroup.join("a")) == 0);
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_pause_freezes_sub_cgroups_too() {
    if !needs_v2() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    with_own_cgroups(&mut bundle);
    let id = sandbox.start(&mut bundle, "pause");
    let script = "mkdir /sys/fs/cgroup/a && sh -c 'echo $$ >/sys/fs/cgroup/a/cgroup.procs; while :; do sleep 0.05; done' & sleep 0.2";
    sandbox.exec(&id, script).succeeds();
    let cgroup = sandbox.cgroup(&id, "memory").path;
    let frozen = |dir: &std::path::Path| {
        std::fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default().contains("frozen 1")
    };
    let members = || std::fs::read_to_string(cgroup.join("a/cgroup.procs")).unwrap_or_default();
    wait_until("the sub-cgroup has a process", || !members().is_empty());
    sandbox.rt(["pause", &id]).ok();
    assert_eq!((frozen(&cgroup), frozen(&cgroup.join("a"))), (true, true));
    sandbox.rt(["resume", &id]).ok();
    wait_until("it runs again", || !frozen(&cgroup.join("a")));
}

/// A cgroup namespace, and the container's own cgroups to write to.
fn with_own_cgroups(bundle: &mut Bundle) {
    let spaces = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    if !spaces.iter().any(|space| space["type"] == "cgroup") {
        bundle.set("/linux/namespaces/-", json!({ "type": "cgroup" }));
    }
    let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid", "nodev", "noexec"] });
    bundle.set("/mounts/-", mount);
}

/// The host's /sys with all that is mounted beneath it, and cgroups on top of the host's.
fn with_sys_of_the_host(bundle: &mut Bundle) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["destination"] != "/sys");
    mounts
        .push(json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"] }));
    with_own_cgroups(bundle);
}

/// Folders and control files of /sys/fs/cgroup that belong to a neighbour, by the eyes of a container.
fn seen_of(sandbox: &Sandbox, id: &str, neighbour: &str) -> String {
    let script =
        format!("find /sys/fs/cgroup -name {neighbour} -o -name '{neighbour}.*'; cat /proc/self/cgroup");
    let seen = sandbox.exec(id, &script).succeeds().stdout;
    seen.trim().strip_suffix("0::/").unwrap_or(&seen).to_owned()
}

#[test]
fn a_cgroup_namespace_over_a_cgroup2_that_is_there_shows_the_own_cgroup_alone() {
    if !needs_v2() {
        return;
    }
    let sandbox = Sandbox::new();
    // Of the user whom the container's root is: what a user's systemd delegates.
    let neighbour = sandbox.id("neighbour");
    let folder = Path::new("/sys/fs/cgroup").join(&neighbour);
    std::fs::create_dir(&folder).expect("a cgroup");
    std::os::unix::fs::chown(&folder, Some(1000), Some(1000)).expect("an owner");
    let twice: fn(&mut Bundle) = |bundle| {
        with_own_cgroups(bundle);
        with_own_cgroups(bundle);
    };
    let mapped: fn(&mut Bundle) = |bundle| {
        with_sys_of_the_host(bundle);
        let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
        bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        bundle.set("/linux/namespaces/-", json!({ "type": "user" }));
    };
    for (name, change) in [("twice", twice), ("sys", with_sys_of_the_host), ("mapped", mapped)] {
        let mut bundle = sandbox.bundle();
        change(&mut bundle);
        let id = sandbox.start(&mut bundle, name);
        assert_eq!(seen_of(&sandbox, &id, &neighbour), "", "{name}");
        // Its own cgroup it is: a new one in it is on the host.
        let host = sandbox.cgroup(&id, "memory").path;
        let procs = sandbox.exec(&id, "cat /sys/fs/cgroup/cgroup.procs").succeeds();
        assert_eq!(procs.stdout.lines().next(), Some("1"), "{name}");
        if name != "mapped" {
            sandbox.exec(&id, "mkdir /sys/fs/cgroup/own").succeeds();
            assert!(host.join("own").is_dir(), "{name}");
        }
    }
    std::fs::remove_dir(&folder).expect("an empty cgroup");
}

/// As `--privileged` of an engine, with the capabilities that this process has itself.
fn with_all_privileges(bundle: &mut Bundle) {
    let held: Vec<String> = caps::read(None, caps::CapSet::Permitted)
        .expect("the own capabilities")
        .iter()
        .map(ToString::to_string)
        .collect();
    for kind in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{kind}"), json!(held));
    }
    bundle.unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
    bundle.set("/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]));
    bundle.set("/process/noNewPrivileges", json!(false));
}

/// What every manager of cgroups does first: processes into a leaf, then controllers for its siblings.
const DELEGATE: &str = "cd /sys/fs/cgroup && mkdir init && for p in $(cat cgroup.procs); do echo $p >init/cgroup.procs; done; \
                        echo '+memory +pids' >cgroup.subtree_control && mkdir job";

#[test]
fn a_container_that_manages_cgroups_can_still_be_managed() {
    if !needs_v2() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    with_own_cgroups(&mut bundle);
    bundle.shell(&format!("{DELEGATE} && echo 16M >job/memory.max && exec sleep 1000"));
    let id = sandbox.start(&mut bundle, "nested");
    let init = sandbox.cgroup(&id, "memory").path;
    wait_until("its cgroups are there", || sandbox.cgroup(&id, "memory").path.ends_with("init"));
    let cgroup = sandbox.cgroup(&id, "memory").path.parent().expect("a parent").to_owned();
    assert!(init == cgroup || init == cgroup.join("init"));
    // The container's own cgroup takes no process any more: an exec goes where init is.
    sandbox.exec(&id, "true").succeeds();
    let inside = sandbox.exec(&id, "cat /proc/self/cgroup").succeeds();
    assert_eq!(inside.stdout.trim(), "0::/init");
    sandbox.rt(["exec", "--cgroup", "job", &id, "true"]).ok();
    // Limits, statistics, pauses and proofs are about the whole.
    sandbox.rt(["update", "--memory", &(48 * MIB).to_string(), &id]).ok();
    assert_eq!(std::fs::read_to_string(cgroup.join("memory.max")).unwrap().trim(), (48 * MIB).to_string());
    let stats = sandbox.rt(["events", "--stats", &id]).ok().json();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(48 * MIB));
    sandbox.rt(["pause", &id]).ok();
    sandbox.rt(["resume", &id]).ok();
    let proof = sandbox.rt(["test-memory", &id, "--strategy", "sequential", "--format", "json"]).ok().json();
    assert_eq!(
        (&proof["verdict"], &proof["cgroup"]["limit_bytes"]),
        (&json!("enforced"), &json!(48 * MIB)),
        "{proof}"
    );
    assert_eq!(sandbox.status(&id), "running");
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn rt_runs_in_a_container_of_rt() {
    if !needs_v2() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 256 * MIB }));
    with_own_cgroups(&mut bundle);
    with_all_privileges(&mut bundle);
    let binary = Sandbox::binary();
    // The binary may be linked to the machine's libraries.
    for folder in ["/lib", "/lib64", "/usr/lib"] {
        if std::path::Path::new(folder).exists() {
            bundle.set("/mounts/-", json!({ "destination": folder, "type": "bind", "source": folder, "options": ["rbind", "ro"] }));
        }
    }
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/rt", "type": "bind", "source": binary, "options": ["bind", "ro"] }),
    );
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] }),
    );
    bundle.shell(&format!("{DELEGATE}; exec sleep 1000"));
    let id = sandbox.start(&mut bundle, "outer");
    wait_until("its cgroups are there", || sandbox.cgroup(&id, "memory").path.ends_with("init"));
    let script = "/rt create inner --ram=32 >/tmp/out 2>&1 && /rt start inner && /rt test-memory inner --strategy sequential \
                  && /rt state inner && /rt delete --force inner || { s=$?; cat /tmp/out; exit $s; }";
    let outcome = sandbox.exec(&id, script);
    assert!(outcome.code == 0 && outcome.stdout.contains("enforced: OOM-killed"), "{outcome}");
    let left =
        sandbox.exec(&id, "ls -d /sys/fs/cgroup/*/ /sys/fs/cgroup/init/*/ 2>/dev/null | grep -c inner");
    assert_eq!(left.stdout.trim(), "0");
}

/// `memory.max` of a folder.
fn limit_of(folder: &Path) -> i64 {
    let text = std::fs::read_to_string(folder.join("memory.max")).unwrap_or_default();
    text.trim().parse().unwrap_or(-1)
}

/// A bundle with the machine's own programs, in which dockerd has rt as a runtime, and an image to import.
fn with_docker(bundle: &mut Bundle, sandbox: &Sandbox, layer: &Layer) {
    let image = sandbox.path("image.tar");
    Run::new("tar").arg("-C").arg(bundle.rootfs("")).arg("-cf").arg(&image).arg(".").ok();
    bundle.set("/root/path", json!(layer.0));
    bundle.set("/linux/resources/memory", json!({ "limit": 512 * MIB }));
    bundle.set("/process/env/-", json!("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    with_own_cgroups(bundle);
    with_all_privileges(bundle);
    for (path, options) in [("/run", "mode=755"), ("/tmp", "mode=1777")] {
        let mount = json!({ "destination": path, "type": "tmpfs", "source": "tmpfs", "options": [options] });
        bundle.set("/mounts/-", mount);
    }
    // Layers of docker's are no layers of ours; and what is mounted on the machine is not in the layer.
    let data = sandbox.path("docker");
    std::fs::create_dir_all(&data).expect("a folder");
    for (path, source) in [("/var/lib/docker", &data), ("/rt", &Sandbox::binary()), ("/image.tar", &image)] {
        let mount =
            json!({ "destination": path, "type": "bind", "source": source, "options": ["rbind", "rw"] });
        bundle.set("/mounts/-", mount);
    }
    // As docker's own image for this begins; then an engine without a network.
    let engine = "exec dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs \
                  --exec-opt native.cgroupdriver=cgroupfs --add-runtime rt=/rt >/var/log/dockerd.log 2>&1";
    bundle.shell(&format!("{DELEGATE}; cd /; {engine}"));
}

/// A container of the docker in container `id`: limited, proved from outside, updated, paused with the outer one, and killed.
fn nested(sandbox: &Sandbox, id: &str, outer: &Path, runtime: &str) {
    let docker = |command: &str| sandbox.exec(id, &format!("docker {command}"));
    let run = format!("run -d --runtime {runtime} --network none -m 64m box sleep 1000");
    let inner = docker(&run).succeeds().stdout.trim().to_owned();
    // Its limit is in the kernel, below the outer one's.
    let folder = outer.join("docker").join(&inner);
    assert_eq!((limit_of(&folder), limit_of(outer)), (64 * MIB, 512 * MIB), "{runtime}");
    let processes = std::fs::read_to_string(folder.join("cgroup.procs")).expect("its processes");
    let pid = processes.lines().next().expect("a process");
    // docker gives as much swap as memory, where there is some.
    let args =
        ["test-memory", "--pid", pid, "--strategy", "sequential", "--expect", "64", "--format", "json"];
    let proof = sandbox.rt(args).ok().json();
    let verdict = proof["verdict"].as_str().expect("a verdict");
    assert!(["enforced", "spilled-to-swap"].contains(&verdict), "{proof}");
    assert_eq!(proof["cgroup"]["limit_bytes"], json!(64 * MIB));
    assert_eq!(docker(&format!("exec {inner} echo inside")).succeeds().stdout, "inside\n", "{runtime}");
    docker(&format!("update -m 48m --memory-swap 96m {inner}")).succeeds();
    assert_eq!(limit_of(&folder), 48 * MIB, "{runtime}");
    let frozen =
        || std::fs::read_to_string(folder.join("cgroup.events")).unwrap_or_default().contains("frozen 1");
    sandbox.rt(["pause", id]).ok();
    assert!(frozen(), "{runtime}");
    sandbox.rt(["resume", id]).ok();
    wait_until("it runs again", || !frozen());
    let full = "--network none -m 16m --memory-swap 16m box dd if=/dev/zero of=/dev/shm/a bs=1M count=60";
    assert_eq!(docker(&format!("run --rm --runtime {runtime} {full}")).code, 137, "{runtime}");
}

#[test]
fn docker_runs_in_a_container_of_rt() {
    if !needs_v2() || !needs_rt() || !needs_engine("dockerd") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let layer = Layer::new(&sandbox);
    with_docker(&mut bundle, &sandbox, &layer);
    let id = sandbox.start(&mut bundle, "engine");
    // An exec goes where init is: the container's own cgroup takes no process any more.
    let start = std::time::Instant::now();
    while sandbox.exec(&id, "docker version").code != 0 {
        let log = std::fs::read_to_string(layer.0.join("var/log/dockerd.log")).unwrap_or_default();
        assert!(sandbox.status(&id) == "running" && start.elapsed() < PATIENCE, "no engine: {log}");
    }
    let inside = sandbox.exec(&id, "cat /proc/self/cgroup").succeeds();
    assert_eq!(inside.stdout.trim(), "0::/init");
    sandbox.exec(&id, "docker import /image.tar box").succeeds();
    let outer = sandbox.cgroup(&id, "memory").path.parent().expect("a parent").to_owned();
    for runtime in ["rt", "runc"] {
        nested(&sandbox, &id, &outer, runtime);
    }
    // The proof of the outer limit is about the whole, and takes none of what runs within.
    let running = || sandbox.exec(&id, "docker ps -q").succeeds().stdout.lines().count();
    assert_eq!(running(), 2);
    let proof = sandbox.rt(["test-memory", &id, "--strategy", "sequential", "--format", "json"]).ok().json();
    let limit = &proof["cgroup"]["limit_bytes"];
    assert_eq!((&proof["verdict"], limit), (&json!("enforced"), &json!(512 * MIB)), "{proof}");
    assert_eq!((running(), sandbox.status(&id)), (2, "running".into()));
    sandbox.rt(["kill", &id, "KILL"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    sandbox.rt(["delete", &id]).ok();
    drop(layer);
    sandbox.assert_nothing_left(&id);
}
