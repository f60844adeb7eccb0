//! Hooks: their order, what they are told, what a failure and a timeout mean.

mod common;

use std::fs;
use std::time::Duration;

use common::*;
use serde_json::{Value, json};

/// A hook that runs a line of shell on the host, or in the container for `startContainer`.
fn hook(sandbox: &Sandbox, script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin", "HOOK=yes", sandbox.mark()] })
}

const NAMES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

#[test]
fn hooks_run_in_the_order_of_the_specification() {
    // runc runs poststart hooks at create, and does not wait for startContainer hooks.
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let log = bundle.rootfs("log");
    for name in NAMES {
        let file = if name == "startContainer" { "/log".to_owned() } else { log.display().to_string() };
        let line = |n| hook(&sandbox, &format!("echo {name} {n} >> {file}"));
        bundle.set(&format!("/hooks/{name}"), json!([line(1), line(2)]));
    }
    bundle.shell("echo process >> /log; sleep 1000");
    let lines = || fs::read_to_string(&log).unwrap_or_default().lines().map(String::from).collect::<Vec<_>>();
    let both =
        |names: &[&str]| names.iter().flat_map(|n| [format!("{n} 1"), format!("{n} 2")]).collect::<Vec<_>>();

    let id = sandbox.create(&mut bundle, "order");
    assert_eq!(lines(), both(&NAMES[..3]));
    sandbox.rt(["start", &id]).ok();
    wait_until("all lines of start", || lines().len() == 11);
    // The process and the poststart hooks run side by side.
    let (process, rest): (Vec<_>, Vec<_>) = lines().into_iter().partition(|l| l == "process");
    assert_eq!(process.len(), 1);
    assert_eq!(rest, both(&NAMES[..5]));
    assert!(
        lines().iter().position(|l| l == "process") > lines().iter().position(|l| l == "startContainer 2")
    );
    sandbox.delete(&id);
    assert_eq!(lines()[11..], both(&NAMES[5..]));
}

#[test]
fn a_hook_gets_the_state_its_own_environment_and_a_living_pid() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/annotations", json!({ "org.example": "note" }));
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        let file = sandbox.path(name).display().to_string();
        bundle.set(
            &format!("/hooks/{name}"),
            json!([hook(&sandbox, &format!("cat > {file}; env > {file}.env"))]),
        );
    }
    let id = sandbox.start(&mut bundle, "told");
    let pid = sandbox.pid(&id);
    sandbox.delete(&id);
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        let state: Value =
            serde_json::from_str(&fs::read_to_string(sandbox.path(name)).expect("a state")).expect("JSON");
        assert_eq!(state["id"], json!(id), "{name}");
        assert_eq!(state["bundle"], json!(bundle.path), "{name}");
        assert_eq!(state["annotations"]["org.example"], "note", "{name}");
        assert!(state["ociVersion"].is_string(), "{name}");
        if name == "poststop" {
            assert_eq!(state["status"], "stopped");
        } else {
            assert_eq!(state["pid"], json!(pid), "{name}");
        }
        let environment = fs::read_to_string(sandbox.path(&format!("{name}.env"))).expect("an environment");
        assert!(environment.contains("HOOK=yes\n"), "{name}: {environment}");
        assert!(!environment.contains("HOME="), "{name} got more than its own environment: {environment}");
    }
}

