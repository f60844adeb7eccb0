//! Sixteen callers who know nothing of each other use five names, and some are killed: every name can be used afterwards.
//!
//! `RT_CALLERS_SECONDS` says for how long, `RT_CALLERS_SEED` whom chance prefers.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use common::random::Random;
use common::*;
use nix::sys::signal::Signal;
use serde_json::json;

const CALLERS: u64 = 16;
const NAMES: usize = 5;
const SECONDS: u64 = 8;
const SEED: u64 = 16;

/// What callers ask for, as often as it stands here. `=` is the name of a container, `@` the folder of a bundle.
const COMMANDS: [&str; 30] = [
    "create --bundle @ =",
    "create --bundle @ =",
    "create --bundle @ =",
    "run --detach --bundle @ =",
    "run --detach --bundle @ =",
    "run --detach --bundle @ =",
    "start =",
    "start =",
    "start =",
    "exec = true",
    "exec = cat /none",
    "exec --detach = sleep 1000",
    "kill = KILL",
    "kill = TERM",
    "kill --all = KILL",
    "pause =",
    "resume =",
    "update --memory 24M =",
    "update --pids-limit 50 =",
    "test-memory --timeout 5s =",
    "test-memory --strategy random --timeout 5s =",
    "state =",
    "ps =",
    "why =",
    "list",
    "events --stats =",
    "delete =",
    "delete =",
    "delete --force =",
    "delete --force =",
];

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// One who calls, until the time is over.
struct Caller {
    random: Random,
    end: Instant,
    root: PathBuf,
    mark: (String, String),
    /// Of each container the name, and bundles for it.
    containers: Vec<(String, Vec<String>)>,
}

impl Caller {
    /// How often each command succeeded, and did not.
    fn goes_on(mut self) -> BTreeMap<&'static str, [u32; 2]> {
        let mut calls = BTreeMap::<_, [u32; 2]>::new();
        while Instant::now() < self.end {
            let (command, code) = self.call();
            calls.entry(command).or_default()[usize::from(code != 0)] += 1;
        }
        calls
    }

    fn call(&mut self) -> (&'static str, i32) {
        let (name, bundles) = &self.containers[self.random.below(NAMES)];
        let bundle = &bundles[self.random.below(bundles.len())];
        let command = COMMANDS[self.random.below(COMMANDS.len())];
        let words = command.split(' ').map(|word| match word {
            "=" => name,
            "@" => bundle,
            word => word,
        });
        let run = Run::new(Sandbox::binary()).arg("--root").arg(&self.root).args(words);
        let running = run.env(&self.mark.0, &self.mark.1).spawn();
        // One of five is killed on its way, or asked to end.
        let fate = [Signal::SIGKILL, Signal::SIGTERM].get(self.random.below(10));
        if let Some(signal) = fate {
            thread::sleep(Duration::from_millis(self.random.next() % 60));
            running.signal(*signal);
        }
        let outcome = running.wait(PATIENCE);
        let crashed = [101, 128 + 6, 128 + 7, 128 + 11].contains(&outcome.code);
        assert!(!crashed && !outcome.text().contains("panicked"), "{outcome}");
        let mute = outcome.code == 1 && outcome.text().is_empty();
        assert!(!mute || fate.is_some(), "{outcome}");
        (command, outcome.code)
    }
}

/// A container without anything, and one that has what takes most: a user namespace, limits and hooks.
fn bundles(sandbox: &Sandbox, id: &str) -> Vec<String> {
    let mut plain = sandbox.bundle();
    let mut rich = sandbox.bundle();
    rich.with_new_user();
    rich.set("/linux/resources/memory", json!({ "limit": 16 << 20 }));
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "cat >/dev/null"], "env": ["PATH=/bin", sandbox.mark()] }]);
    for stage in ["createRuntime", "poststart", "poststop"] {
        rich.set(&format!("/hooks/{stage}"), hook.clone());
    }
    vec![sandbox.prepare(&mut plain, id), sandbox.prepare(&mut rich, id)]
}

#[test]
fn every_name_is_usable_after_random_callers() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let containers: Vec<_> = (0..NAMES).map(|number| sandbox.id(&format!("shared{number}"))).collect();
    let containers: Vec<_> = containers.into_iter().map(|id| (id.clone(), bundles(&sandbox, &id))).collect();
    let end = Instant::now() + Duration::from_secs(setting("RT_CALLERS_SECONDS", SECONDS));
    let (key, value) = sandbox.mark().split_once('=').expect("a mark");
    let callers = (0..CALLERS).map(|number| Caller {
        random: Random(setting("RT_CALLERS_SEED", SEED) * CALLERS + number),
        end,
        root: sandbox.root(),
        mark: (key.to_owned(), value.to_owned()),
        containers: containers.clone(),
    });
    let callers: Vec<_> = callers.map(|caller| thread::spawn(move || caller.goes_on())).collect();
    // An exec that waits in a paused container is let go by the container's end.
    thread::sleep(end.saturating_duration_since(Instant::now()));
    wait_until("the last calls' end", || {
        for (id, _) in &containers {
            sandbox.rt(["delete", "--force", id]).ok();
        }
        callers.iter().all(thread::JoinHandle::is_finished)
    });
    let mut calls = BTreeMap::<_, [u32; 2]>::new();
    for caller in callers {
        for (command, [succeeded, failed]) in caller.join().expect("a caller's calls") {
            let sum = calls.entry(command).or_default();
            *sum = [sum[0] + succeeded, sum[1] + failed];
        }
    }
    for (command, [succeeded, failed]) in calls {
        println!("{succeeded:5} succeeded, {failed:5} did not: {command}");
    }

    for (id, _) in &containers {
        sandbox.rt(["delete", "--force", id]).ok();
    }
    for (id, _) in &containers {
        sandbox.assert_nothing_left(id);
    }
    for (id, bundles) in &containers {
        for bundle in bundles {
            sandbox.rt(["run", "--detach", "--bundle", bundle, id]).ok();
            sandbox.exec(id, "true").succeeds();
            sandbox.delete(id);
        }
    }
    for (id, _) in &containers {
        sandbox.assert_nothing_left(id);
    }
    let left: Vec<_> = fs::read_dir(sandbox.root()).expect("the root").flatten().map(|e| e.path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}
