//! Stress against real limits.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rt::proof::stress::{Outcome, Snapshot, StressRequest, StressVerdict, Summary, stress};
use rt::proof::{Asked, Strategy};

use crate::cgroup::{MIB, TestCgroup, alive, wait_until};
use crate::schema::assert_valid;

/// Four workers that share so many MiB.
fn request(cgroup: &TestCgroup, init: Pid, mib: u64, time: Duration) -> StressRequest {
    let mut base = cgroup.request(init);
    base.target_bytes = Some(mib * MIB);
    base.file_dir = Some("/var/tmp".into());
    StressRequest { base, strategies: vec![Strategy::Sequential; 4], time }
}

fn stressed(request: &StressRequest, see: &mut dyn FnMut(&Snapshot)) -> Outcome {
    let outcome = stress(request, see).unwrap();
    assert_valid(&outcome.record);
    outcome
}

#[track_caller]
fn summary(outcome: &Outcome) -> &Summary {
    outcome.record.summary.as_ref().unwrap()
}

#[test]
fn twice_the_limit_is_held_at_the_limit_and_the_dead_are_replaced() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let request = request(&cgroup, init, 128, Duration::from_millis(1500));
    let mut highest = 0;
    let outcome = stressed(&request, &mut |snapshot| highest = highest.max(snapshot.sample.usage_bytes));
    assert_eq!(outcome.decision.verdict, StressVerdict::Held, "{:?}", outcome.decision);
    assert_eq!(outcome.record.exit_code, Some(0));
    let summary = summary(&outcome);
    assert!(highest <= 64 * MIB && summary.usage_max_bytes == highest, "never above the limit");
    assert_eq!(outcome.record.counters_after.unwrap().peak_bytes, Some(64 * MIB), "the peak is the limit");
    assert!(summary.kills.limit >= 2 && summary.limit_hits > 0, "{summary:?}");
    assert_eq!((summary.kills.ancestor, summary.kills.external, summary.others_killed), (0, 0, 0));
    assert!(outcome.record.members.iter().any(|member| member.starts > 1), "started again");
    assert!(alive(init));
    assert_eq!(cgroup.processes(), [init.as_raw()], "no worker is left");
}

#[test]
fn every_strategy_at_once_fits_and_keeps_writing() {
    let Some(mut cgroup) = TestCgroup::limited(96) else { return };
    let init = cgroup.sleeper();
    let mut request = request(&cgroup, init, 56, Duration::from_secs(3));
    request.strategies = Strategy::ALL.to_vec();
    let outcome = stressed(&request, &mut |_| {});
    assert_eq!(outcome.decision.verdict, StressVerdict::Held, "{:?}", outcome.decision);
    let summary = summary(&outcome);
    assert_eq!(summary.kills.all(), 0);
    assert!(summary.usage_max_bytes > 50 * MIB && summary.usage_mean_bytes > summary.usage_min_bytes);
    for member in &outcome.record.members {
        assert!(member.written_bytes > member.share_bytes, "{} wrote again", member.strategy);
    }
    assert_eq!(cgroup.processes(), [init.as_raw()]);
}

#[test]
fn a_limit_that_is_raised_on_the_way_is_broken() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let request = request(&cgroup, init, 256, Duration::from_secs(20));
    let outcome = stressed(&request, &mut |_| cgroup.limit(200));
    assert_eq!(outcome.decision.verdict, StressVerdict::LimitBroken, "{:?}", outcome.decision);
    assert_eq!(outcome.record.exit_code, Some(1));
    assert!(outcome.record.duration_us < 10_000_000, "it ends at once");
}

#[test]
fn a_limit_that_was_not_applied_is_broken_before_it_begins() {
    let Some(mut cgroup) = TestCgroup::limited(128) else { return };
    let init = cgroup.sleeper();
    let mut request = request(&cgroup, init, 64, Duration::from_secs(20));
    request.base.asked = Asked::Limited(64 * MIB);
    let outcome = stressed(&request, &mut |_| {});
    assert_eq!(
        (outcome.decision.verdict, outcome.decision.reason),
        (StressVerdict::LimitBroken, Some("limit-not-applied"))
    );
    assert!(outcome.record.members.is_empty());
}

#[test]
fn the_loss_of_init_is_said_loudly() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let outcome = stressed(&request(&cgroup, init, 32, Duration::from_secs(20)), &mut |_| {
        let _ = kill(init, Signal::SIGKILL);
    });
    assert_eq!(outcome.decision.verdict, StressVerdict::InitDied, "{:?}", outcome.decision);
    assert!(rt::report::stress::conclusion(&outcome.record).contains("THE CONTAINER WAS LOST"));
}

