//! The state folder under faults: what cannot be looked at is not gone, and a name can always be freed.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::*;
use nix::sys::signal::Signal;
use serde_json::json;

fn ready() -> bool {
    needs_root() && needs_rt() && needs_engine("strace")
}

/// `rt ARGS`, in which strace injects this (strace(1), "Tampering") at calls that concern `path`.
fn injected(sandbox: &Sandbox, path: &Path, fault: &str, args: &[&str]) -> Run {
    let root = sandbox.root();
    let (key, value) = sandbox.mark().split_once('=').expect("a mark");
    let fault = format!("inject={fault}");
    Run::new("strace")
        .args(["-o", "/dev/null", "-e", &fault, "-P"])
        .arg(path)
        .arg(Sandbox::binary())
        .arg("--root")
        .arg(root)
        .args(args)
        .env(key, value)
        .cwd(sandbox.path(""))
}

fn folder(sandbox: &Sandbox, id: &str) -> PathBuf {
    sandbox.root().join(id)
}

/// The host's process that `state` said the container had.
fn is_alive(pid: i64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The name can be used again.
#[track_caller]
fn is_free(sandbox: &Sandbox, id: &str) {
    sandbox.assert_nothing_left(id);
    sandbox.create_command(&mut sandbox.bundle(), id).ok();
    sandbox.delete(id);
    sandbox.assert_nothing_left(id);
}

#[test]
fn a_process_that_cannot_be_looked_at_is_neither_gone_nor_ended() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "unseen");
    let pid = sandbox.pid(&id);
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    // ENOENT is what hidepid says of the processes of others.
    for errno in ["EMFILE", "ENOENT", "EACCES"] {
        let fault = format!("openat:error={errno}");
        for args in [
            &["state", &id] as &[&str],
            &["why", &id],
            &["kill", &id, "0"],
            &["kill", &id, "KILL"],
            &["delete", &id],
            &["delete", "--force", &id],
            &["update", "--pids-limit", "100", &id],
        ] {
            let refused = injected(&sandbox, &stat, &fault, args).run();
            let refused = refused.fails_with(&format!("cannot tell whether process {pid} is alive"));
            assert!(!refused.text().contains("stopped"), "{errno}: {refused}");
            assert!(is_alive(pid), "{errno}: {refused}");
        }
        let list = injected(&sandbox, &stat, &fault, &["list"]).run();
        assert!(list.stdout.contains("unknown") && list.stderr.contains("cannot tell"), "{list}");
    }
    assert_eq!(sandbox.status(&id), "running");
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_command_that_lacks_descriptors_ends_and_removes_nothing() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "few");
    let pid = sandbox.pid(&id);
    let root = sandbox.root();
    for limit in 3..8 {
        for args in [&["kill", &id, "0"] as &[&str], &["state", &id], &["delete", &id]] {
            let few = Run::new("prlimit").arg(format!("--nofile={limit}:{limit}")).arg(Sandbox::binary());
            let outcome = few.arg("--root").arg(&root).args(args).run();
            let words = outcome.text();
            assert!(!words.contains("not running") && !words.contains("\"stopped\""), "{limit}: {outcome}");
            assert!(outcome.code == 0 || !words.is_empty(), "{limit}: {outcome}");
            assert!(is_alive(pid) && folder(&sandbox, &id).exists(), "{limit}: {outcome}");
        }
    }
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_failing_look_at_the_folder_is_no_success_of_a_forced_deletion() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "statx");
    let pid = sandbox.pid(&id);
    let dir = folder(&sandbox, &id);
    for call in ["statx", "newfstatat", "openat", "flock"] {
        for errno in ["EIO", "ENOMEM"] {
            let fault = format!("{call}:error={errno}:when=1");
            let outcome = injected(&sandbox, &dir, &fault, &["delete", "--force", &id]).run();
            let gone = !is_alive(pid) && !dir.exists();
            assert!(gone == (outcome.code == 0), "{fault}: {outcome}");
            assert!(!gone || call == "newfstatat", "the call was not made: {fault}");
            if gone {
                return;
            }
        }
    }
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn poststop_hooks_are_never_left_out_without_a_word() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    for (number, damage) in ["gone", "cut", "other"].into_iter().enumerate() {
        let mut bundle = sandbox.bundle();
        bundle.set("/hooks/poststop/-", json!({ "path": "/bin/true" }));
        let id = sandbox.start(&mut bundle, &format!("hooks{number}"));
        sandbox.rt(["kill", &id, "KILL"]).ok();
        sandbox.wait_for_status(&id, "stopped");
        let config = folder(&sandbox, &id).join("config.json");
        let text = fs::read_to_string(&config).expect("the saved config");
        match damage {
            "gone" => fs::remove_file(&config),
            "cut" => fs::write(&config, &text[..text.len() / 2]),
            _ => fs::write(&config, text.replace("/bin/true", "/bin/tree")),
        }
        .expect("the damage");
        // A read that fails may succeed another time.
        injected(&sandbox, &config, "openat:error=EIO", &["delete", "--force", &id])
            .run()
            .fails_with("config.json");
        let refused = sandbox.rt(["delete", &id]).run().fails_with("config.json");
        assert!(folder(&sandbox, &id).exists(), "{refused}");
        let forced = sandbox.rt(["delete", "--force", &id]).ok();
        assert!(forced.stderr.contains(&format!("poststop hooks of container {id} are not run")), "{forced}");
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_writer_that_comes_late_does_not_keep_the_folder_of_a_deleted_container() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    for call in ["openat", "unlink", "unlinkat", "rmdir", "getdents64"] {
        let id = sandbox.start(&mut sandbox.bundle(), &format!("late-{call}"));
        let dir = folder(&sandbox, &id);
        let late = [dir.join("rt-proofs.jsonl"), dir.join(".rt-signal.json.1")];
        // What is in the folder is reached by paths and by the folder's descriptor: all of those calls wait.
        let fault = format!("inject={call}:delay_enter=20000");
        let (key, value) = sandbox.mark().split_once('=').expect("a mark");
        let delete = Run::new("strace").args(["-o", "/dev/null", "-e", &fault]).arg(Sandbox::binary());
        let delete = delete.arg("--root").arg(sandbox.root()).args(["delete", "--force", &id]);
        let mut delete = delete.env(key, value).spawn();
        let record = dir.join("rt-state.json");
        wait_until("the record's end", || !record.exists() || !delete.is_running());
        // These began before.
        let written = late.iter().filter(|file| fs::write(file, "{}\n").is_ok()).count();
        let outcome = delete.wait(PATIENCE).succeeds();
        assert!(!dir.exists(), "{call}: {outcome}");
        assert!(written == late.len() || call != "rmdir", "the folder went too early");
        is_free(&sandbox, &id);
    }
}

