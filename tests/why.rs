//! `rt why`, and the memory receipt behind it: what is left of a container is why it died.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::*;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn ready() -> bool {
    needs_root() && needs_rt()
}

/// A bundle with a limit of so many MiB whose process does what the script says.
fn limited(sandbox: &Sandbox, mib: u64, script: &str) -> Bundle {
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": mib * MIB, "swap": mib * MIB })).shell(script);
    bundle
}

#[track_caller]
fn why(sandbox: &Sandbox, asked: impl AsRef<Path>) -> String {
    sandbox.rt([Path::new("why"), asked.as_ref()]).ok().stdout
}

#[track_caller]
fn receipt(sandbox: &Sandbox, asked: impl AsRef<Path>) -> Value {
    let asked = asked.as_ref().to_str().unwrap();
    sandbox.rt(["why", "--format", "json", asked]).ok().json()
}

/// Whether the kernel's log tells of a victim in this container: it may not be readable, and the kernel leaves lines out
/// where there are many.
fn is_in_the_log(id: &str) -> bool {
    let log = rt::sys::klog::last(256 << 10).unwrap_or_default();
    String::from_utf8_lossy(&log).contains(&format!("task_memcg=/{id},"))
}

#[test]
fn an_oom_killed_container_says_so_before_and_after_delete() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    // Filled by init itself.
    let mut bundle = limited(&sandbox, 16, "exec tail /dev/zero");
    let id = sandbox.start(&mut bundle, "oom");
    sandbox.wait_for_status(&id, "stopped");

    let state = sandbox.state(&id);
    assert_eq!(state["annotations"]["rt.memory.death"], "oom-killed");
    assert_eq!(state["annotations"]["rt.memory.oom-kills"], "1");
    let peak: u64 = state["annotations"]["rt.memory.peak"].as_str().unwrap().parse().unwrap();
    assert!(peak > 15 * MIB && peak <= 16 * MIB, "{peak}");
    let before = why(&sandbox, &id);
    assert!(before.contains("OOM-killed by its own limit of 16 MiB"), "{before}");

    sandbox.rt(["delete", &id]).ok();
    for asked in [Path::new(&id), &bundle.path] {
        let text = why(&sandbox, asked);
        assert!(text.starts_with(&format!("{id} was ")), "{text}");
        assert!(text.contains("OOM-killed by its own limit of 16 MiB"), "{text}");
        assert!(text.contains("hint: it needed more than 16 MiB: try 24 MiB"), "{text}");
        let json = receipt(&sandbox, asked);
        assert_eq!((&json["schema"], &json["death"]["cause"]), (&json!(1), &json!("oom-killed")));
        assert_eq!(json["memory"]["oom_kills"], 1);
        if is_in_the_log(&id) {
            assert_eq!(json["memory"]["victims"][0]["name"], "tail", "{json}");
            assert_eq!(json["death"]["certain"], true, "{json}");
        }
    }
    let file = bundle.path.join("rt-receipt.json");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(sandbox.rt(["list", "-q"]).ok().stdout.is_empty(), "kept receipts are no containers");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_container_in_the_foreground_leaves_its_exit_status() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64, "exit 3");
    assert_eq!(sandbox.run_command(&mut bundle, "three").run().code, 3);
    let text = why(&sandbox, &bundle.path);
    assert!(text.contains("exited with 3\n"), "{text}");
    let json = receipt(&sandbox, &bundle.path);
    assert_eq!((&json["end"], &json["death"]["certain"]), (&json!({ "exit": 3 }), &json!(true)));

    // Also where the container stays.
    let mut bundle = limited(&sandbox, 64, "exit 4");
    let id = sandbox.id("kept");
    let path = sandbox.prepare(&mut bundle, &id);
    assert_eq!(sandbox.rt(["run", "--keep", "--bundle", &path, &id]).run().code, 4);
    assert_eq!(sandbox.state(&id)["annotations"]["rt.memory.death"], "exited");
    assert!(why(&sandbox, &id).contains("exited with 4\n"));
    sandbox.delete(&id);
    assert!(why(&sandbox, &id).contains("exited with 4\n"));
}

