//! Checkpoint and restore by the machine's criu: what runs goes on where it was, under the same limits.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::*;
use serde_json::json;

const MIB: i64 = 1 << 20;

/// A container that counts in a file, and where it is saved.
struct Counter {
    sandbox: Sandbox,
    bundle: Bundle,
    id: String,
}

impl Counter {
    fn new(name: &str) -> Self {
        let sandbox = Sandbox::new();
        let mut bundle = sandbox.bundle();
        let id = sandbox.id(name);
        bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
        bundle.set("/linux/resources/pids", json!({ "limit": 77 }));
        // Its own descriptors: a test's output files are none of the container's.
        bundle.shell("exec </dev/null >/dev/null 2>&1; i=0; while :; do i=$((i + 1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; sleep 0.2; done");
        Self { sandbox, bundle, id }
    }

    fn start(&mut self) {
        self.sandbox.create_command(&mut self.bundle, &self.id).ok();
        self.sandbox.rt(["start", &self.id]).ok();
        self.goes_on();
    }

    fn count(&self) -> u64 {
        let text = fs::read_to_string(self.bundle.rootfs("tmp/count")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    #[track_caller]
    fn goes_on(&self) -> u64 {
        let before = self.count();
        wait_until("it counts", || self.count() > before + 1);
        self.count()
    }

    fn images(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    fn checkpoint(&self, images: &str, more: &[&str]) -> Run {
        self.sandbox.rt(["checkpoint", "--image-path"]).arg(self.images(images)).args(more).arg(&self.id)
    }

    fn restore(&self, images: &str, more: &[&str]) -> Run {
        let restore = self.sandbox.rt(["restore", "--image-path"]).arg(self.images(images));
        restore.arg("--bundle").arg(&self.bundle.path).args(more).arg(&self.id)
    }

    #[track_caller]
    fn has_its_limits(&self) {
        assert_eq!(self.sandbox.cgroup(&self.id, "memory").memory_limit(), (64 * MIB).to_string());
        assert_eq!(self.sandbox.cgroup(&self.id, "pids").read("pids.max", "pids.max"), "77");
    }
}

#[test]
fn a_container_goes_on_where_it_was_with_its_limits() {
    if !needs_root() || !needs_rt() || !needs_criu() {
        return;
    }
    let mut counter = Counter::new("again");
    for kind in ["bounding", "effective", "permitted"] {
        counter.bundle.set(&format!("/process/capabilities/{kind}/-"), json!("CAP_MKNOD"));
    }
    counter.start();
    let Counter { sandbox, id, .. } = &counter;
    sandbox.exec(id, "mknod /tmp/kmsg c 1 11").succeeds();
    counter.checkpoint("images", &[]).ok();
    sandbox.rt(["state", id]).run().fails_with("container does not exist");
    sandbox.assert_nothing_left(id);
    let saved = counter.count();
    let pid_file = sandbox.path("pid");
    counter.restore("images", &["--detach", "--pid-file", &pid_file.to_string_lossy()]).ok();
    assert_eq!(sandbox.status(id), "running");
    let pid = sandbox.pid(id).to_string();
    assert_eq!(fs::read_to_string(pid_file).expect("a pid file"), pid);
    // From where it was, not from the beginning.
    assert!(counter.goes_on() > saved);
    counter.has_its_limits();
    sandbox.exec(id, "exec 3>/tmp/kmsg").fails_with("Operation not permitted");
    sandbox.exec(id, "test $(cat /proc/1/comm) = sh && exec 3<>/dev/null").succeeds();
    sandbox.rt(["pause", id]).ok();
    assert_eq!(sandbox.status(id), "paused");
    sandbox.rt(["resume", id]).ok();
    // Where criu can dump in our guests, everything is slow.
    let args = ["test-memory", id, "--strategy", "sequential", "--timeout", "100s", "--format", "json"];
    let proof = sandbox.rt(args).ok().json();
    assert_eq!(
        (&proof["verdict"], &proof["cgroup"]["limit_bytes"]),
        (&json!("enforced"), &json!(64 * MIB)),
        "{proof}"
    );
    counter.goes_on();
    sandbox.rt(["kill", id, "KILL"]).ok();
    sandbox.wait_for_status(id, "stopped");
    sandbox.rt(["delete", id]).ok();
    sandbox.assert_nothing_left(id);
}

#[test]
fn one_that_is_left_running_runs_on_and_can_be_brought_back_later() {
    if !needs_root() || !needs_rt() || !needs_criu() {
        return;
    }
    let mut counter = Counter::new("left");
    counter.start();
    let Counter { sandbox, id, .. } = &counter;
    let pid = sandbox.pid(id);
    counter.checkpoint("images", &["--leave-running"]).ok();
    assert_eq!((sandbox.status(id), sandbox.pid(id)), ("running".into(), pid));
    counter.goes_on();
    counter.has_its_limits();
    // Its name is taken as long as it is there.
    let taken = counter.restore("images", &["--detach"]).run();
    taken.fails_with("container with given ID already exists");
    counter.goes_on();
    sandbox.delete(id);
    let last = counter.count();
    counter.restore("images", &["--detach"]).ok();
    wait_until("it counts from what was saved", || counter.count() < last);
    counter.goes_on();
    counter.has_its_limits();
    sandbox.delete(id);
    sandbox.assert_nothing_left(id);
}

#[test]
fn a_dump_that_fails_leaves_the_container_running() {
    if !needs_root() || !needs_rt() || !needs_criu() {
        return;
    }
    let mut counter = Counter::new("undumped");
    // It writes into a file that nobody can open again: the test's own, without a name and of another mount namespace.
    counter
        .bundle
        .shell("i=0; while :; do i=$((i + 1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; sleep 0.2; done");
    counter.sandbox.create_command(&mut counter.bundle, &counter.id).ok();
    let Counter { sandbox, id, .. } = &counter;
    counter.checkpoint("early", &[]).run().fails_with("Container cannot be checkpointed in created state");
    assert!(!counter.images("early").exists());
    sandbox.rt(["start", id]).ok();
    counter.goes_on();
    let pid = sandbox.pid(id);
    let failed = counter.checkpoint("images", &[]).run().fails_with("criu failed: type DUMP");
    assert!(failed.stderr.contains("Error (criu/"), "criu's own words are quoted: {failed}");
    assert_eq!((sandbox.status(id), sandbox.pid(id)), ("running".into(), pid));
    counter.goes_on();
    counter.has_its_limits();
    sandbox.rt(["kill", id, "KILL"]).ok();
    sandbox.wait_for_status(id, "stopped");
    counter.checkpoint("late", &[]).run().fails_with("Container cannot be checkpointed in stopped state");
    sandbox.delete(id);
    sandbox.assert_nothing_left(id);
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    if !needs_root() || !needs_rt() || !needs_criu() {
        return;
    }
    let mut counter = Counter::new("unrestored");
    counter.start();
    counter.checkpoint("images", &[]).ok();
    let last = counter.count();
    counter.restore("nowhere", &["--detach"]).run().fails_with("nowhere");
    counter.sandbox.assert_nothing_left(&counter.id);
    // A limit that is too small for what was saved.
    counter.bundle.set("/linux/resources/memory", json!({ "limit": 256 * 1024 }));
    counter.bundle.save();
    counter.restore("images", &["--detach"]).run().fails_with("criu");
    counter.sandbox.assert_nothing_left(&counter.id);
    // A limit that cannot be.
    counter.bundle.set("/linux/resources/memory", json!({ "limit": 64 * MIB }));
    counter.bundle.set("/linux/resources/unified", json!({ "memory.no-such-file": "1" }));
    counter.bundle.save();
    counter.restore("images", &["--detach"]).run().fails_with("memory.no-such-file");
    counter.sandbox.assert_nothing_left(&counter.id);
    counter.bundle.unset("/linux/resources/unified").save();
    // Images that are cut.
    let core = counter.images("images").join("core-1.img");
    let whole = fs::read(&core).expect("an image");
    fs::write(&core, &whole[..whole.len() / 2]).expect("half an image");
    counter.restore("images", &["--detach"]).run().fails_with("criu failed: type RESTORE");
    counter.sandbox.assert_nothing_left(&counter.id);
    assert_eq!(counter.count(), last);
    fs::write(&core, whole).expect("the image");
    counter.restore("images", &["--detach"]).ok();
    counter.goes_on();
    counter.sandbox.delete(&counter.id);
    counter.sandbox.assert_nothing_left(&counter.id);
}

#[test]
fn a_restore_in_the_foreground_ends_as_the_container_does() {
    if !needs_root() || !needs_rt() || !needs_criu() {
        return;
    }
    let mut counter = Counter::new("foreground");
    counter.bundle.shell(
        "exec </dev/null >/dev/null 2>&1; i=0; until test -e /tmp/go; do i=$((i + 1)); echo $i >/tmp/new; \
         mv /tmp/new /tmp/count; sleep 0.2; done; exit 7",
    );
    counter.start();
    // What changes between a first look and the dump is little: pre-dump, then a dump that builds on it.
    counter.checkpoint("before", &["--pre-dump"]).ok();
    counter.goes_on();
    counter.checkpoint("images", &["--parent-path", "../before"]).ok();
    let Counter { sandbox, id, .. } = &counter;
    let restored = counter.restore("images", &[]).spawn();
    wait_until("it runs", || sandbox.rt(["state", id]).run().stdout.contains("\"running\""));
    counter.goes_on();
    counter.has_its_limits();
    fs::write(counter.bundle.rootfs("tmp/go"), "").expect("a file");
    assert_eq!(restored.wait(PATIENCE).code, 7);
    sandbox.assert_nothing_left(id);
}

#[test]
fn output_to_a_pipe_goes_to_the_pipe_of_the_restore() {
    if !needs_root() || !needs_rt() || !needs_criu() {
        return;
    }
    let mut counter = Counter::new("pipe");
    counter.bundle.shell("exec </dev/null; i=0; while :; do i=$((i + 1)); echo $i; sleep 0.2; done");
    let path = counter.sandbox.prepare(&mut counter.bundle, &counter.id);
    let Counter { sandbox, id, .. } = &counter;
    let piped = |command: &str, out: &str| {
        let script = format!("\"$0\" --root \"$1\" {command} 2>&1 | cat >\"$2\"");
        let shell = Run::new("sh").args(["-c", &script]).arg(Sandbox::binary()).arg(sandbox.root());
        shell.arg(sandbox.path(out)).spawn()
    };
    let lines = |out: &str| {
        let text = fs::read_to_string(sandbox.path(out)).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap_or(0)).collect::<Vec<u64>>()
    };
    let first = piped(&format!("run --detach --bundle '{path}' {id}"), "first");
    wait_until("output", || lines("first").len() > 2);
    counter.checkpoint("images", &[]).ok();
    first.wait(PATIENCE).succeeds();
    let images = counter.images("images");
    let second = piped(
        &format!("restore --detach --bundle '{path}' --image-path '{}' {id}", images.display()),
        "second",
    );
    wait_until("output again", || lines("second").len() > 2);
    sandbox.delete(id);
    second.wait(PATIENCE).succeeds();
    let (first, second) = (lines("first"), lines("second"));
    assert_eq!(second[0], first.last().expect("a line") + 1, "{first:?} {second:?}");
    sandbox.assert_nothing_left(id);
}

#[test]
fn a_scope_of_systemd_is_restored_with_its_properties() {
    if !needs_root() || !needs_rt() || !needs_criu() {
        return;
    }
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        return skip("systemd");
    }
    let mut counter = Counter::new("scope");
    counter.bundle.set("/linux/cgroupsPath", json!(format!("rttest-units.slice:rt:{}", counter.id)));
    counter.bundle.save();
    let Counter { sandbox, id, .. } = &counter;
    let unit = format!("rt-{id}.scope");
    let show = |name: &str| {
        let shown = Run::new("systemctl").args(["show", "--value", "--property", name, &unit]).ok();
        shown.stdout.trim().to_owned()
    };
    let bundle = counter.bundle.path.to_string_lossy().into_owned();
    sandbox.rt(["--systemd-cgroup", "run", "--detach", "--bundle", &bundle, id]).ok();
    counter.goes_on();
    counter.checkpoint("images", &[]).ok();
    assert_eq!(show("LoadState"), "not-found");
    sandbox.assert_nothing_left(id);
    let images = counter.images("images").to_string_lossy().into_owned();
    let args = ["--systemd-cgroup", "restore", "--detach", "--bundle", &bundle, "--image-path", &images, id];
    sandbox.rt(args).ok();
    counter.goes_on();
    counter.has_its_limits();
    assert_eq!((show("ActiveState"), show("Slice")), ("active".into(), "rttest-units.slice".into()));
    assert_eq!((show("MemoryMax"), show("TasksMax")), ((64 * MIB).to_string(), "77".into()));
    assert_eq!(show("DevicePolicy"), "strict");
    let cgroup = sandbox.cgroup(id, "memory").path;
    assert!(cgroup.ends_with(format!("rttest.slice/rttest-units.slice/{unit}")), "{cgroup:?}");
    sandbox.delete(id);
    assert_eq!(show("LoadState"), "not-found");
    sandbox.assert_nothing_left(id);
}

#[test]
fn images_of_rt_are_restored_by_runc_and_those_of_runc_by_rt() {
    if !needs_root() || !needs_rt() || !needs_criu() || !needs_engine("runc") {
        return;
    }
    let mut counter = Counter::new("both");
    counter.start();
    let Counter { sandbox, id, .. } = &counter;
    let runc = |args: &[&str]| {
        let (key, mark) = sandbox.mark().split_once('=').expect("a mark");
        Run::new("runc").arg("--root").arg(sandbox.path("runc")).args(args).env(key, mark)
    };
    counter.checkpoint("ours", &[]).ok();
    sandbox.assert_nothing_left(id);
    let saved = counter.count();
    let (ours, theirs) = (counter.images("ours"), counter.images("theirs"));
    let (ours, theirs) = (ours.to_string_lossy(), theirs.to_string_lossy());
    let bundle = counter.bundle.path.to_string_lossy();
    runc(&["restore", "--detach", "--bundle", &bundle, "--image-path", &ours, id]).ok();
    assert!(counter.goes_on() > saved);
    runc(&["checkpoint", "--image-path", &theirs, id]).ok();
    let saved = counter.count();
    counter.restore("theirs", &["--detach"]).ok();
    assert!(counter.goes_on() > saved);
    counter.has_its_limits();
    sandbox.delete(id);
    sandbox.assert_nothing_left(id);
}

/// What the kernel says of init, and of each `cat` in its pid namespace: how many they are, and their
/// cgroups, limits and scores.
fn inside(init: i64) -> (usize, BTreeSet<[String; 3]>) {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let (init, mut count, mut seen) = (init.to_string(), 0, BTreeSet::new());
    let of_init = namespace(&init).expect("a pid namespace");
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        if namespace(&pid).as_ref() == Some(&of_init) && (pid == init || read("comm") == "cat\n") {
            count += 1;
            seen.insert(["cgroup", "limits", "oom_score_adj"].map(read));
        }
    }
    (count, seen)
}

