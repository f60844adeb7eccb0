//! What a container may try against the prover: look into its workers, hold it up, choose its own verdict.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::*;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::json;

/// What engines leave a container by default.
const USUAL_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The workers of the prover `pid`, and their children.
fn workers_of(pid: i32) -> Vec<i32> {
    let children = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
    };
    children(pid).into_iter().flat_map(|worker| [vec![worker], children(worker)].concat()).collect()
}

#[test]
fn a_container_with_the_hosts_pids_gets_at_nothing_of_a_worker() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    bundle.set("/linux/namespaces", json!([{ "type": "mount" }, { "type": "ipc" }, { "type": "uts" }]));
    bundle.unset("/hostname");
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}"), json!(USUAL_CAPABILITIES));
    }
    let id = sandbox.start(&mut bundle, "seen");
    let stress = ["stress-memory", &id, "24", "30", "--strategy", "sequential,random,file,shm,fork"];
    let prover = sandbox.rt(stress).spawn();
    wait_until("the workers and children of fork", || workers_of(prover.pid()).len() >= 5 + 4);

    let workers = workers_of(prover.pid());
    let pids = workers.iter().map(|pid| pid.to_string() + " ").collect::<String>();
    // Opening mem asks what ptrace asks; the rest asks for less.
    let seen = sandbox.exec(
        &id,
        &format!(
            "for p in {pids}; do test -d /proc/$p || echo $p is not seen
             for f in mem environ maps auxv; do (: < /proc/$p/$f) 2>/dev/null && echo $p $f; done
             for d in root cwd; do ls /proc/$p/$d/ >/dev/null 2>&1 && echo $p $d; done
             readlink /proc/$p/fd/0 && echo $p fd; done; true"
        ),
    );
    assert_eq!(seen.succeeds().text().trim(), "");

    // Whoever gets past that finds nothing of the host.
    for pid in &workers {
        let names = fs::read_dir(format!("/proc/{pid}/root")).expect("a folder").flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).filter(|name| name != "proc").collect();
        assert!(names.is_empty(), "{pid}: {names:?}");
        assert!(!fs::exists(format!("/proc/{pid}/root/proc/sysrq-trigger")).expect("an answer"));
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).expect("a file"), b"");
    }
    prover.signal(nix::sys::signal::Signal::SIGINT);
    prover.wait(Duration::from_secs(10));
    sandbox.delete(&id);
}