#[test]
fn no_cause_is_named_that_the_log_excludes() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 16, "tail /dev/zero; exit 0");
    let id = sandbox.start(&mut bundle, "survivor");
    sandbox.wait_for_status(&id, "stopped");
    let annotations = sandbox.state(&id)["annotations"].clone();
    // Who started it has waited for it, unless that is still to come.
    let text = why(&sandbox, &id);
    if !text.contains("exited with 0") {
        assert_eq!(annotations["rt.memory.death.certain"], "false", "{annotations}");
        if is_in_the_log(&id) {
            assert_eq!(annotations["rt.memory.death"], "unknown", "{annotations}: {text}");
            assert!(
                text.contains("how is not known to rt; before that one of its processes was OOM-killed"),
                "{text}"
            );
        } else {
            assert!(text.contains("most likely"), "{text}");
        }
    }
    sandbox.delete(&id);
}

#[test]
fn a_shell_whose_command_was_oom_killed_died_of_that() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 16, "tail /dev/zero");
    bundle.shell("tail /dev/zero; exit $?");
    assert_eq!(sandbox.run_command(&mut bundle, "shell").run().code, 137);
    let text = why(&sandbox, &bundle.path);
    assert!(text.contains("exited with 137") && text.contains("most likely"), "{text}");
    assert!(text.contains("OOM-killed by its own limit"), "{text}");
    // The command that made it 137 may have been killed by somebody, long after another one's OOM kill.
    let mut bundle = limited(&sandbox, 16, "tail /dev/zero; sh -c 'kill -9 $$'; exit $?");
    assert_eq!(sandbox.run_command(&mut bundle, "later").run().code, 137);
    let json = receipt(&sandbox, &bundle.path);
    assert_eq!(json["death"]["certain"], false, "{json}");
    assert!(why(&sandbox, &bundle.path).contains("most likely"), "{json}");
    // One that goes on is not dead of it.
    let mut bundle = limited(&sandbox, 16, "tail /dev/zero; exit 5");
    assert_eq!(sandbox.run_command(&mut bundle, "goes-on").run().code, 5);
    let text = why(&sandbox, &bundle.path);
    assert!(text.contains("exited with 5; before that one of its processes was OOM-killed"), "{text}");
}

#[test]
fn signals_from_outside_are_no_oom_kills() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64, "exec sleep 1000");
    let id = sandbox.start(&mut bundle, "killed");
    let alive = why(&sandbox, &id);
    assert!(alive.starts_with(&format!("{id} has not died")), "{alive}");
    sandbox.rt(["kill", &id, "KILL"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    let text = why(&sandbox, &id);
    assert!(text.contains("was killed by SIGKILL, sent with 'kill' at 2"), "{text}");
    assert_eq!(sandbox.state(&id)["annotations"]["rt.memory.death"], "killed");
    assert_eq!(sandbox.state(&id)["annotations"]["rt.memory.oom-kills"], "0");
    sandbox.delete(&id);
    assert_eq!(receipt(&sandbox, &id)["signal"]["signal"], 9);

    // By somebody else, under the eyes of `run`.
    let id = sandbox.id("outside");
    let path = sandbox.prepare(&mut bundle, &id);
    let running = sandbox.rt(["run", "--bundle", &path, &id]).spawn();
    wait_until("the container", || sandbox.rt(["state", &id]).run().stdout.contains("\"running\""));
    let init = nix::unistd::Pid::from_raw(i32::try_from(sandbox.pid(&id)).unwrap());
    nix::sys::signal::kill(init, nix::sys::signal::SIGKILL).unwrap();
    assert_eq!(running.wait(PATIENCE).code, 137);
    let text = why(&sandbox, &id);
    assert!(text.contains("was killed by SIGKILL from outside: no OOM kill"), "{text}");
}

#[test]
fn deletion_by_force_and_before_the_start_is_told() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64, "exec sleep 1000");
    let id = sandbox.start(&mut bundle, "forced");
    sandbox.delete(&id);
    assert!(why(&sandbox, &id).contains("killed when it was deleted by force while it ran"));
    let id = sandbox.create(&mut bundle, "unstarted");
    sandbox.delete(&id);
    assert!(why(&sandbox, &id).contains("was never started"));
    // Both had one bundle, which tells of the last.
    assert!(why(&sandbox, &bundle.path).starts_with(&id));
}

