//! `rt hook`: proofs as hooks of rt, runc and crun, asked for in config.json, by annotation, and by the node.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::*;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const MIB: i64 = 1 << 20;
/// A limit that slow machines prove in the time of a hook too.
const SMALL: i64 = 16;

/// An OCI runtime with a state folder of its own.
struct Runtime<'a> {
    sandbox: &'a Sandbox,
    name: &'static str,
}

/// crun runs on no hybrid layout: it does without the unified hierarchy, in a mount namespace of its own.
const WITHOUT_CGROUP2: &str = "umount -l /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";

impl<'a> Runtime<'a> {
    /// rt, and those of runc and crun that are installed.
    fn all(sandbox: &'a Sandbox) -> Vec<Self> {
        let foreign = ["runc", "crun"].into_iter().filter(|name| needs_engine(name));
        std::iter::once("rt").chain(foreign).map(|name| Self { sandbox, name }).collect()
    }

    fn command(&self, args: &[&str]) -> Run {
        let root = self.sandbox.path(self.name).display().to_string();
        let run = match self.name {
            "rt" => return self.sandbox.rt(args),
            "crun" => Run::new("unshare").args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                WITHOUT_CGROUP2,
                "sh",
                "crun",
            ]),
            name => Run::new(name),
        };
        let (key, value) = self.sandbox.mark().split_once('=').expect("a mark");
        run.args(["--root", &root]).args(args).env(key, value).cwd(self.sandbox.path(""))
    }

    fn create(&self, bundle: &mut Bundle, id: &str) -> Outcome {
        let path = self.sandbox.prepare(bundle, id);
        self.command(&["create", "--bundle", &path, id]).run()
    }
}

/// A call of `rt hook` for config.json.
fn call(args: &[&str]) -> Value {
    let args: Vec<_> = ["rt", "hook", "test-memory"].iter().chain(args).collect();
    json!({ "path": Sandbox::binary(), "args": args })
}

/// A hook that takes the memory limit of the container out of the kernel: nothing is pretended.
fn saboteur(sandbox: &Sandbox, id: &str) -> Value {
    let script = format!(
        "for d in $(find /sys/fs/cgroup -type d -name {id}); do cd $d; \
         for f in memory.memsw.limit_in_bytes memory.limit_in_bytes; do [ -e $f ] && echo -1 > $f; done; \
         [ -e memory.max ] && echo max > memory.max; done; exit 0"
    );
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin", sandbox.mark()] })
}

fn limited(sandbox: &Sandbox, mib: i64) -> Bundle {
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": mib * MIB, "swap": mib * MIB }));
    bundle
}

/// The final records of a folder.
fn records(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("rt-proofs.jsonl")).unwrap_or_default();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    all.filter(|record| record["verdict"] != "in-progress").collect()
}

#[track_caller]
fn verdict_of(sandbox: &Sandbox, id: &str) -> String {
    sandbox.state(id)["annotations"]["rt.memory.verdict"].as_str().unwrap_or("none").to_owned()
}

/// A file that only this test's administrator can have written.
fn node(sandbox: &Sandbox, text: &str) -> String {
    let path = sandbox.path("node.json");
    fs::write(&path, text).expect("a configuration");
    path.display().to_string()
}