#[test]
fn every_restored_process_is_in_its_cgroups_with_its_limits() {
    if !needs_criu() {
        return;
    }
    let mut counter = Counter::new("inside");
    let files = json!([{ "type": "RLIMIT_NOFILE", "hard": 100, "soft": 90 }]);
    counter.bundle.set("/process/rlimits", files).set("/process/oomScoreAdj", json!(300));
    counter.bundle.shell(
        // A sleep would end: criu makes the kernel say EINTR.
        "exec </dev/null >/dev/null 2>&1; mkfifo /tmp/f; cat <>/tmp/f & (cat <>/tmp/f & exec cat <>/tmp/f) & i=0; \
         while :; do i=$((i + 1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; sleep 0.2; done",
    );
    counter.start();
    let Counter { sandbox, id, .. } = &counter;
    let at_first = inside(sandbox.pid(id));
    assert_eq!((at_first.0, at_first.1.len()), (4, 1), "{at_first:?}");
    counter.checkpoint("images", &[]).ok();
    counter.restore("images", &["--detach"]).ok();
    counter.goes_on();
    counter.has_its_limits();
    for controller in ["memory", "pids"] {
        let path = sandbox.cgroup(id, controller).path;
        assert!(path.ends_with(id), "{controller}: {path:?}");
    }
    assert_eq!(inside(sandbox.pid(id)), at_first);
    sandbox.delete(id);
    sandbox.assert_nothing_left(id);
}