#[test]
fn what_a_late_writer_left_is_taken_over_and_deleted() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("scraps");
    let dir = folder(&sandbox, &id);
    let leave = || {
        fs::create_dir_all(dir.join("bundle")).expect("a folder");
        for file in [
            "rt-proofs.jsonl",
            "rt-proofs.jsonl.new",
            "rt-signal.json",
            ".rt-state.json.7",
            ".rt-signal.json.7",
        ] {
            fs::write(dir.join(file), "{}\n").expect("a file");
        }
    };
    leave();
    sandbox.rt(["state", &id]).run().fails_with("container does not exist");
    sandbox.rt(["delete", &id]).run().fails_with("container does not exist");
    sandbox.delete(&id);
    assert!(!dir.exists());
    leave();
    sandbox.create_command(&mut sandbox.bundle(), &id).ok();
    assert!(!dir.join("rt-proofs.jsonl").exists(), "it is another container's");
    sandbox.delete(&id);
    // Where something is not rt's, a forced deletion does not claim to have removed it.
    leave();
    fs::write(dir.join("notes"), "mine").expect("a file");
    sandbox.rt(["delete", "--force", &id]).run().fails_with("'notes' may be somebody else's");
    assert!(dir.join("notes").exists());
    fs::remove_file(dir.join("notes")).expect("the file");
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_proof_that_ends_after_its_container_writes_into_no_other_ones_folder() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory/limit", json!(48 << 20));
    let id = sandbox.start(&mut bundle, "proof");
    let dir = folder(&sandbox, &id);
    let journal = dir.join("rt-proofs.jsonl");
    // The first record is written as the proof begins, the last waits until the container is gone and another is there.
    let log = sandbox.path("calls");
    let held = |fd: u32| format!("/proc/self/fd/{fd}/rt-proofs.jsonl");
    let (key, value) = sandbox.mark().split_once('=').expect("a mark");
    let mut proof = Run::new("strace")
        .arg("-o")
        .arg(&log)
        .args(["-e", "inject=openat:delay_enter=2500000:when=2+"])
        .args((3..32).flat_map(|fd| ["-P".to_owned(), held(fd)]))
        .arg(Sandbox::binary())
        .arg("--root")
        .arg(sandbox.root())
        .args(["test-memory", "--strategy", "sequential", &id])
        .env(key, value)
        .cwd(sandbox.path(""))
        .spawn();
    let calls = || fs::read_to_string(&log).unwrap_or_default().matches("openat(").count();
    wait_until("the last record", || calls() == 2 || !proof.is_running());
    assert!(proof.is_running(), "{}", proof.text());
    sandbox.delete(&id);
    assert!(!dir.exists());
    sandbox.create_command(&mut bundle, &id).ok();
    assert!(proof.is_running(), "the proof ended before its record was late: {}", proof.text());
    proof.wait(PATIENCE);
    assert!(!journal.exists(), "the proof was another container's");
    sandbox.delete(&id);
    is_free(&sandbox, &id);
}