#[test]
fn the_hooked_bundle_is_proved_by_every_runtime() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for runtime in Runtime::all(&sandbox) {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/hooked/config.json");
        let text = fs::read_to_string(config).expect("the config of the repository");
        let path = sandbox.path(&format!("hooked-{}", runtime.name));
        let mut bundle = Bundle::new(&path, sandbox.mark());
        bundle.config = serde_json::from_str(&text).expect("JSON");
        // As bundles/README.md says, with rt where the test has it.
        fs::copy(Sandbox::binary(), bundle.rootfs("rt")).expect("rt as the init");
        bundle
            .set("/hooks/createRuntime/0/path", json!(Sandbox::binary()))
            .set("/process/env/-", json!(sandbox.mark()));
        let id = sandbox.id(runtime.name);
        runtime.create(&mut bundle, &id).succeeds();
        let record = records(&bundle.path).pop().unwrap_or_else(|| panic!("no record: {}", runtime.name));
        assert_eq!(record["verdict"], "enforced", "{}: {record}", runtime.name);
        assert_eq!((&record["trigger"], &record["id"]), (&json!("hook"), &json!(id)));
        assert_eq!(record["asked_limit_bytes"], json!(128 * MIB));
        runtime.command(&["start", &id]).ok();
        let state = runtime.command(&["state", &id]).ok().json();
        assert_eq!(state["status"], "running", "{}", runtime.name);
        runtime.command(&["delete", "--force", &id]).ok();
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_limit_that_does_not_hold_keeps_the_container_from_starting() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for runtime in Runtime::all(&sandbox) {
        for stage in ["prestart", "createRuntime"] {
            let mut bundle = limited(&sandbox, 64);
            let id = sandbox.id(&format!("{}-{stage}", runtime.name));
            let hooks = json!([saboteur(&sandbox, &id), call(&["--policy=enforce"])]);
            bundle.set(&format!("/hooks/{stage}"), hooks);
            // crun hides what hooks print, unless it is told where to put it.
            let printed = sandbox.path(&format!("{id}.stderr"));
            bundle.set("/annotations", json!({ "run.oci.hooks.stderr": printed }));
            let sentence = "does not hold, it must not run: not-enforced (limit-not-applied): \
                            a limit of 64 MiB was asked for, and the kernel has none";
            let outcome = runtime.create(&mut bundle, &id).fails_with("hook");
            let told = outcome.text() + &fs::read_to_string(&printed).unwrap_or_default();
            assert!(told.contains(sentence), "{outcome}");
            assert_eq!(records(&bundle.path)[0]["reason"], "limit-not-applied");
            sandbox.assert_nothing_left(&id);
        }
    }
}

