//! The order between the parent, the stage and the container's process: each step is delayed in turn, and the kernel is asked
//! where the process is and what limits it has. And what a container sees of rt on the way.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use serde_json::{Value, json};

/// Calls by which the three talk, make each other, end and enter namespaces; `when` counts in each process.
const DELAYS: [&str; 9] = [
    "clone,clone3:delay_exit=40000",
    "sendmsg:delay_enter=40000:when=1",
    "sendmsg:delay_exit=40000:when=1",
    "sendmsg:delay_enter=40000:when=2",
    "recvmsg:delay_exit=40000:when=1",
    "recvmsg:delay_exit=40000:when=2",
    "setns,unshare:delay_exit=15000",
    "exit_group:delay_enter=40000",
    "prctl:delay_exit=40000:when=2",
];

/// Where systemd runs, containers are its units here.
fn systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn prepare(sandbox: &Sandbox, bundle: &mut Bundle, id: &str) -> String {
    if systemd() {
        bundle.set("/linux/cgroupsPath", json!(format!("rttest-launch.slice:rt:{id}")));
    }
    sandbox.prepare(bundle, id)
}

/// The runtime under test with one of its calls delayed in every process, whatever that becomes.
fn delayed(sandbox: &Sandbox, delay: &str, args: &[&str]) -> Run {
    let (calls, _) = delay.split_once(':').expect("calls");
    let trace = format!("trace={calls}");
    let inject = format!("inject={delay}");
    Run::new("strace")
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
        .arg(Sandbox::binary())
        .arg("--root")
        .arg(sandbox.root())
        .args(systemd().then_some("--systemd-cgroup"))
        .args(args)
}

/// A config whose process has limits of every kind that the parent sets, and a hook that says whom it was told of.
fn limited(sandbox: &Sandbox) -> Bundle {
    let mut bundle = sandbox.bundle();
    let limit = json!([{ "type": "RLIMIT_NOFILE", "hard": 100, "soft": 100 }]);
    bundle.set("/process/rlimits", limit).set("/process/oomScoreAdj", json!(300));
    bundle.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    let script = format!("cat > {}", bundle.path.join("told").display());
    let hook =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin", sandbox.mark()] }]);
    bundle.set("/hooks/createRuntime", hook);
    bundle
}

/// The container is in the pid namespace (and others of `kinds`) of the process `of`.
fn joining(bundle: &mut Bundle, of: i64, kinds: &[(&str, &str)]) {
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    for (kind, file) in kinds {
        namespaces.retain(|namespace| namespace["type"] != *kind);
        namespaces.push(json!({ "type": kind, "path": format!("/proc/{of}/ns/{file}") }));
    }
}