#[test]
fn a_container_whose_record_is_lost_or_cut_is_ended_by_its_name() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    for (number, (started, keep)) in
        [(true, None), (false, None), (true, Some(0)), (true, Some(40)), (false, Some(95))]
            .into_iter()
            .enumerate()
    {
        let mut bundle = sandbox.bundle();
        let name = format!("lost{number}");
        let id = if started { sandbox.start(&mut bundle, &name) } else { sandbox.create(&mut bundle, &name) };
        let pid = sandbox.pid(&id);
        let record = folder(&sandbox, &id).join("rt-state.json");
        match keep {
            None => fs::remove_file(&record).expect("the record"),
            Some(percent) => {
                let text = fs::read(&record).expect("the record");
                fs::write(&record, &text[..text.len() * percent / 100]).expect("a part of it");
            }
        }
        sandbox.create_command(&mut bundle, &id).run().fails_with("already exists");
        sandbox.rt(["delete", &id]).run().fails_with("");
        assert!(is_alive(pid), "{started} {keep:?}");
        let forced = sandbox.rt(["delete", "--force", &id]).ok();
        assert!(!is_alive(pid), "{started} {keep:?}: {forced}");
        is_free(&sandbox, &id);
    }
}

#[test]
fn a_cgroup_without_the_containers_name_is_not_killed_by_name() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let other = sandbox.id("other");
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/cgroupsPath", json!(format!("/of-{other}/shared")));
    let id = sandbox.start(&mut bundle, "unnamed");
    let pid = sandbox.pid(&id);
    fs::remove_file(folder(&sandbox, &id).join("rt-state.json")).expect("the record");
    let forced = sandbox.rt(["delete", "--force", &id]).run().fails_with("does not have its name");
    assert!(is_alive(pid) && !folder(&sandbox, &id).exists(), "{forced}");
    is_free_of_state(&sandbox, &id);
}

fn is_free_of_state(sandbox: &Sandbox, id: &str) {
    sandbox.rt(["delete", "--force", id]).ok();
    assert!(!folder(sandbox, id).exists());
}