#[test]
fn the_policy_record_lets_it_start() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for runtime in Runtime::all(&sandbox) {
        let mut bundle = limited(&sandbox, SMALL);
        let id = sandbox.id(runtime.name);
        bundle.set("/hooks/prestart", json!([saboteur(&sandbox, &id), call(&[])]));
        runtime.create(&mut bundle, &id).succeeds();
        runtime.command(&["start", &id]).ok();
        assert_eq!(records(&bundle.path)[0]["verdict"], "not-enforced");
        runtime.command(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn a_poststart_hook_proves_a_running_container() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for runtime in Runtime::all(&sandbox) {
        let mut bundle = limited(&sandbox, SMALL);
        bundle.set("/hooks/poststart", json!([call(&["--policy=enforce", "--mb", "80"])]));
        let id = sandbox.id(runtime.name);
        runtime.create(&mut bundle, &id).succeeds();
        runtime.command(&["start", &id]).ok();
        wait_until("a record", || !records(&bundle.path).is_empty());
        let record = records(&bundle.path).remove(0);
        assert_eq!(record["verdict"], "enforced", "{}: {record}", runtime.name);
        assert_eq!(record["target_bytes"], json!(80 * MIB));
        assert_eq!(runtime.command(&["state", &id]).ok().json()["status"], "running");
        runtime.command(&["delete", "--force", &id]).ok();
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn an_annotation_alone_is_enough_under_rt() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for stage in ["prestart", "createRuntime", "poststart"] {
        let mut bundle = limited(&sandbox, SMALL);
        bundle.set("/annotations", json!({ "rt.memory.test": stage, "rt.memory.policy": "enforce" }));
        let id = sandbox.create(&mut bundle, stage);
        let expected = if stage == "poststart" { "none" } else { "enforced" };
        assert_eq!((sandbox.status(&id).as_str(), verdict_of(&sandbox, &id).as_str()), ("created", expected));
        sandbox.rt(["start", &id]).ok();
        assert_eq!(verdict_of(&sandbox, &id), "enforced");
        assert_eq!(sandbox.status(&id), "running");
        assert_eq!(records(&bundle.path).len(), 1, "once, in the bundle as in the state");
        sandbox.delete(&id);
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn the_user_sees_why_an_annotated_container_does_not_start() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let annotated = |stage: &str| {
        let mut bundle = limited(&sandbox, 64);
        let id = sandbox.id(stage);
        bundle
            .set("/annotations", json!({ "rt.memory.test": stage, "rt.memory.policy": "enforce" }))
            .set(&format!("/hooks/{stage}"), json!([saboteur(&sandbox, &id)]));
        (bundle, id)
    };
    let (mut bundle, id) = annotated("prestart");
    sandbox.create_command(&mut bundle, &id).run().fails_with("must not run: not-enforced");
    sandbox.assert_nothing_left(&id);

    let (mut bundle, id) = annotated("poststart");
    sandbox.create_command(&mut bundle, &id).ok();
    sandbox.rt(["start", &id]).run().fails_with("must not run: not-enforced");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_stress_is_a_hook_of_every_runtime() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut stress = call(&["--policy=enforce", "--seconds=3"]);
    stress["args"][2] = json!("stress-memory");
    for runtime in Runtime::all(&sandbox) {
        let mut bundle = limited(&sandbox, SMALL);
        bundle.set("/hooks/createRuntime", json!([stress]));
        let id = sandbox.id(runtime.name);
        runtime.create(&mut bundle, &id).succeeds();
        let record = records(&bundle.path).remove(0);
        assert_eq!((&record["kind"], &record["verdict"]), (&json!("stress"), &json!("held")), "{record}");
        assert_eq!(record["trigger"], "hook");
        runtime.command(&["start", &id]).ok();
        assert_eq!(runtime.command(&["state", &id]).ok().json()["status"], "running", "{}", runtime.name);
        runtime.command(&["delete", "--force", &id]).ok();
        sandbox.assert_nothing_left(&id);

        let id = sandbox.id(&format!("{}-broken", runtime.name));
        bundle.set("/hooks/createRuntime", json!([saboteur(&sandbox, &id), stress]));
        runtime.create(&mut bundle, &id).fails_with("hook");
        let record = records(&bundle.path).remove(1);
        assert_eq!(
            (&record["verdict"], &record["reason"]),
            (&json!("limit-broken"), &json!("limit-not-applied"))
        );
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn annotations_ask_for_a_proof_and_a_stress() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, SMALL);
    let asked = json!({
        "rt.memory.test": "prestart", "rt.memory.stress": "poststart",
        "rt.memory.policy": "enforce", "rt.memory.seconds": "3",
    });
    bundle.set("/annotations", asked);
    let id = sandbox.start(&mut bundle, "both");
    let verdicts: Vec<_> = records(&bundle.path).iter().map(|record| record["verdict"].clone()).collect();
    assert_eq!(verdicts, ["enforced", "held"]);
    assert_eq!(sandbox.status(&id), "running");
}

#[test]
fn an_annotation_and_a_hook_prove_once() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, SMALL);
    let asked = json!({ "rt.memory.test": "prestart", "rt.memory.policy": "enforce", "rt.memory.mb": "70" });
    bundle.set("/annotations", asked).set("/hooks/createRuntime", json!([call(&[])]));
    let id = sandbox.create(&mut bundle, "once");
    let all = records(&bundle.path);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["target_bytes"], json!(70 * MIB), "the hook obeys the annotations");
    assert_eq!(verdict_of(&sandbox, &id), "enforced", "the hook finds the state of a --root it is not told");
}

#[test]
fn a_pods_sandbox_starts_where_its_containers_must_be_proved() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    for (kind, code) in [("sandbox", 0), ("container", 1)] {
        let annotations = json!({
            "rt.memory.test": "prestart",
            "rt.memory.policy": "enforce",
            "io.kubernetes.cri.container-type": kind,
        });
        bundle.set("/annotations", annotations);
        let id = sandbox.id(kind);
        let path = sandbox.prepare(&mut bundle, &id);
        let created = sandbox.rt(["create", "--bundle", &path, &id]).run();
        assert_eq!(created.code, code, "without a limit, as a {kind}: {created}");
    }
}