#[test]
fn workers_that_somebody_kills_are_told_from_those_of_the_limit() {
    let Some(mut cgroup) = TestCgroup::limited(640) else { return };
    let init = cgroup.sleeper();
    // More than is filled between two samples: once all have their share, the limit was pressed, and kills do not matter.
    let request = request(&cgroup, init, 400, Duration::from_secs(1));
    let outcome = stressed(&request, &mut |_| {
        for pid in cgroup.processes().into_iter().filter(|pid| *pid != init.as_raw()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    });
    assert_eq!(outcome.decision.verdict, StressVerdict::KilledExternally, "{:?}", outcome.decision);
    let kills = summary(&outcome).kills;
    assert!(kills.external >= 4 && kills.limit == 0, "{kills:?}");
    // 100 ms before the first restart, 200 before the next: a kill loop is no fork bomb.
    assert!(outcome.record.members.iter().all(|member| member.starts <= 5), "{:?}", outcome.record.members);
}

#[test]
fn a_process_of_the_container_that_is_killed_is_said_first() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let holder = cgroup.holder(45);
    std::fs::write(format!("/proc/{holder}/oom_score_adj"), "990").unwrap();
    let mut request = request(&cgroup, init, 80, Duration::from_secs(4));
    request.base.allow_kill_container = true;
    let outcome = stressed(&request, &mut |_| {});
    assert_eq!(outcome.decision.verdict, StressVerdict::ContainerHarmed, "{:?}", outcome.decision);
    assert_eq!(outcome.record.exit_code, Some(5));
    assert_eq!(outcome.record.harmed.as_ref().unwrap().pid, Some(holder));
    assert!(summary(&outcome).others_killed >= 1);
    let told = rt::report::stress::conclusion(&outcome.record);
    assert!(told.starts_with("*** A PROCESS OF THE CONTAINER WAS KILLED ***"), "{told}");
    assert!(alive(init));
}

#[test]
fn a_limit_above_that_kills_is_named() {
    let Some(pod) = TestCgroup::limited(500) else { return };
    let mut container = pod.child("container");
    container.limit(400);
    let init = container.sleeper();
    let mut request = request(&container, init, 360, Duration::from_millis(1500));
    let mut shrunk = false;
    let outcome = stressed(&request, &mut |_| {
        // The first sample comes when little is used: v1 refuses a limit below what is used.
        if !std::mem::replace(&mut shrunk, true) {
            pod.write(["memory.limit_in_bytes", "memory.max"], &(300 * MIB).to_string());
        }
    });
    let kills = summary(&outcome).kills;
    assert!(kills.ancestor > 0 && kills.limit == 0 && kills.external == 0, "{kills:?}");
    // With the limit above tighter from the start, it is refused.
    request.base.target_bytes = Some(450 * MIB);
    let outcome = stressed(&request, &mut |_| {});
    assert_eq!(outcome.decision.reason, Some("limited-above"), "{:?}", outcome.decision);
    assert!(alive(init));
}

#[test]
fn preflight_refuses_as_it_refuses_a_proof() {
    let Some(mut cgroup) = TestCgroup::unlimited() else { return };
    let init = cgroup.sleeper();
    let mut request = request(&cgroup, init, 16, Duration::from_millis(300));
    let outcome = stressed(&request, &mut |_| {});
    assert_eq!((outcome.decision.reason, outcome.record.exit_code), (Some("unlimited"), Some(3)));
    request.base.up_to_bytes = Some(16 * MIB);
    assert_eq!(
        stressed(&request, &mut |_| {}).decision.verdict,
        StressVerdict::Held,
        "as far as it was asked to go"
    );
    cgroup.limit(64);
    let locks = tempfile::tempdir().unwrap();
    request.base.lock_dir = Some(locks.path().to_owned());
    let held = rt::proof::budget::reserve(locks.path(), &cgroup.cgroup(), MIB).unwrap().unwrap();
    assert_eq!(stressed(&request, &mut |_| {}).decision.reason, Some("busy"));
    drop(held);
    let holder = cgroup.holder(45);
    std::fs::write(format!("/proc/{holder}/oom_score_adj"), "990").unwrap();
    request.base.target_bytes = Some(64 * MIB);
    assert_eq!(stressed(&request, &mut |_| {}).decision.reason, Some("victim-unsafe"));
    assert!(cgroup.processes().contains(&holder));
}

fn command(init: Pid, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rt"));
    command.args(["stress-memory", "--pid", &init.to_string()]).args(args).stdin(Stdio::null());
    command
}

/// More than init in the cgroup.
fn at_work(cgroup: &TestCgroup) -> bool {
    cgroup.processes().len() > 4
}

#[test]
fn sigint_ends_a_stress_in_order() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let running = command(init, &["128", "60", "--format", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the workers", || at_work(&cgroup));
    let meter = rt::cgroup::Meter::open(&cgroup.cgroup()).unwrap();
    wait_until("the limit", || meter.oom_kill().unwrap() > 0);
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "what was seen so far held");
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record["verdict"], "held");
    assert!(record["sentence"].as_str().unwrap().contains("interrupted"), "{record}");
    assert_eq!(cgroup.processes(), [init.as_raw()]);
}

#[test]
fn no_worker_outlives_its_prover() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let mut running =
        command(init, &["40", "60", "--strategy", "all"]).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the workers", || at_work(&cgroup));
    running.kill().unwrap();
    running.wait().unwrap();
    wait_until("the workers to go", || cgroup.processes() == [init.as_raw()]);
    assert!(alive(init));
}

#[test]
fn wrong_words_are_wrong_usage() {
    let me = Pid::this();
    for (args, why) in [
        (["x", "1"], "bad MB"),
        (["0", "1"], "bad MB"),
        (["1", "0"], "bad SECONDS"),
        (["--strategy", "none"], "bad --strategy"),
        (["--step", "max"], "bad --step"),
    ] {
        let output = command(me, &args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(why), "{args:?}: {told}");
    }
}