#[test]
fn an_ancestors_limit_is_named() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let pod = sandbox.id("pod");
    let mut bundle = limited(&sandbox, 64, "exec tail /dev/zero");
    let id = sandbox.id("inner");
    bundle.set("/linux/cgroupsPath", json!(format!("/{pod}/{id}")));
    sandbox.rt(["create", "--bundle", bundle_path(&bundle), &id]).ok();
    let cgroup = sandbox.cgroup(&id, "memory");
    let above = cgroup.path.parent().unwrap();
    let file = if cgroup.v2 { "memory.max" } else { "memory.limit_in_bytes" };
    fs::write(above.join(file), (16 * MIB).to_string()).unwrap();
    sandbox.rt(["start", &id]).ok();
    sandbox.wait_for_status(&id, "stopped");
    sandbox.delete(&id);
    let text = why(&sandbox, &id);
    assert!(text.contains(&format!("OOM-killed by the limit of 16 MiB on /{pod} above it")), "{text}");
    assert!(text.contains(&format!("hint: raise the limit on /{pod}")), "{text}");
}

#[test]
fn a_kill_in_a_cgroup_within_the_container_counts_and_is_not_its_limits() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64, "exec sleep 1000");
    let id = sandbox.start(&mut bundle, "nested");
    let cgroup = sandbox.cgroup(&id, "memory");
    if cgroup.v2 {
        return skip("cgroup v1: v2 has no processes beside cgroups with controllers");
    }
    let inner = cgroup.path.join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("memory.limit_in_bytes"), (8 * MIB).to_string()).unwrap();
    let fill = format!("echo $$ > {}/cgroup.procs; exec tail /dev/zero", inner.display());
    assert_eq!(Run::new("sh").args(["-c", &fill]).run().code, 137);
    sandbox.rt(["kill", &id, "KILL"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    sandbox.delete(&id);
    let json = receipt(&sandbox, &id);
    assert_eq!(
        (&json["death"]["cause"], &json["memory"]["oom_kills"]),
        (&json!("killed"), &json!(1)),
        "{json}"
    );
    assert_eq!(json["memory"]["culprit"]["whose"], "unknown", "{json}");
    sandbox.assert_nothing_left(&id);
}

fn bundle_path(bundle: &Bundle) -> &str {
    bundle.save();
    bundle.path.to_str().unwrap()
}

#[test]
fn kills_of_proofs_are_not_blamed_on_the_container() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64, "exec sleep 1000");
    let id = sandbox.start(&mut bundle, "proved");
    let proof = sandbox.rt(["test-memory", &id, "--strategy", "sequential", "--format", "json"]).ok().json();
    assert_eq!(proof["verdict"], "enforced");
    sandbox.rt(["stress-memory", &id, "100", "3"]).ok();
    sandbox.rt(["kill", &id, "TERM"]).ok();
    sandbox.rt(["kill", &id, "KILL"]).run();
    sandbox.wait_for_status(&id, "stopped");
    sandbox.delete(&id);
    let json = receipt(&sandbox, &id);
    assert_eq!(json["death"]["cause"], "killed", "{json}");
    let proofs = &json["memory"]["proofs"];
    assert_eq!((&json["memory"]["oom_kills"], &proofs["begun"]), (&json!(0), &json!(2)), "{json}");
    assert!(proofs["oom_kills"].as_u64().unwrap() >= 1, "{json}");
    // The peak is at the limit since the proof, and the container's own was told before it.
    assert!(json["memory"]["peak_bytes"].as_u64().unwrap() > 63 * MIB, "{json}");
    assert!(json["memory"]["own_peak_bytes"].as_u64().unwrap() < 16 * MIB, "{json}");
    let text = why(&sandbox, &id);
    assert!(
        text.contains("before the first proof") && text.contains("not counted: what 2 of rt's proofs"),
        "{text}"
    );
    assert!(bundle.path.join("rt-proofs.jsonl").exists(), "the bundle lives on with its records");
}