/// A criu that leaves the cgroup $RT_LEAVE as soon as it is put there, or, asked for its version, never is.
const LEAVES: &str = r#"#!/bin/bash
for _ in {1..30}; do
	grep -q "$RT_LEAVE" /proc/$$/cgroup && break
	sleep 0.1
done
root=/sys/fs/cgroup
[ -e $root/cgroup.procs ] || root=$root/memory
echo $$ >$root/cgroup.procs
exec "$RT_CRIU" "$@"
"#;

#[test]
fn nothing_is_restored_by_a_criu_outside_of_the_cgroup() {
    if !needs_criu() {
        return;
    }
    let mut counter = Counter::new("outside");
    counter.start();
    counter.checkpoint("images", &[]).ok();
    let saved = counter.count();
    let real = Run::new("sh").args(["-c", "command -v criu"]).ok();
    // What criu does not put anywhere stays where criu is.
    let restore = counter.restore("images", &["--detach", "--manage-cgroups-mode", "ignore"]);
    let restore = with_criu(&counter, LEAVES, restore).env("RT_LEAVE", &counter.id);
    let failed =
        restore.env("RT_CRIU", real.stdout.trim()).run().fails_with("is not in the container's cgroup");
    assert!(failed.stderr.contains(&counter.id), "{failed}");
    assert_eq!(counter.count(), saved);
    counter.sandbox.assert_nothing_left(&counter.id);
    counter.restore("images", &["--detach"]).ok();
    assert!(counter.goes_on() > saved);
    counter.sandbox.delete(&counter.id);
    counter.sandbox.assert_nothing_left(&counter.id);
}