fn assert_limited(pid: i64, id: &str, what: &str) {
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a cgroup");
    for controller in ["memory", "pids", "cpu"] {
        let path = Cgroup::of(pid, controller).map(|cgroup| cgroup.path);
        assert!(
            path.is_some_and(|path| path.to_string_lossy().contains(id)),
            "{what}: {controller} in {membership}"
        );
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    assert_eq!(files.split_whitespace().nth(3), Some("100"), "{what}: {files}");
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
    assert_eq!(score, "300\n", "{what}");
}

/// Makes a container of each kind with each delay, and looks at it.
fn every_delay(name: &str, kind: impl Fn(&Sandbox, &mut Bundle)) {
    if !needs_root() || !needs_rt() || !needs_engine("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox);
    kind(&sandbox, &mut bundle);
    for (number, delay) in DELAYS.iter().enumerate() {
        let id = sandbox.id(&format!("{name}{number}"));
        let path = prepare(&sandbox, &mut bundle, &id);
        delayed(&sandbox, delay, &["run", "--detach", "--bundle", &path, &id]).ok();
        let pid = sandbox.pid(&id);
        assert_limited(pid, &id, delay);
        let told: Value =
            serde_json::from_slice(&fs::read(bundle.path.join("told")).expect("a state")).expect("JSON");
        assert_eq!(told["pid"], json!(pid), "{delay}");

        let script = "cat /proc/self/cgroup /proc/self/oom_score_adj; ulimit -n; sleep 1000";
        let file = sandbox.path(&format!("{id}.pid"));
        let file = file.to_str().expect("UTF-8");
        delayed(&sandbox, delay, &["exec", "--detach", "--pid-file", file, &id, "sh", "-c", script]).ok();
        let pid = fs::read_to_string(file).expect("a pid file").parse().expect("a pid");
        assert_limited(pid, &id, delay);
        sandbox.rt(["delete", "--force", &id]).ok();
    }
}

#[test]
fn no_delay_keeps_an_init_without_a_stage_out_of_its_limits() {
    every_delay("plain", |_, _| {});
}

#[test]
fn no_delay_keeps_an_init_in_a_new_user_namespace_out_of_its_limits() {
    every_delay("user", |_, bundle| {
        bundle.with_new_user();
    });
}

#[test]
fn no_delay_keeps_an_init_in_a_joined_pid_namespace_out_of_its_limits() {
    every_delay("pid", |sandbox, bundle| {
        let holder = sandbox.start(&mut sandbox.bundle(), "holder");
        joining(bundle, sandbox.pid(&holder), &[("pid", "pid")]);
    });
}

#[test]
fn no_delay_keeps_an_init_in_joined_pid_and_user_namespaces_out_of_its_limits() {
    every_delay("both", |sandbox, bundle| {
        let mut other = sandbox.bundle();
        other.with_new_user();
        let holder = sandbox.start(&mut other, "holder");
        bundle.with_new_user();
        bundle.unset("/linux/uidMappings").unset("/linux/gidMappings");
        joining(bundle, sandbox.pid(&holder), &[("pid", "pid"), ("user", "user")]);
    });
}

#[test]
fn no_delay_keeps_an_init_in_a_new_time_namespace_out_of_its_limits() {
    if !Path::new("/proc/self/ns/time").exists() {
        skip("time namespaces");
        return;
    }
    every_delay("time", |_, bundle| {
        bundle.set("/linux/namespaces/-", json!({ "type": "time" }));
        bundle.set("/linux/timeOffsets", json!({ "boottime": { "secs": 1000, "nanosecs": 0 } }));
    });
}

const SECRET: &str = "SECRET_OF_THE_CALLER=1";

/// Looks, for as long as it lives, at every process of rt that it sees: for the host's root, a folder that leads there, and
/// the environment of who called rt. What is found goes to /caught, and that one was there to /seen.
fn watcher(sandbox: &Sandbox) -> String {
    let outside = sandbox.path("bundles");
    format!(
        "exec 2>/dev/null; while :; do for p in /proc/[0-9]*; do \
         case $(cat $p/comm) in rt*) echo seen >>/seen;; *) continue;; esac; \
         ls -d $p/root{0} && echo root >>/caught; ls -d $p/cwd{0} $p/cwd/../../../../../../..{0} && echo cwd >>/caught; \
         tr '\\0' '\\n' <$p/environ | grep {SECRET} && echo environment >>/caught; \
         for f in $p/fd/*; do ls -d $f{0} $f/../../../../../../..{0} && echo folder $(readlink $f) >>/caught; \
         ls -d $f/. && case $(readlink $f) in /) ;; *) echo folder $(readlink $f) >>/caught;; esac; done; \
         done >/dev/null; done",
        outside.display()
    )
}

/// What of rt a process inside is given to see at each step of `act`, which is delayed.
fn watch(watching: &Bundle, act: impl Fn(usize, &str) -> Run) {
    for (number, delay) in DELAYS.iter().chain(&["close,dup2:delay_enter=5000"]).enumerate() {
        act(number, delay).env("SECRET_OF_THE_CALLER", "1").ok();
    }
    let read = |name: &str| fs::read_to_string(watching.rootfs(name)).unwrap_or_default();
    assert!(read("seen").lines().count() > 3, "nothing was seen: the test shows nothing");
    assert_eq!(read("caught"), "");
}

fn may_trace(bundle: &mut Bundle) {
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}/-"), json!("CAP_SYS_PTRACE"));
    }
}

#[test]
fn exec_shows_nothing_of_the_host_to_a_container_that_may_trace() {
    if !needs_root() || !needs_engine("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    may_trace(&mut bundle);
    bundle.shell(&watcher(&sandbox));
    let id = sandbox.start(&mut bundle, "tracer");
    watch(&bundle, |_, delay| delayed(&sandbox, delay, &["exec", &id, "true"]));
}

#[test]
fn init_of_a_new_user_namespace_shows_nothing_to_those_whose_pid_namespace_it_joins() {
    if !needs_root() || !needs_engine("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut other = sandbox.bundle();
    other.shell(&watcher(&sandbox));
    let holder = sandbox.start(&mut other, "holder");
    let mut bundle = sandbox.bundle();
    bundle.args(&["true"]);
    // A proc of a pid namespace is mounted by who owns that.
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["destination"] != "/proc");
    bundle.with_new_user();
    joining(&mut bundle, sandbox.pid(&holder), &[("pid", "pid")]);
    watch(&other, |number, delay| {
        let id = sandbox.id(&format!("joins{number}"));
        let path = prepare(&sandbox, &mut bundle.clone(), &id);
        delayed(&sandbox, delay, &["run", "--bundle", &path, &id])
    });
}

#[test]
fn a_created_init_keeps_the_callers_environment_and_its_pipes_to_itself() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let look = "tr '\\0' '\\n' </proc/1/environ; ls -l /proc/1/fd";
    for (name, user) in [("plain", false), ("user", true)] {
        let mut bundle = sandbox.bundle();
        may_trace(&mut bundle);
        if user {
            bundle.with_new_user();
        }
        let id = sandbox.id(name);
        let create = sandbox.create_command(&mut bundle, &id).env("SECRET_OF_THE_CALLER", "1");
        create.ok();
        let seen = sandbox.rt(["exec", &id, "sh", "-c", look]).run();
        assert!(!seen.stdout.contains(SECRET), "{seen}");
        assert!(!user || !seen.stdout.contains("fifo"), "{seen}");
        sandbox.rt(["start", &id]).ok();
    }
}
