//! State that others wrote: an rt of another version, and another runtime in the same root.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::*;
use serde_json::{Value, json};

const MIB: i64 = 1 << 20;
const RECORD: &str = "rt-state.json";

/// Records as released versions wrote them. A later rt must read all of them: add files, change none.
const OLD_RECORDS: [(&str, &str); 2] = [
    ("of the first format's first form", include_str!("fixtures/state-v1/first.json")),
    ("of 0.1.0", include_str!("fixtures/state-v1/0.1.0.json")),
];

fn read(sandbox: &Sandbox, id: &str) -> Value {
    let text = fs::read(sandbox.root().join(id).join(RECORD)).expect("a record");
    serde_json::from_slice(&text).expect("JSON")
}

fn write(sandbox: &Sandbox, id: &str, record: &Value) {
    fs::write(sandbox.root().join(id).join(RECORD), record.to_string()).expect("a record");
}

/// The old record with what differs from machine to machine taken from the record of a live container.
fn in_old_form(old: &str, live: &Value) -> Value {
    let mut record: Value = serde_json::from_str(old).expect("JSON");
    for name in ["id", "bundle", "rootfs"] {
        assert_eq!(record[name], json!(format!("@{name}")));
        record[name] = live[name].clone();
    }
    for name in ["pid", "startTime"] {
        assert_eq!(record["init"][name], json!(0));
        record["init"][name] = live["init"][name].clone();
    }
    record["cgroup"]["version"] = live["cgroup"]["version"].clone();
    let form = record["cgroup"]["hierarchies"][0].clone();
    let hierarchies =
        live["cgroup"]["hierarchies"].as_array().expect("hierarchies").iter().map(|hierarchy| {
            let mut old = form.clone();
            for name in ["controllers", "mount", "dir"] {
                old[name] = hierarchy[name].clone();
            }
            old
        });
    record["cgroup"]["hierarchies"] = hierarchies.collect();
    record
}

/// The paths of all that is in `old` but not in `new`, or is of another type there. `null` is any type.
fn lost(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                match new.get(name) {
                    Some(other) => lost(value, other, &format!("{path}/{name}"), found),
                    None => found.push(format!("{path}/{name}")),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            if let (Some(old), Some(new)) = (old.first(), new.first()) {
                lost(old, new, &format!("{path}/0"), found);
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (old, new) if std::mem::discriminant(old) == std::mem::discriminant(new) => {}
        _ => found.push(path.to_owned()),
    }
}

fn limited(sandbox: &Sandbox) -> Bundle {
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    bundle.set("/annotations", json!({ "org.example.kept": "yes" }));
    bundle
}

#[test]
fn a_container_of_an_older_rt_is_managed_by_this_one() {
    if !needs_root() || !needs_rt() {
        return;
    }
    for (name, old) in OLD_RECORDS {
        let sandbox = Sandbox::new();
        let id = sandbox.start(&mut limited(&sandbox), "old");
        let live = read(&sandbox, &id);
        write(&sandbox, &id, &in_old_form(old, &live));
        let state = sandbox.state(&id);
        assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &live["init"]["pid"]), "{name}");
        assert_eq!(state["created"], "2026-11-25T20:00:00.123456789Z", "{name}");
        let list = sandbox.rt(["list", "--format", "json"]).ok().json();
        assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!(id), &json!("running")), "{name}");
        assert_eq!(sandbox.exec(&id, "echo inside").succeeds().stdout, "inside\n", "{name}");
        sandbox.rt(["pause", &id]).ok();
        assert_eq!(sandbox.status(&id), "paused", "{name}");
        sandbox.rt(["resume", &id]).ok();
        sandbox.rt(["update", "--memory", &(48 * MIB).to_string(), &id]).ok();
        assert_eq!(sandbox.cgroup(&id, "memory").memory_limit(), (48 * MIB).to_string(), "{name}");
        let stats = sandbox.rt(["events", "--stats", &id]).ok().json();
        assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(48 * MIB), "{name}");
        let proof =
            sandbox.rt(["test-memory", &id, "--strategy", "sequential", "--format", "json"]).ok().json();
        assert_eq!(proof["verdict"], "enforced", "{name}: {proof}");
        sandbox.rt(["kill", &id, "KILL"]).ok();
        sandbox.wait_for_status(&id, "stopped");
        let why = sandbox.rt(["why", &id, "--format", "json"]).ok().json();
        assert!(why.is_object(), "{name}: {why}");
        sandbox.rt(["delete", &id]).ok();
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_stopped_container_of_an_older_rt_is_shown_and_deleted() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("unit");
    let mut record: Value = serde_json::from_str(include_str!("fixtures/state-v1/unit.json")).expect("JSON");
    record["id"] = json!(id);
    fs::create_dir_all(sandbox.root().join(&id)).expect("a folder");
    write(&sandbox, &id, &record);
    let state = sandbox.state(&id);
    assert_eq!(
        (&state["status"], &state["pid"], &state["bundle"]),
        (&json!("stopped"), &json!(0), &json!("/b"))
    );
    assert!(sandbox.rt(["list"]).ok().stdout.contains(&id));
    sandbox.rt(["kill", &id, "TERM"]).run().fails_with("container not running");
    // There is no resctrl to remove a group from.
    record["rdt"] = Value::Null;
    write(&sandbox, &id, &record);
    sandbox.rt(["delete", &id]).ok();
    sandbox.assert_nothing_left(&id);
}