#[test]
fn annotations_that_cannot_be_obeyed_are_named() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for (name, value, words) in [
        ("rt.memory.test", "startContainer", "allowed is prestart, createRuntime, poststart"),
        ("rt.memory.policy", "strict", "annotation rt.memory.policy=\"strict\""),
        ("rt.memory.policy", "enforce", "has nothing to act on without rt.memory.test"),
        ("rt.memory.mb", "-1", "annotation rt.memory.mb=\"-1\""),
        ("rt.memory.seconds", "6", "annotation rt.memory.seconds=\"6\" is too long"),
        ("rt.memory.tset", "prestart", "annotation rt.memory.tset is not known"),
    ] {
        let mut bundle = limited(&sandbox, 64);
        bundle.set("/annotations", json!({ name: value }));
        let id = sandbox.id("wrong");
        sandbox.create_command(&mut bundle, &id).run().fails_with(words);
        sandbox.assert_nothing_left(&id);
    }
    let mut bundle = limited(&sandbox, 64);
    bundle.set("/annotations", json!({ "rt.memory.verdict": "enforced" }));
    let id = sandbox.create(&mut bundle, "told");
    assert!(records(&bundle.path).is_empty(), "what `rt state` tells asks for nothing");
    sandbox.delete(&id);
}

#[test]
fn the_node_proves_every_container() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let create = |globals: &[&str], bundle: &mut Bundle, name: &str| {
        let id = sandbox.id(name);
        let path = sandbox.prepare(bundle, &id);
        let outcome = sandbox.rt(globals.iter().copied().chain(["create", "--bundle", &path, &id])).run();
        (id, outcome)
    };
    let (id, outcome) = create(&["--proof", "prestart:record"], &mut limited(&sandbox, SMALL), "flag");
    outcome.succeeds();
    assert_eq!(verdict_of(&sandbox, &id), "enforced");

    let config = node(&sandbox, r#"{"proof":"createRuntime:enforce"}"#);
    let (id, outcome) = create(&["--config", &config], &mut limited(&sandbox, SMALL), "file");
    outcome.succeeds();
    assert_eq!(verdict_of(&sandbox, &id), "enforced");

    // What a container asks for can only add to that.
    let mut bundle = limited(&sandbox, 64);
    bundle.set("/annotations", json!({ "rt.memory.test": "poststart", "rt.memory.policy": "record" }));
    let id = sandbox.id("weaker");
    bundle.set("/hooks/createRuntime", json!([saboteur(&sandbox, &id)]));
    let path = sandbox.prepare(&mut bundle, &id);
    let command = sandbox.rt(["--config", &config, "create", "--bundle", &path, &id]);
    command.run().fails_with("must not run: not-enforced");

    // No limit: nothing can be proved.
    let (id, outcome) = create(&["--proof", "prestart:record"], &mut sandbox.bundle(), "unlimited");
    outcome.succeeds();
    assert_eq!(verdict_of(&sandbox, &id), "refused");
    let (_, outcome) = create(&["--config", &config], &mut sandbox.bundle(), "refused");
    outcome.fails_with("hint: set a memory limit, or let").fails_with("it must not run: refused (unlimited)");
    let lenient = node(&sandbox, r#"{"proof":"createRuntime:enforce","on_inconclusive":"record"}"#);
    let (id, outcome) = create(&["--config", &lenient], &mut sandbox.bundle(), "lenient");
    outcome.succeeds();
    assert_eq!(verdict_of(&sandbox, &id), "refused");
}

#[test]
fn the_node_bounds_what_annotations_ask() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let create = |config: &str, annotations: Value| {
        let mut bundle = limited(&sandbox, 64);
        bundle.set("/annotations", annotations);
        let id = sandbox.id("asks");
        let path = sandbox.prepare(&mut bundle, &id);
        let outcome = sandbox.rt(["--config", config, "create", "--bundle", &path, &id]).run();
        sandbox.delete(&id);
        outcome
    };
    let asks = || json!({ "rt.memory.test": "prestart" });
    let config = node(&sandbox, r#"{"allow_annotations":false}"#);
    create(&config, asks()).fails_with("annotation rt.memory.test is not allowed on this node");
    create(&config, json!({ "org.example": "x" })).succeeds();
    let config = node(&sandbox, r#"{"max_seconds":1}"#);
    create(&config, json!({ "rt.memory.test": "prestart", "rt.memory.seconds": "2" }))
        .fails_with("this node allows up to 1 s");
    let config = node(&sandbox, "{}");
    Run::new("chmod").args(["666", &config]).ok();
    create(&config, asks()).fails_with("others than root can write to it");
    Run::new("chmod").args(["600", &config]).ok();
    Run::new("chown").args(["1000", &config]).ok();
    create(&config, asks()).fails_with("belongs to uid 1000");
    create("/no/such/file", asks()).fails_with("/no/such/file");
    let mut bundle = limited(&sandbox, 64);
    let path = sandbox.prepare(&mut bundle, "x");
    sandbox.rt(["--proof", "always", "create", "--bundle", &path, "x"]).run().fails_with("STAGE:POLICY");
}

#[test]
fn a_proof_at_create_leaves_the_containers_own_numbers_right() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64);
    bundle.set("/annotations", json!({ "rt.memory.test": "prestart" })).args(&["true"]);
    let id = sandbox.create(&mut bundle, "numbers");
    let memory = sandbox.cgroup(&id, "memory");
    let record = records(&bundle.path).remove(0);
    assert!(record["peak_after_bytes"].as_i64() > Some(63 * MIB), "{record}");
    assert!(record["peak_before_bytes"].as_i64() < Some(16 * MIB), "{record}");
    if !memory.v2 {
        let peak: i64 = memory.read("memory.max_usage_in_bytes", "").parse().expect("a peak");
        assert!(peak < 16 * MIB, "the peak is still the worker's: {peak}");
        assert_eq!(record["peak_reset"], true);
    }
    sandbox.rt(["start", &id]).ok();
    sandbox.wait_for_status(&id, "stopped");
    let why = sandbox.rt(["why", &id]).ok();
    assert!(why.stdout.contains("OOM kills 0"), "the worker's death is not the container's: {why}");
}