/// A criu that answers each question about itself (version 4.1, every feature) and can do nothing else.
const ANSWERS: &str = r"#!/bin/bash
dd bs=64k count=1 status=none <&$2 >/dev/null
env printf '\x08\x0a\x10\x01\x42\x04\x08\x01\x10\x01\x52\x04\x08\x04\x10\x01' >&$2
";

/// A running container whose image leads from a mount's destination to a name that criu would cut.
fn misleading() -> Counter {
    let mut counter = Counter::new("link");
    symlink("/tmp]:/etc", counter.bundle.rootfs("data")).expect("a link");
    let source = counter.sandbox.path("volume");
    fs::create_dir(&source).expect("a folder");
    let mount = json!({ "destination": "/data", "type": "bind", "source": source, "options": ["bind"] });
    counter.bundle.set("/mounts/-", mount);
    counter.start();
    counter
}

/// `run` with that criu alone in its PATH.
fn with_answers(counter: &Counter, run: Run) -> Run {
    with_criu(counter, ANSWERS, run)
}

fn with_criu(counter: &Counter, script: &str, run: Run) -> Run {
    let criu = counter.sandbox.path("criu");
    fs::write(&criu, script).expect("a script");
    fs::set_permissions(&criu, fs::Permissions::from_mode(0o755)).expect("mode 0755");
    let folder = criu.parent().and_then(Path::to_str).expect("a folder");
    run.env("PATH", format!("{folder}:/usr/bin:/bin"))
}