#[test]
fn an_older_rt_finds_in_this_ones_record_what_it_looks_for() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut limited(&sandbox), "new");
    let record = read(&sandbox, &id);
    for (name, old) in OLD_RECORDS {
        let old: Value = serde_json::from_str(old).expect("JSON");
        if old["format"] != record["format"] {
            continue;
        }
        let mut missing = Vec::new();
        lost(&old, &record, "", &mut missing);
        assert!(missing.is_empty(), "the record {name} has what this one lacks: {missing:?}");
    }
}

#[test]
fn fields_of_a_later_rt_are_tolerated_and_kept() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut limited(&sandbox), "later");
    let mut record = read(&sandbox, &id);
    record["rtVersion"] = json!("7.0.0");
    record["later"] = json!({ "field": [1, "two"] });
    record["init"]["later"] = json!(true);
    record["cgroup"]["later"] = json!(null);
    write(&sandbox, &id, &record);
    assert_eq!(sandbox.status(&id), "running");
    sandbox.exec(&id, "true").succeeds();
    // Written again.
    sandbox.rt(["update", "--memory", &(48 * MIB).to_string(), &id]).ok();
    let again = read(&sandbox, &id);
    assert_eq!(again["asked"]["memory"]["limit"], json!(48 * MIB));
    assert_eq!((&again["later"], &again["rtVersion"]), (&record["later"], &json!("7.0.0")));
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_container_of_a_newer_format_is_refused_by_both_versions_and_a_forced_deletion_ends_it() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut limited(&sandbox), "newer");
    let other = sandbox.start(&mut sandbox.bundle(), "other");
    let pid = sandbox.pid(&id);
    let mut record = read(&sandbox, &id);
    record["format"] = json!(2);
    record["rtVersion"] = json!("9.1.0");
    record["created"] = json!({ "seconds": 1 });
    record["asked"] = json!("in another form");
    write(&sandbox, &id, &record);
    let own = env!("CARGO_PKG_VERSION");
    let words = format!(
        "the state of container {id} was written by a newer rt (9.1.0, format 2); this is {own}, which knows format 1"
    );
    for args in [
        &["state", &id] as &[&str],
        &["kill", &id, "KILL"],
        &["exec", &id, "true"],
        &["pause", &id],
        &["update", "--pids-limit", "5", &id],
        &["test-memory", &id],
        &["delete", &id],
    ] {
        sandbox.rt(args).run().fails_with(&words);
    }
    let mut bundle = sandbox.bundle();
    sandbox.create_command(&mut bundle, &id).run().fails_with("container with given ID already exists");
    // The others can still be seen, and it is said what cannot.
    let list = sandbox.rt(["list", "-q"]).ok();
    assert_eq!(list.stdout, format!("{other}\n"));
    assert!(list.stderr.contains(&words), "{list}");
    assert_eq!(read(&sandbox, &id), record, "it was touched");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    // Where not even the cgroup can be read, nothing is removed: somebody would have to find the processes.
    let mut strange = record.clone();
    strange["cgroup"] = json!("in another form");
    write(&sandbox, &id, &strange);
    sandbox.rt(["delete", "--force", &id]).run().fails_with(&words);
    assert_eq!(read(&sandbox, &id), strange);
    write(&sandbox, &id, &record);
    sandbox.rt(["delete", "--force", &id]).ok();
    assert_eq!(sandbox.status(&other), "running");
    sandbox.delete(&other);
    sandbox.assert_nothing_left(&id);
}

/// All files below a folder, with what tells whether one was changed; pipes are not opened.
fn snapshot(folder: &Path) -> BTreeMap<String, (u64, i64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let data = entry.metadata().expect("metadata");
        let content = if data.is_file() { fs::read(entry.path()).expect("a file") } else { Vec::new() };
        let name = entry.file_name().to_string_lossy().into_owned();
        all.insert(name, (data.ino(), data.mtime(), data.mtime_nsec(), content));
        if data.is_dir() {
            all.extend(snapshot(&entry.path()).into_iter().map(|(name, data)| (format!("d/{name}"), data)));
        }
    }
    all
}