#[test]
fn a_container_that_died_in_a_proof_says_so() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 600, "exec sleep 1000");
    let id = sandbox.start(&mut bundle, "lost");
    let init = nix::unistd::Pid::from_raw(i32::try_from(sandbox.pid(&id)).unwrap());
    let processes = sandbox.cgroup(&id, "memory").path.join("cgroup.procs");
    let proof = sandbox.rt(["test-memory", &id, "--strategy", "sequential"]).spawn();
    wait_until("the worker", || fs::read_to_string(&processes).unwrap().lines().count() > 1);
    nix::sys::signal::kill(init, nix::sys::signal::SIGKILL).unwrap();
    let outcome = proof.wait(PATIENCE);
    assert_eq!(outcome.code, 5, "{outcome}");
    assert_eq!(sandbox.state(&id)["annotations"]["rt.memory.death"], "lost-in-proof");
    sandbox.delete(&id);
    assert!(why(&sandbox, &id).contains("died while rt proved its memory limit"));
}

#[test]
fn a_container_from_nothing_leaves_its_receipt_and_its_proofs() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let empty = sandbox.path("empty");
    fs::create_dir_all(&empty).unwrap();
    let id = sandbox.id("nothing");
    sandbox.rt(["create", &id, "--ram=64"]).cwd(&empty).ok();
    sandbox.rt(["start", &id]).ok();
    sandbox.rt(["test-memory", &id, "--strategy", "sequential"]).ok();
    sandbox.delete(&id);
    assert!(why(&sandbox, &id).contains("deleted by force"));
    let kept = sandbox.kept().join("receipts").join(&id);
    let journal = fs::read_to_string(kept.join("rt-proofs.jsonl")).unwrap();
    assert!(journal.lines().last().unwrap().contains("\"enforced\""), "{journal}");
    // The next of that name is asked about itself, and leaves no proofs of the one before.
    sandbox.rt(["create", &id, "--ram=64"]).cwd(&empty).ok();
    assert!(why(&sandbox, &id).contains("has not died"));
    sandbox.delete(&id);
    assert!(why(&sandbox, &id).contains("never started"));
    assert!(!kept.join("rt-proofs.jsonl").exists());
    sandbox.assert_nothing_left(&id);
}

#[test]
fn what_never_was_is_a_clear_error() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path("bundle")).unwrap();
    for (asked, words) in [
        ("nobody", "no container 'nobody', and no receipt"),
        ("./nowhere", "no bundle './nowhere'"),
        ("./bundle", "no rt-receipt.json in './bundle'"),
        ("bundle", "no rt-receipt.json in 'bundle'"),
        (".receipts", "invalid container ID"),
        ("a b", "invalid container ID"),
    ] {
        let outcome = sandbox.rt(["why", asked]).run().fails_with(words);
        assert_eq!(outcome.code, 1, "{outcome}");
    }
    assert_eq!(sandbox.rt(["why"]).run().code, 2);
    assert_eq!(sandbox.rt(["why", "x", "--format", "xml"]).run().code, 2);
}

