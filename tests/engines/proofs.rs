//! Memory proofs when engines start containers: by hook definitions, by annotation, and for the whole node.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{Outcome, Sandbox, needs_engine, needs_rt};
use crate::docker::Docker;
use crate::podman::{Podman, needs_podman};

const ENFORCE: [&str; 4] =
    ["--annotation", "rt.memory.test=prestart", "--annotation", "rt.memory.policy=enforce"];

/// Takes the limit out of the kernel; the container's id is in the state on its standard input.
pub const SABOTEUR: &str = "id=$(sed -n 's/.*\"id\": *\"\\([^\"]*\\)\".*/\\1/p'); \
     for d in $(find /sys/fs/cgroup -type d -name \"*$id*\"); do cd $d; \
     for f in memory.memsw.limit_in_bytes memory.limit_in_bytes; do [ -e $f ] && echo -1 > $f; done; \
     [ -e memory.max ] && echo max > memory.max; done; exit 0";

/// This repository's hook definitions, calling the runtime under test.
fn hooks_dir(podman: &Podman) -> String {
    let dir = podman.engine.sandbox.path("hooks.d");
    fs::create_dir(&dir).expect("a folder");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks");
    for entry in fs::read_dir(own).expect("the definitions").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path).expect("a definition");
            let mut definition: Value = serde_json::from_str(&text).expect("JSON");
            definition["hook"]["path"] = json!(Sandbox::binary());
            fs::write(dir.join(entry.file_name()), definition.to_string()).expect("a copy");
        }
    }
    dir.display().to_string()
}

/// Lets podman break every limit before a proof looks at it.
fn sabotage(dir: &str) {
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", SABOTEUR], "env": ["PATH=/bin:/usr/bin"] });
    let always =
        json!({ "version": "1.0.0", "hook": hook, "when": { "always": true }, "stages": ["prestart"] });
    fs::write(Path::new(dir).join("0-saboteur.json"), always.to_string()).expect("a definition");
}

#[track_caller]
fn says_why(outcome: Outcome, runtime: &str) {
    assert_ne!(outcome.code, 0, "{runtime}: {outcome}");
    assert!(!outcome.stdout.contains("ran"), "{runtime}: {outcome}");
    let sentence = "it must not run: not-enforced (limit-not-applied): a limit of 64 MiB was asked for";
    assert!(outcome.stderr.contains(sentence), "{runtime}: {outcome}");
}

/// The journal in a container's bundle, which podman keeps until the container is removed.
fn journal(podman: &Podman, name: &str) -> String {
    let config = podman.command(&["inspect", "--format", "{{.OCIConfigPath}}", name]).ok().stdout;
    let file = Path::new(config.trim()).with_file_name("rt-proofs.jsonl");
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn podman_proves_limits_by_hook_definitions() {
    if !needs_podman() || !needs_rt() {
        return;
    }
    let podman = Podman::new();
    let dir = hooks_dir(&podman);
    let rt = Sandbox::binary().display().to_string();
    let runtimes = [("rt", rt.as_str()), ("runc", "runc")];
    let runtimes: Vec<_> =
        runtimes.into_iter().filter(|(name, _)| *name == "rt" || needs_engine(name)).collect();
    for (runtime, path) in &runtimes {
        let globals = ["--runtime", path, "--hooks-dir", &dir];
        let name = format!("proved-{runtime}");
        let args = ["--name", &name, "--memory", "64m", "box", "echo", "ran"];
        let outcome = podman.run_with(&globals, &[&ENFORCE, &args[..]].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "ran\n"), "{runtime}: {outcome}");
        let records = journal(&podman, &name);
        assert_eq!(records.matches("\"verdict\":\"enforced\"").count(), 1, "{runtime}: {records}");

        let poststart = ["--annotation", "rt.memory.test=poststart", "--rm", "--memory", "64m", "box"];
        let outcome =
            podman.run_with(&globals, &[&poststart[..], &["sh", "-c", "sleep 1; echo ran"]].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "ran\n"), "{runtime}: {outcome}");
    }
    let stress = ["--annotation", "rt.memory.stress=prestart"];
    let args = ["--name", "stressed", "--memory", "64m", "box", "echo", "ran"];
    podman.run_with(&["--hooks-dir", &dir], &[&stress, &args[..]].concat()).succeeds();
    let records = journal(&podman, "stressed");
    assert_eq!(records.matches("\"verdict\":\"held\"").count(), 1, "once: {records}");
    sabotage(&dir);
    for (runtime, path) in &runtimes {
        let globals = ["--runtime", path, "--hooks-dir", &dir];
        let args = ["--rm", "--memory", "64m", "box", "echo", "ran"];
        says_why(podman.run_with(&globals, &[&ENFORCE, &args[..]].concat()), runtime);
        // Without the annotation nobody looks.
        podman.run_with(&globals, &args).succeeds();
    }
}

#[test]
fn podman_proves_limits_by_annotation_alone() {
    if !needs_podman() || !needs_rt() {
        return;
    }
    let podman = Podman::new();
    let args = ["--name", "one", "--memory", "64m", "box", "echo", "ran"];
    let outcome = podman.run(&[&ENFORCE, &args[..]].concat());
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "ran\n"), "{outcome}");
    assert!(journal(&podman, "one").contains("\"verdict\":\"enforced\""));

    let unlimited = podman.run(&[&ENFORCE, &["--rm", "box", "echo", "ran"][..]].concat());
    unlimited.fails_with("it must not run: refused (unlimited)");
    let wrong = podman.run(&["--rm", "--annotation", "rt.memory.test=always", "box", "echo", "ran"]);
    wrong.fails_with("allowed is prestart, createRuntime, poststart");

    let dir = podman.engine.text("sabotage");
    fs::create_dir(&dir).expect("a folder");
    sabotage(&dir);
    let args = ["--rm", "--memory", "64m", "box", "echo", "ran"];
    says_why(podman.run_with(&["--hooks-dir", &dir], &[&ENFORCE, &args[..]].concat()), "rt");
}

#[test]
fn docker_proves_limits_by_arguments_of_the_runtime() {
    if !needs_rt() {
        return;
    }
    let proving = json!({ "path": Sandbox::binary(), "runtimeArgs": ["--proof", "prestart:enforce"] });
    let Some(docker) = Docker::start(&json!({ "runtimes": { "proving": proving } }).to_string()) else {
        return;
    };
    let run = |args: &[&str]| {
        docker.command(&["run", "--network", "none", "--runtime", "proving"]).args(args).run()
    };
    let outcome = run(&["--name", "one", "-m", "64m", "box", "sh", "-c", "echo ran; sleep 1000 & exit 3"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (3, "ran\n"), "{outcome}");
    run(&["--detach", "--name", "two", "-m", "64m", "box", "sleep", "1000"]).succeeds();
    let id = docker.command(&["inspect", "--format", "{{.Id}}", "two"]).ok().stdout;
    let root = docker.runtime_root();
    let state = docker.engine.sandbox.bare(["--root", &root, "state", id.trim()]).ok().json();
    assert_eq!(state["annotations"]["rt.memory.verdict"], "enforced", "{state}");
    run(&["--rm", "box", "echo", "ran"]).fails_with("it must not run: refused (unlimited)");
    docker.command(&["rm", "--force", "one", "two"]).ok();
}