#[test]
fn a_hook_that_fails_at_create_leaves_no_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    for name in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = sandbox.bundle();
        bundle.set(&format!("/hooks/{name}"), json!([hook(&sandbox, "exit 0"), hook(&sandbox, "exit 3")]));
        let id = sandbox.id(name);
        sandbox.create_command(&mut bundle, &id).run().fails_with(name);
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_hook_that_fails_at_start_is_an_error_and_destroys_the_container() {
    // runc runs poststart hooks at create.
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for (name, ran) in [("startContainer", false), ("poststart", true)] {
        let mut bundle = sandbox.bundle();
        let end = sandbox.path(&format!("{name}-end"));
        bundle
            .set(&format!("/hooks/{name}"), json!([hook(&sandbox, "echo why >&2; exit 3")]))
            .set("/hooks/poststop", json!([hook(&sandbox, &format!("cat >> {}", end.display()))]))
            .shell("touch /ran; sleep 1000");
        let id = sandbox.create(&mut bundle, name);
        sandbox
            .rt(["start", &id])
            .run()
            .fails_with(&format!("error running {name} hook #0: exit status 3, stdout: , stderr: why"));
        if !ran {
            assert!(!bundle.rootfs("ran").exists());
        }
        let state: Value =
            serde_json::from_str(&fs::read_to_string(&end).expect("poststop")).expect("one state");
        assert_eq!(state["status"], "stopped", "{name}");
        sandbox.rt(["state", &id]).run().fails_with("container does not exist");
        // As engines do afterwards: what they take for done already, and what must be quiet.
        sandbox.rt(["delete", &id]).run().fails_with("container does not exist");
        assert_eq!(sandbox.rt(["delete", "--force", &id]).ok().text(), "");
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_program_that_cannot_be_executed_leaves_a_stopped_container() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.program("/script", "#!/no/such/interpreter\n");
    bundle.args(&["/script"]);
    let id = sandbox.create(&mut bundle, "program");
    sandbox.rt(["start", &id]).run().fails_with("no such file or directory");
    assert_eq!(sandbox.status(&id), "stopped");
    sandbox.rt(["delete", &id]).ok();
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_timeout_is_greater_than_zero_and_may_be_longer_than_any_clock() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    for timeout in [0, -1, i64::MIN] {
        let mut bundle = sandbox.bundle();
        let mut with_timeout = hook(&sandbox, "true");
        with_timeout["timeout"] = json!(timeout);
        bundle.set("/hooks/poststop", json!([with_timeout]));
        let id = sandbox.id("none");
        let outcome = sandbox.create_command(&mut bundle, &id).run();
        outcome.fails_with(&format!("error running poststop hook #0: invalid timeout {timeout}"));
        sandbox.assert_nothing_left(&id);
    }
    let mut bundle = sandbox.bundle();
    for name in NAMES {
        let mut with_timeout = hook(&sandbox, "true");
        with_timeout["timeout"] = json!(i64::MAX);
        bundle.set(&format!("/hooks/{name}"), json!([with_timeout]));
    }
    let id = sandbox.start(&mut bundle, "long");
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_poststop_hook_that_fails_does_not_keep_the_container() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let second = sandbox.path("second").display().to_string();
    bundle.set(
        "/hooks/poststop",
        json!([hook(&sandbox, "exit 3"), hook(&sandbox, &format!("touch {second}"))]),
    );
    let id = sandbox.start(&mut bundle, "poststop");
    sandbox.rt(["delete", "--force", &id]).ok();
    assert!(sandbox.path("second").exists(), "the hooks after one that failed must still run");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_timeout_ends_the_whole_hook_with_its_children() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let mut slow = hook(&sandbox, "sleep 300 & (sleep 300; true) ; wait");
    slow["timeout"] = json!(1);
    bundle.set("/hooks/createRuntime", json!([slow]));
    let id = sandbox.id("timeout");
    let outcome = sandbox.create_command(&mut bundle, &id).run().fails_with("createRuntime");
    assert!(outcome.took < Duration::from_secs(10), "{outcome}");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_hook_that_is_missing_or_not_executable_is_named() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/hooks/createRuntime", json!([{ "path": "/no/such/hook" }]));
    let id = sandbox.id("missing");
    sandbox.create_command(&mut bundle, &id).run().fails_with("/no/such/hook");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_hook_that_ignores_its_input_does_no_harm() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    // More than a pipe holds, so that writing it to a hook that has ended must fail.
    let text = "x".repeat(200_000);
    bundle.set("/annotations", json!({ "large": text }));
    bundle.set("/hooks/createRuntime", json!([hook(&sandbox, "exec < /dev/null; exit 0")]));
    let id = sandbox.start(&mut bundle, "input");
    assert_eq!(sandbox.status(&id), "running");
}
