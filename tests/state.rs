//! State that survives: concurrent commands, foreign folders, and rt killed at any point.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::*;
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn containers_of_one_root_are_made_and_removed_side_by_side() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut ids = Vec::new();
    let mut running = Vec::new();
    for number in 0..8 {
        let mut bundle = sandbox.bundle();
        let id = sandbox.id(&format!("many{number}"));
        let path = sandbox.prepare(&mut bundle, &id);
        running.push(sandbox.rt(["run", "--detach", "--bundle", &path, &id]).spawn());
        ids.push(id);
    }
    for command in running {
        command.wait(PATIENCE).succeeds();
    }
    let list = sandbox.rt(["list", "-q"]).ok().stdout;
    assert_eq!(list.lines().count(), ids.len());
    let deletions: Vec<_> = ids.iter().map(|id| sandbox.rt(["delete", "--force", id]).spawn()).collect();
    for command in deletions {
        command.wait(PATIENCE).succeeds();
    }
    for id in &ids {
        sandbox.assert_nothing_left(id);
    }
}

#[test]
fn of_many_creates_with_one_name_exactly_one_succeeds() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("race");
    let mut bundles: Vec<_> = (0..6).map(|_| sandbox.bundle()).collect();
    for bundle in &mut bundles {
        bundle.set(
            "/linux/cgroupsPath",
            json!(format!("/{id}-{}", bundle.path.file_name().unwrap_or_default().display())),
        );
    }
    let running: Vec<_> = bundles.iter_mut().map(|b| sandbox.create_command(b, &id).spawn()).collect();
    let codes: Vec<i32> = running.into_iter().map(|r| r.wait(PATIENCE).code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(sandbox.status(&id), "created");
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn commands_on_one_container_do_not_disturb_each_other() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "busy");
    let mut running = Vec::new();
    for number in 0..12 {
        let args: &[&str] = match number % 4 {
            0 => &["exec", &id, "true"],
            1 => &["state", &id],
            2 => &["update", "--pids-limit", "100", &id],
            _ => &["kill", &id, "0"],
        };
        running.push(sandbox.rt(args).spawn());
    }
    for command in running {
        command.wait(PATIENCE).succeeds();
    }
    assert_eq!(sandbox.status(&id), "running");
    // Of two forced deletions both are content.
    let both =
        [sandbox.rt(["delete", "--force", &id]).spawn(), sandbox.rt(["delete", "--force", &id]).spawn()];
    for command in both {
        command.wait(PATIENCE).succeeds();
    }
    sandbox.assert_nothing_left(&id);
}

#[test]
fn of_two_starts_one_succeeds() {
    // A second start of runc can wait for ever on the first one's fifo.
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.shell("echo started >> /starts; sleep 1000");
    let id = sandbox.create(&mut bundle, "starts");
    let starts: Vec<_> = (0..3).map(|_| sandbox.rt(["start", &id]).spawn()).collect();
    let good = starts.into_iter().map(|s| s.wait(PATIENCE)).filter(|o| o.code == 0).count();
    assert_eq!(good, 1);
    wait_until("the process", || bundle.rootfs("starts").exists());
    assert_eq!(fs::read_to_string(bundle.rootfs("starts")).unwrap_or_default(), "started\n");
}

#[test]
fn a_foreign_folder_in_the_root_breaks_nothing() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    fs::create_dir_all(root.join("foreign/inside")).expect("a folder");
    fs::create_dir_all(root.join("broken")).expect("a folder");
    fs::write(root.join("broken/state.json"), "{ \"id\": ").expect("a file");
    fs::write(root.join("a file"), "text").expect("a file");
    let id = sandbox.start(&mut sandbox.bundle(), "own");
    let list = sandbox.rt(["list", "-q"]).ok().stdout;
    assert!(list.lines().any(|line| line == id), "{list}");
    sandbox.delete(&id);
    assert!(root.join("foreign/inside").exists());
}