#[test]
fn a_hostile_or_damaged_receipt_is_not_followed_or_believed() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64, "exit 0");
    let victim = sandbox.path("victim");
    fs::write(&victim, "mine").unwrap();
    let file = bundle.path.join("rt-receipt.json");
    symlink(&victim, &file).unwrap();
    sandbox.rt([Path::new("why"), &bundle.path]).run().fails_with("rt-receipt.json");
    sandbox.run_command(&mut bundle, "link").ok();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(fs::symlink_metadata(&file).unwrap().is_file(), "the link was replaced");
    for damaged in ["", "{", "[]", "{\"schema\":1}"] {
        fs::write(&file, damaged).unwrap();
        sandbox.rt([Path::new("why"), &bundle.path]).run().fails_with("rt-receipt.json");
    }
    // What is in the way does not keep the container.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let outcome = sandbox.run_command(&mut bundle, "in-the-way").ok();
    assert!(outcome.stderr.contains("cannot write the memory receipt"), "{outcome}");
    fs::remove_dir_all(sandbox.kept().join("receipts")).unwrap();
    fs::write(sandbox.kept().join("receipts"), "").unwrap();
    sandbox.run_command(&mut bundle, "no-root").ok();
}

#[test]
fn a_read_only_bundle_keeps_its_container_from_nothing() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, 64, "exec sleep 1000");
    let id = sandbox.id("read-only");
    let path = sandbox.prepare(&mut bundle, &id);
    let flags = nix::mount::MsFlags::MS_BIND;
    let none = None::<&str>;
    nix::mount::mount(Some(&bundle.path), &bundle.path, none, flags, none).unwrap();
    let flags = flags | nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_RDONLY;
    nix::mount::mount(none, &bundle.path, none, flags, none).unwrap();
    sandbox.rt(["create", "--bundle", &path, &id]).ok();
    sandbox.rt(["start", &id]).ok();
    let outcome = sandbox.rt(["delete", "--force", &id]).ok();
    assert!(outcome.stderr.is_empty(), "{outcome}");
    assert!(!bundle.path.join("rt-receipt.json").exists());
    assert!(why(&sandbox, &id).contains("deleted by force"));
    nix::mount::umount(&bundle.path).unwrap();
}

#[test]
fn kept_receipts_are_bounded() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    // Where an older rt kept them.
    let (old, all) = (sandbox.root().join(".receipts"), sandbox.kept().join("receipts"));
    for number in 0..200 {
        fs::create_dir_all(old.join(format!("old{number}"))).unwrap();
        fs::write(old.join(format!("old{number}/rt-receipt.json")), "{}").unwrap();
    }
    let mut bundle = limited(&sandbox, 64, "exit 0");
    let id = sandbox.create(&mut bundle, "newest");
    sandbox.delete(&id);
    assert_eq!(fs::read_dir(&all).unwrap().count(), 64);
    assert!(!old.exists(), "they moved");
    assert!(why(&sandbox, &id).contains("never started"));
}

#[test]
fn a_cgroup_that_was_there_before_is_not_blamed_on_the_container() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut first = limited(&sandbox, 16, "exec tail /dev/zero");
    let shared = sandbox.id("shared");
    first.set("/linux/cgroupsPath", json!(format!("/{shared}")));
    let id = sandbox.id("first");
    sandbox.rt(["create", "--bundle", bundle_path(&first), &id]).ok();
    let folder = sandbox.cgroup(&id, "memory").path;
    sandbox.rt(["start", &id]).ok();
    sandbox.wait_for_status(&id, "stopped");
    assert!(folder.exists());
    // The second one finds the kill of the first in the counters.
    let mut second = limited(&sandbox, 16, "exit 6");
    second.set("/linux/cgroupsPath", json!(format!("/{shared}")));
    let id = sandbox.id("second");
    sandbox.rt(["run", "--bundle", bundle_path(&second), &id]).run();
    let json = receipt(&sandbox, &id);
    assert_eq!((&json["memory"]["oom_kills"], &json["end"]["exit"]), (&json!(0), &json!(6)), "{json}");
    assert_eq!(json["memory"]["own_peak_bytes"], Value::Null, "{json}");
}