/// rt shows its container `own` alone, and has no command for `id`, which `runtime` made.
fn is_left_alone(sandbox: &Sandbox, own: &str, id: &str, runtime: &str) {
    assert_eq!(sandbox.rt(["list", "-q"]).ok().stdout, format!("{own}\n"));
    let list = sandbox.rt(["list"]).ok();
    assert!(list.stdout.contains(own) && !list.text().contains(id), "{list}");
    for args in [
        &["state", id] as &[&str],
        &["start", id],
        &["kill", id, "KILL"],
        &["exec", id, "true"],
        &["ps", id],
        &["pause", id],
        &["resume", id],
        &["update", "--pids-limit", "5", id],
        &["events", "--stats", id],
        &["test-memory", id],
        &["delete", id],
        &["delete", "--force", id],
    ] {
        let refused = sandbox.rt(args).run().fails_with("container does not exist");
        assert!(refused.stderr.contains(&format!("was made by {runtime}")), "{refused}");
    }
    let mut another = sandbox.bundle();
    another.set("/linux/cgroupsPath", json!(format!("/{own}-2")));
    sandbox.create_command(&mut another, id).run().fails_with("container with given ID already exists");
}

/// crun runs on no hybrid layout: it does without the unified hierarchy, in a mount namespace of its own.
const WITHOUT_CGROUP2: &str = "umount -l /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";

/// `runtime` and rt have containers in one root: neither is disturbed by the other's.
fn shares_a_root(runtime: &str) {
    if !needs_root() || !needs_rt() || !needs_engine(runtime) {
        return;
    }
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let theirs = |args: &[&str]| {
        let alone = ["--mount", "--propagation", "private", "sh", "-c", WITHOUT_CGROUP2, "sh", runtime];
        let run = if runtime == "crun" { Run::new("unshare").args(alone) } else { Run::new(runtime) };
        run.arg("--root").arg(&root).args(args)
    };
    let id = sandbox.id("theirs");
    let mut bundle = limited(&sandbox);
    let path = sandbox.prepare(&mut bundle, &id);
    theirs(&["create", "--bundle", &path, &id]).ok();
    let own = sandbox.start(&mut sandbox.bundle(), "ours");
    for started in [false, true] {
        if started {
            theirs(&["start", &id]).ok();
        }
        let status = if started { "running" } else { "created" };
        let before = snapshot(&root.join(&id));
        is_left_alone(&sandbox, &own, &id, runtime);
        assert!(snapshot(&root.join(&id)) == before, "its folder was changed");
        assert_eq!(theirs(&["state", &id]).ok().json()["status"], status);
    }
    // From outside, rt proves a limit of anybody.
    let pid = theirs(&["state", &id]).ok().json()["pid"].to_string();
    let args = ["test-memory", "--pid", &pid, "--strategy", "sequential", "--format", "json"];
    let proof = sandbox.rt(args).ok().json();
    assert_eq!((&proof["verdict"], &proof["cgroup"]["limit_bytes"]), (&json!("enforced"), &json!(64 * MIB)));
    // And the other way round.
    let list = theirs(&["list", "-q"]).ok();
    assert!(list.stdout.lines().any(|line| line == id), "{list}");
    assert!(!list.stdout.contains(&own), "{list}");
    let list = theirs(&["list"]).ok();
    assert!(list.stdout.contains("running"), "{list}");
    // A receipt and a seccomp filter were kept of one that is gone.
    let mut filtered = sandbox.bundle();
    filtered.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    let gone = sandbox.create(&mut filtered, "gone");
    sandbox.delete(&gone);
    assert!(sandbox.rt(["why", &gone]).ok().stdout.contains("never started"));
    let list = theirs(&["list"]).ok();
    let warned = list.stderr.lines().any(|line| !line.contains(&own));
    assert!(!warned, "of what is no container: {list}");
    theirs(&["state", &own]).run().fails_with("");
    theirs(&["kill", &own, "KILL"]).run().fails_with("");
    theirs(&["delete", "--force", &id]).ok();
    assert!(!root.join(&id).exists());
    assert_eq!(sandbox.status(&own), "running");
    sandbox.exec(&own, "true").succeeds();
    // The name is free again.
    let again = sandbox.create_command(&mut bundle, &id);
    again.ok();
    sandbox.delete(&id);
    sandbox.delete(&own);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn runc_and_rt_share_a_root() {
    shares_a_root("runc");
}

#[test]
fn crun_and_rt_share_a_root() {
    shares_a_root("crun");
}