#[test]
fn exec_refuses_where_what_protects_is_missing_or_changed() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]
    });
    bundle.set("/linux/seccomp", profile);
    let id = sandbox.start(&mut bundle, "protected");
    let works = || {
        let made = sandbox.exec(&id, "mkdir /tmp/x");
        assert!(made.code == 1 && made.text().contains("not permitted"), "{made}");
    };
    works();
    for name in ["seccomp", "config.json"] {
        let path = folder(&sandbox, &id).join(name);
        let content = fs::read(&path).expect("what was saved");
        for damage in ["gone", "cut", "changed", "a link to nothing"] {
            fs::remove_file(&path).expect("the file");
            match damage {
                "gone" => {}
                "cut" => fs::write(&path, &content[..content.len() - 8]).expect("less"),
                "changed" => {
                    let mut changed = content.clone();
                    let middle = changed.len() / 2;
                    changed[middle] ^= 1;
                    fs::write(&path, changed).expect("other content");
                }
                _ => symlink("/nonexistent", &path).expect("a link"),
            }
            let refused = sandbox.exec(&id, "mkdir /tmp/x");
            assert!(
                refused.code != 0 && !refused.text().contains("not permitted"),
                "{name} {damage}: {refused}"
            );
            assert!(refused.text().contains(name), "{name} {damage}: {refused}");
            let _ = fs::remove_file(&path);
            fs::write(&path, &content).expect("what was saved");
        }
        works();
    }
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

/// Freezes, and says whether there is such a freezer: only that of cgroup v1 keeps what was killed.
fn freeze_v1(folder: &Path, pid: Option<i64>) -> bool {
    let state = folder.join("freezer.state");
    if fs::create_dir_all(folder).is_err() || !state.exists() {
        return false;
    }
    if let Some(pid) = pid {
        fs::write(folder.join("cgroup.procs"), pid.to_string()).expect("a process that moves");
    }
    fs::write(&state, "FROZEN").expect("a frozen cgroup");
    wait_until("frozen", || fs::read_to_string(&state).is_ok_and(|state| state == "FROZEN\n"));
    true
}

#[test]
fn what_is_paused_in_a_container_or_around_it_does_not_keep_it_from_its_end() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    for (number, (frozen, command)) in [
        ("inside", "delete"),
        ("inside", "kill"),
        ("itself", "delete"),
        ("itself", "kill"),
        ("above", "delete"),
        ("above", "kill"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = sandbox.id(&format!("frozen{number}"));
        let mut bundle = sandbox.bundle();
        bundle.shell("sleep 1000 & exec sleep 1000");
        let path = sandbox.prepare(&mut bundle, &id);
        bundle.set("/linux/cgroupsPath", json!(format!("/{id}-above/{id}")));
        bundle.save();
        sandbox.rt(["run", "--detach", "--bundle", &path, &id]).ok();
        let cgroup = sandbox.cgroup(&id, "freezer");
        let pid = sandbox.pid(&id);
        let child = || {
            let pids = sandbox.rt(["ps", "--format", "json", &id]).ok().json();
            pids.as_array().into_iter().flatten().filter_map(|pid| pid.as_i64()).find(|other| *other != pid)
        };
        wait_until("the child", || child().is_some());
        let is_v1 = match frozen {
            "inside" => freeze_v1(&cgroup.path.join("inner"), child()),
            "itself" => freeze_v1(&cgroup.path, None),
            _ => freeze_v1(cgroup.path.parent().expect("a parent"), None),
        };
        if is_v1 && command == "kill" {
            sandbox.rt(["kill", &id, "KILL"]).ok();
            wait_until("its end", || !is_alive(pid));
        }
        let deletion = sandbox.rt(["delete", "--force", &id]).ok();
        assert!(deletion.took < Duration::from_secs(5), "{frozen} {command}: {deletion}");
        if frozen == "above" && is_v1 {
            let above = cgroup.path.parent().expect("a parent").join("freezer.state");
            assert_eq!(
                fs::read_to_string(above).expect("the freezer above"),
                "FROZEN\n",
                "it is not rt's to thaw"
            );
        }
        assert!(!cgroup.path.exists(), "{frozen} {command}");
    }
}