#[test]
fn the_state_survives_the_end_and_the_pid_is_not_believed() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.shell("exit 0");
    let id = sandbox.start(&mut bundle, "ended");
    sandbox.wait_for_status(&id, "stopped");
    let state = sandbox.state(&id);
    assert_eq!(state["pid"], 0);
    sandbox.rt(["kill", &id, "9"]).run().fails_with("container not running");
    sandbox.rt(["delete", &id]).ok();
    sandbox.assert_nothing_left(&id);
}

/// Kills `command` after each of `points` delays spread over `whole`; calls `check` after each.
fn kill_at_points(
    points: u32,
    whole: Duration,
    mut command: impl FnMut() -> (String, Run),
    check: impl Fn(&str),
) {
    // A guest of tests/lab is slow; its kernel is what differs, not the points.
    let guest = std::env::var("RT_GUEST").is_ok_and(|place| place != "host");
    let points = if guest { points / 4 } else { points };
    for point in 0..points {
        let (id, run) = command();
        let start = Instant::now();
        let running = run.spawn();
        let delay = whole * point / points;
        // Sleeping is too coarse for these delays.
        while start.elapsed() < delay {
            std::hint::spin_loop();
        }
        running.signal(Signal::SIGKILL);
        let _ = running.wait(PATIENCE);
        check(&id);
    }
}

fn time_of(run: Run) -> Duration {
    let start = Instant::now();
    run.ok();
    start.elapsed() * 5 / 4
}

#[test]
fn a_create_killed_at_any_point_is_cleaned_by_a_forced_deletion() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let whole = time_of(sandbox.create_command(&mut bundle, &sandbox.id("timing")));
    sandbox.delete(sandbox.rt(["list", "-q"]).ok().stdout.trim());
    let mut count = 0;
    let next = || {
        count += 1;
        let id = sandbox.id(&format!("create{count}"));
        let run = sandbox.create_command(&mut bundle, &id);
        (id, run)
    };
    kill_at_points(40, whole, next, |id| {
        sandbox.rt(["list"]).ok();
        sandbox.delete(id);
        sandbox.assert_nothing_left(id);
    });
}

#[test]
fn a_start_killed_at_any_point_leaves_a_container_that_can_be_deleted() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.create(&mut bundle, "timing");
    let whole = time_of(sandbox.rt(["start", &id]));
    sandbox.delete(&id);
    let mut count = 0;
    let next = || {
        count += 1;
        let id = sandbox.create(&mut bundle, &format!("start{count}"));
        let run = sandbox.rt(["start", &id]);
        (id, run)
    };
    kill_at_points(20, whole, next, |id| {
        let status = sandbox.status(id);
        assert!(["created", "running", "stopped"].contains(&status.as_str()), "{status}");
        sandbox.delete(id);
        sandbox.assert_nothing_left(id);
    });
}

#[test]
fn an_exec_killed_at_any_point_leaves_the_container_unharmed() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "exec");
    let whole = time_of(sandbox.rt(["exec", &id, "true"]));
    kill_at_points(
        25,
        whole,
        || (id.clone(), sandbox.rt(["exec", &id, "sleep", "0.01"])),
        |id| {
            assert_eq!(sandbox.status(id), "running");
        },
    );
    sandbox.exec(&id, "true").succeeds();
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_deletion_killed_at_any_point_can_be_repeated() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.start(&mut bundle, "timing");
    let whole = time_of(sandbox.rt(["delete", "--force", &id]));
    let mut count = 0;
    let next = || {
        count += 1;
        let id = sandbox.start(&mut bundle, &format!("delete{count}"));
        let run = sandbox.rt(["delete", "--force", &id]);
        (id, run)
    };
    kill_at_points(25, whole, next, |id| {
        sandbox.rt(["list"]).ok();
        sandbox.delete(id);
        sandbox.assert_nothing_left(id);
    });
}

#[test]
fn a_killed_foreground_run_leaves_a_container_that_can_be_deleted() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.id("run");
    let path = sandbox.prepare(&mut bundle, &id);
    let running = sandbox.rt(["run", "--bundle", &path, &id]).spawn();
    wait_until("running", || sandbox.rt(["state", &id]).run().stdout.contains("\"running\""));
    running.signal(Signal::SIGKILL);
    let _ = running.wait(PATIENCE);
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}