#[test]
fn group_kills_are_switched_on_after_the_proof() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64);
    let id = sandbox.start(&mut bundle, "version");
    let v2 = sandbox.cgroup(&id, "memory").v2;
    sandbox.delete(&id);
    if !v2 {
        return skip("memory on cgroup v2");
    }
    bundle
        .set("/annotations", json!({ "rt.memory.test": "prestart", "rt.memory.policy": "enforce" }))
        .set("/linux/resources/unified", json!({ "memory.oom.group": "1" }));
    let id = sandbox.create(&mut bundle, "group");
    assert_eq!(verdict_of(&sandbox, &id), "enforced");
    assert_eq!(sandbox.cgroup(&id, "memory").read("", "memory.oom.group"), "1");
}

#[test]
fn a_container_without_a_cgroup_of_its_own_is_refused() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    let hook = |policy: &str| {
        // The test's own process stands for a container that shares the cgroup of its engine.
        let state = json!({ "id": "shared", "pid": std::process::id(), "bundle": bundle.path });
        let args = ["hook", "test-memory", "--policy", policy];
        sandbox.rt(args).stdin(state.to_string()).run()
    };
    hook("record").succeeds();
    let outcome = hook("enforce").fails_with("it must not run: refused (shared-cgroup)");
    assert_eq!(outcome.code, 3);
    let reasons: Vec<_> = records(&bundle.path).into_iter().map(|record| record["reason"].clone()).collect();
    assert_eq!(reasons, ["shared-cgroup", "shared-cgroup"]);
    assert!(outcome.stderr.ends_with("is this hook's own too\n"), "the sentence comes last: {outcome}");
}

#[test]
fn a_proof_that_takes_too_long_is_inconclusive() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let meminfo = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix(" kB"));
    // No machine fills that much, a page at a time, in a second; and two thirds are left to other tests.
    let mib = available.and_then(|kib| kib.trim().parse::<i64>().ok()).unwrap_or(0) / 1024 / 3;
    if mib < 5 << 10 {
        return skip("15 GiB of available memory");
    }
    let mut bundle = limited(&sandbox, mib);
    let asked = json!({
        "rt.memory.test": "prestart", "rt.memory.policy": "enforce", "rt.memory.seconds": "1",
    });
    bundle.set("/annotations", asked);
    let id = sandbox.id("slow");
    let outcome = sandbox.create_command(&mut bundle, &id).run().fails_with("it must not run: timed-out");
    assert!(outcome.text().contains("hint: give it more time"), "{outcome}");
    sandbox.assert_nothing_left(&id);
    bundle.set("/annotations/rt.memory.on-inconclusive", json!("record"));
    sandbox.create_command(&mut bundle, &id).ok();
    assert_eq!(verdict_of(&sandbox, &id), "timed-out");
}