#[test]
fn a_link_of_the_image_makes_no_key_of_another_mount() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let counter = misleading();
    let words = "cannot hand the mount \"/tmp]:/etc\" to criu: there is ']:' in it";
    with_answers(&counter, counter.checkpoint("images", &[])).run().fails_with(words);
    assert_eq!(counter.sandbox.status(&counter.id), "running");
    counter.sandbox.delete(&counter.id);
    fs::create_dir_all(counter.images("images")).expect("a folder");
    with_answers(&counter, counter.restore("images", &["--detach"])).run().fails_with(words);
    counter.sandbox.assert_nothing_left(&counter.id);
}

#[test]
fn the_status_descriptor_is_one_of_the_callers() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let mut counter = Counter::new("status");
    counter.start();
    let log = counter.sandbox.path("log");
    let status = |number: &str| {
        let dump =
            counter.sandbox.rt(["--log"]).arg(&log).args(["checkpoint", "--lazy-pages", "--image-path"]);
        let dump =
            dump.arg(counter.images("images")).args(["--page-server=127.0.0.1:1", "--status-fd", number]);
        with_answers(&counter, dump.arg(&counter.id)).run()
    };
    // Nothing is open when rt starts but these three; the rest are rt's own, the log among them.
    for number in 0..12 {
        status(&number.to_string()).fails_with(&format!("invalid --status-fd argument {number}"));
    }
    assert_eq!(counter.sandbox.status(&counter.id), "running");
}