/// A file system in /tmp of a container whose server takes every request and answers none: what the kernel asks of it ends
/// by no signal.
struct Silent {
    ended: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Silent {
    fn mount(init: i64) -> Self {
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        let options = format!("fd={},rootmode=40777,user_id=0,group_id=0", device.as_raw_fd());
        let mounted = std::thread::spawn(move || {
            // A thread that shares its folders with others may join no mount namespace.
            unshare(CloneFlags::CLONE_FS).expect("an own root");
            let namespace = File::open(format!("/proc/{init}/ns/mnt")).expect("a namespace");
            setns(namespace, CloneFlags::CLONE_NEWNS).expect("the container's mounts");
            mount(Some("silent"), "/tmp", Some("fuse"), MsFlags::empty(), Some(options.as_str()))
                .expect("a mount");
        });
        mounted.join().expect("a mounted file system");
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let server = std::thread::spawn(move || serve(device, &until));
        Self { ended, server: Some(server) }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let _ = self.server.take().map(JoinHandle::join);
    }
}

/// Answers FUSE_INIT alone; what still waits fails when the device is closed.
fn serve(mut device: File, until: &AtomicBool) {
    const FUSE_INIT: u32 = 26;
    while !until.load(Ordering::Acquire) {
        let ready = poll(&mut [PollFd::new(device.as_fd(), PollFlags::POLLIN)], PollTimeout::from(20u8));
        let mut request = vec![0; 1 << 16];
        if ready != Ok(1) || device.read(&mut request).is_err() {
            continue;
        }
        if request[4..8] == FUSE_INIT.to_ne_bytes() {
            // fuse_out_header, then fuse_init_out of version 7.23: its rest is zero.
            let mut answer = [0; 16 + 64];
            answer[..4].copy_from_slice(&80u32.to_ne_bytes());
            answer[8..16].copy_from_slice(&request[8..16]);
            answer[16..20].copy_from_slice(&7u32.to_ne_bytes());
            answer[20..24].copy_from_slice(&23u32.to_ne_bytes());
            answer[36..40].copy_from_slice(&4096u32.to_ne_bytes());
            device.write_all(&answer).expect("the first answer");
        }
    }
}

#[test]
fn a_folder_that_never_answers_holds_up_no_proof() {
    if !needs_root() {
        return;
    }
    if !fs::exists("/dev/fuse").is_ok_and(|there| there) {
        return skip("/dev/fuse");
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    let id = sandbox.start(&mut bundle, "silent");
    let silent = Silent::mount(sandbox.pid(&id));
    let proof = |more: &[&str]| {
        let args = ["test-memory", &id, "8", "--strategy", "file", "--timeout", "3s", "--format", "json"];
        sandbox.rt(args.iter().chain(more)).time_limit(Duration::from_secs(10)).run()
    };
    let other = proof(&[]).succeeds().json();
    assert_eq!((&other["file_dir"], &other["verdict"]), (&json!("/"), &json!("within-limit")), "{other}");
    let refused = proof(&["--file-dir", "/tmp"]).json();
    assert_eq!(refused["reason"], "no-folder", "{refused}");
    assert!(refused["sentence"].to_string().contains("no answer within"), "{refused}");
    drop(silent);
    sandbox.delete(&id);
}

#[test]
fn a_proof_whose_record_is_not_kept_is_made_and_says_so() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    let id = sandbox.start(&mut bundle, "unkept");
    let files = [sandbox.root().join(&id), bundle.path.clone()].map(|folder| folder.join("rt-proofs.jsonl"));
    let proof = |format: &str| {
        let log = sandbox.path("log").display().to_string();
        let args = ["--log", &log, "test-memory", &id, "8", "--strategy", "sequential", "--format", format];
        sandbox.rt(args).time_limit(Duration::from_secs(20)).run().succeeds()
    };
    // Somebody holds the lock for ever.
    let held = files.each_ref().map(|file| {
        let file = File::options().append(true).create(true).open(file).expect("a file");
        Flock::lock(file, FlockArg::LockExclusive).expect("a lock")
    });
    let told = proof("json").json();
    assert_eq!(told["verdict"], "within-limit");
    assert!(told["not_kept"].to_string().contains("holds its lock"), "{told}");
    drop(held);
    // No file can be there.
    for file in &files {
        fs::remove_file(file).expect("a removed file");
        fs::create_dir(file).expect("a folder");
    }
    let told = proof("text").text();
    assert!(told.contains("not recorded: cannot write the record"), "{told}");
    for file in &files {
        fs::remove_dir(file).expect("a removed folder");
    }
    assert_eq!(proof("json").json()["not_kept"], json!(null));
    sandbox.delete(&id);
}

#[test]
fn a_container_does_not_choose_the_limit_that_is_proved() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    let id = sandbox.start(&mut bundle, "chosen");
    let own = sandbox.cgroup(&id, "memory");
    let limit = if own.v2 { "memory.max" } else { "memory.limit_in_bytes" };
    let proof = || {
        let args = ["test-memory", &id, "--strategy", "sequential", "--format", "json"];
        sandbox.rt(args).run().json()
    };
    // What a container that can write to its cgroup does.
    let below = own.path.join("below");
    fs::create_dir(&below).expect("a cgroup");
    fs::write(below.join("cgroup.procs"), sandbox.pid(&id).to_string()).expect("init in it");
    if own.v2 {
        fs::write(own.path.join("cgroup.subtree_control"), "+memory").expect("the controller");
    }
    fs::write(below.join(limit), (20 << 20).to_string()).expect("a limit");
    let kept = proof();
    if own.v2 {
        assert_eq!(kept["reason"], "limited-below", "no worker can be in its own: {kept}");
    } else {
        assert_eq!(kept["verdict"], "enforced", "{kept}");
        assert!(kept["touched_bytes"].as_u64().is_some_and(|bytes| bytes > 60 << 20), "its own: {kept}");
    }
    fs::write(own.path.join(limit), if own.v2 { "max" } else { "-1" }).expect("no limit");
    let lifted = proof();
    assert_eq!(lifted["verdict"], "not-enforced", "{lifted}");
    assert_eq!(lifted["reason"], "limit-not-applied", "{lifted}");
    sandbox.delete(&id);
}

#[test]
fn v1s_word_for_no_limit_asks_for_none() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 9_223_372_036_854_771_712_i64 }));
    let id = sandbox.start(&mut bundle, "none");
    let proof = sandbox.rt(["test-memory", &id, "--strategy", "sequential", "--format", "json"]).run().json();
    assert_eq!(proof["reason"], "unlimited", "{proof}");
    sandbox.delete(&id);
}

#[test]
fn a_container_that_hardly_gets_a_processor_holds_up_nobody() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    bundle.set("/linux/resources/cpu", json!({ "quota": 1000, "period": 1_000_000 }));
    bundle.shell("while :; do :; done");
    let id = sandbox.start(&mut bundle, "throttled");
    // What is executed is throttled on its way, with whatever it holds then.
    let mut executed: Vec<_> = (0..3).map(|_| sandbox.rt(["exec", &id, "sleep", "1000"]).spawn()).collect();
    let bounded = |args: &[&str]| sandbox.rt(args).time_limit(Duration::from_secs(30)).run();
    let proof = ["test-memory", "--strategy", "sequential", "--timeout", "3s", "--format", "json"];
    let verdict = |id: &str| bounded(&[proof.as_slice(), &[id]].concat()).json()["verdict"].clone();
    // On v2 the workers are throttled too, and come to nothing in time.
    assert!(verdict(&id).is_string());
    // The table of `ps` is that of ps(1), which finds no boot time in some kernels.
    let ps = ["ps", "--format", "json"].as_slice();
    for command in [["state"].as_slice(), ps, &["events", "--stats"], &["update", "--pids-limit", "99"]] {
        bounded(&[command, &[id.as_str()]].concat()).succeeds();
    }
    bundle.unset("/linux/resources/cpu");
    let other = sandbox.start(&mut bundle, "other");
    bounded(&["exec", &other, "true"]).succeeds();
    assert_eq!(verdict(&other), json!("enforced"));
    bounded(&["delete", "--force", &other]).succeeds();
    bounded(&["delete", "--force", &id]).succeeds();
    wait_until("the end of what was executed", || !executed.iter_mut().any(Running::is_running));
    sandbox.assert_nothing_left(&id);
}