#[test]
fn a_create_that_is_killed_in_the_proof_leaves_nothing_that_delete_cannot_clean() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    // Large enough to be met half way.
    let mut bundle = limited(&sandbox, 1024);
    bundle.set("/annotations", json!({ "rt.memory.test": "prestart" }));
    let id = sandbox.id("killed");
    let mut create = sandbox.create_command(&mut bundle, &id).spawn();
    let mut worker = None;
    wait_until("the worker", || {
        worker = worker_of(&sandbox);
        worker.is_some() || !create.is_running()
    });
    let worker = worker.unwrap_or_else(|| panic!("the proof was over too soon: {}", create.text()));
    create.signal(Signal::SIGKILL);
    create.wait(PATIENCE);
    wait_until("the end of hook and init", || processes_marked(sandbox.mark()).is_empty());
    assert!(!Path::new(&format!("/proc/{worker}")).exists(), "the worker outlives its prover");
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

/// The worker of a hook of this sandbox. It has no environment of its own to know it by.
fn worker_of(sandbox: &Sandbox) -> Option<i32> {
    let hooks = processes_marked(sandbox.mark());
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        line.split(|byte| *byte == 0).any(|word| word == b"__worker")
            && parent.is_some_and(|parent| hooks.contains(&parent))
    })
}

#[test]
fn a_hook_that_is_misused_says_how() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let hook = |args: &[&str], stdin: &str| sandbox.rt(["hook", "test-memory"]).args(args).stdin(stdin).run();
    let no_state = hook(&[], "").fails_with("standard input is no state of a container");
    assert_eq!(no_state.code, 2);
    hook(&[], r#"{"id":"x","pid":0,"bundle":"/"}"#).fails_with("no process");
    hook(&["--policy", "strict"], "").fails_with("'strict' is none of record, enforce");
    sandbox.rt(["hook", "burn"]).run().fails_with("'burn' is none of test-memory, stress-memory");

    // Inside the container a prover would be charged with the worker, and killed with it.
    for stage in ["createContainer", "startContainer"] {
        let mut bundle = limited(&sandbox, 64);
        bundle.set(&format!("/hooks/{stage}"), json!([call(&[])]));
        let id = sandbox.id(stage);
        let words = format!("a memory proof cannot be a {stage} hook");
        sandbox.create_command(&mut bundle, &id).run().fails_with(&words);
        sandbox.assert_nothing_left(&id);
    }
    let mut bundle = limited(&sandbox, 64);
    bundle.set("/hooks/prestart", json!([call(&["--seconds", "6"])]));
    let id = sandbox.id("long");
    sandbox
        .create_command(&mut bundle, &id)
        .run()
        .fails_with("6 s are asked for, and this hook may take 5 s");
    bundle.set("/hooks/prestart/0/timeout", json!(10));
    sandbox.create_command(&mut bundle, &id).time_limit(Duration::from_secs(20)).ok();
    sandbox.delete(&id);
}

#[test]
fn a_hook_whose_read_from_the_worker_fails_ends_within_its_deadline() {
    if !needs_root() || !needs_rt() || !needs_engine("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": SMALL * MIB }));
    let id = sandbox.start(&mut bundle, "read");
    let rt = Sandbox::binary().display().to_string();
    let root = sandbox.root().display().to_string();
    // The first read is of the library that starts the worker, the second that the worker is ready.
    let inject = ["-o", "/dev/null", "-e", "inject=recvfrom:error=EIO:when=3"];
    let proof = [&rt, "--root", &root, "test-memory", "--timeout", "2s", "--up-to", "4", &id];
    let outcome = Run::new("strace").args(inject).args(proof).run();
    assert!(outcome.took < Duration::from_secs(4), "{outcome}");
    outcome.fails_with("input/output error");
    sandbox.delete(&id);
}