#[test]
fn what_was_on_its_way_into_a_container_that_ended_does_not_keep_its_name() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for command in [["delete"].as_slice(), &["delete", "--force"]] {
        let id = sandbox.start(&mut sandbox.bundle(), "left");
        let pid = sandbox.pid(&id);
        let cgroups = ["memory", "freezer", "pids"].map(|controller| sandbox.cgroup(&id, controller).path);
        sandbox.rt(["kill", &id, "KILL"]).ok();
        sandbox.wait_for_status(&id, "stopped");
        assert!(!is_alive(pid));
        // An exec is in the cgroups before it is in the pid namespace.
        let mut left = Run::new("sleep").arg("1000").spawn();
        for cgroup in &cgroups {
            fs::write(cgroup.join("cgroup.procs"), left.pid().to_string()).expect("a process that moves");
        }
        if !freeze_v1(&cgroups[1], None) {
            fs::write(cgroups[1].join("cgroup.freeze"), "1").expect("a frozen cgroup");
        }
        let deletion = sandbox.rt(command).arg(&id).run();
        let _ = fs::write(cgroups[1].join("freezer.state"), "THAWED");
        deletion.succeeds();
        wait_until("its end", || !left.is_running());
        is_free(&sandbox, &id);
    }
}

#[test]
fn a_create_that_lacks_descriptors_says_so_and_leaves_no_folder() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("fewer");
    let mut bundle = sandbox.bundle();
    let path = sandbox.prepare(&mut bundle, &id);
    let root = sandbox.root();
    fs::create_dir_all(&root).expect("the root");
    for limit in 3..=12 {
        let few = Run::new("prlimit").arg(format!("--nofile={limit}:{limit}")).arg(Sandbox::binary());
        let outcome = few.arg("--root").arg(&root).args(["create", "--bundle", &path, &id]).run();
        if outcome.code == 0 {
            sandbox.delete(&id);
            continue;
        }
        assert!(!outcome.text().contains("already exists"), "{limit}: {outcome}");
        assert!(!folder(&sandbox, &id).exists(), "{limit}: {outcome}");
    }
    for call in ["openat", "flock"] {
        let fault = format!("{call}:error=EMFILE:when=1");
        let dir = folder(&sandbox, &id);
        let outcome = injected(&sandbox, &dir, &fault, &["create", "--bundle", &path, &id]).run();
        outcome.fails_with("too many open files");
        assert!(!dir.exists(), "{call}");
    }
    is_free(&sandbox, &id);
}

#[test]
fn a_create_that_was_killed_at_its_end_is_not_creating_for_ever() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("killed");
    let path = sandbox.prepare(&mut sandbox.bundle(), &id);
    // The record is written when the folder is made, when init is known, and at the end.
    let (key, value) = sandbox.mark().split_once('=').expect("a mark");
    let create = Run::new("strace").args(["-o", "/dev/null", "-e", "inject=rename:signal=SIGKILL:when=3"]);
    let create = create.arg(Sandbox::binary()).arg("--root").arg(sandbox.root());
    let killed = create.args(["create", "--bundle", &path, &id]).env(key, value).run();
    assert_eq!(killed.code, 128 + Signal::SIGKILL as i32, "{killed}");
    sandbox.wait_for_status(&id, "created");
    let pid = sandbox.pid(&id);
    assert!(is_alive(pid));
    assert!(sandbox.rt(["list"]).ok().stdout.contains("created"));
    sandbox.rt(["start", &id]).run().fails_with("cannot start a container whose create did not end");
    sandbox.delete(&id);
    assert!(!is_alive(pid));
    is_free(&sandbox, &id);
}
