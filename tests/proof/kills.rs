//! Proofs that are disturbed: by signals, by time, by the loss of init or of the prover itself.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rt::cgroup::Version;
use rt::proof::{Verdict, prove};

use crate::cgroup::{MIB, TestCgroup, alive, needs, wait_until};
use crate::schema::proved;

/// The first process of the cgroup that is none of `known`.
fn newcomer(cgroup: &TestCgroup, known: &[Pid]) -> Option<Pid> {
    cgroup.processes().into_iter().map(Pid::from_raw).find(|pid| !known.contains(pid))
}

#[test]
fn sigkill_from_outside_is_not_an_oom() {
    let Some(mut cgroup) = TestCgroup::limited(600) else { return };
    let init = cgroup.sleeper();
    let request = cgroup.request(init);
    let outcome = prove(&request, &mut |_| {
        if let Some(worker) = newcomer(&cgroup, &[init]) {
            let _ = kill(worker, Signal::SIGKILL);
        }
    })
    .unwrap();
    assert_eq!(outcome.decision.verdict, Verdict::KilledExternally, "{:?}", outcome.decision);
    assert_eq!(outcome.record.exit_code, Some(4));
    assert!(alive(init));
}

#[test]
fn a_deadline_ends_the_proof_and_the_worker() {
    let Some(mut cgroup) = TestCgroup::limited(600) else { return };
    let init = cgroup.sleeper();
    let mut request = cgroup.request(init);
    request.timeout = Some(Duration::from_millis(1));
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::TimedOut, "{:?}", outcome.decision);
    assert_eq!(cgroup.processes(), [init.as_raw()]);
}

#[test]
fn the_loss_of_init_is_said_loudly() {
    let Some(mut cgroup) = TestCgroup::limited(600) else { return };
    let init = cgroup.sleeper();
    let outcome = prove(&cgroup.request(init), &mut |_| {
        let _ = kill(init, Signal::SIGKILL);
    })
    .unwrap();
    assert_eq!(outcome.decision.verdict, Verdict::InitDied, "{:?}", outcome.decision);
    assert!(rt::report::proof::conclusion(&outcome).contains("THE CONTAINER WAS LOST"));
}

#[test]
fn a_victim_that_grows_during_the_proof_stops_it() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let holder = cgroup.holder(45);
    let mut risked = false;
    let outcome = prove(&cgroup.request(init), &mut |_| {
        // The first sample is taken on the safe side of the limit.
        if !std::mem::replace(&mut risked, true) {
            std::fs::write(format!("/proc/{holder}/oom_score_adj"), "990").unwrap();
        }
    })
    .unwrap();
    assert_eq!(outcome.decision.reason, Some("victim-unsafe"), "{:?}", outcome.decision);
    assert!(cgroup.processes().contains(&holder) && alive(init));
}

/// The kernel takes the holder, and only then the worker.
#[test]
fn a_process_that_is_killed_beside_the_worker_is_said_first() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let holder = cgroup.holder(45);
    std::fs::write(format!("/proc/{holder}/oom_score_adj"), "990").unwrap();
    let mut request = cgroup.request(init);
    request.allow_kill_container = true;
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::ContainerHarmed, "{:?}", outcome.decision);
    assert!(outcome.decision.is_of_all_strategies());
    assert_eq!(outcome.record.exit_code, Some(5));
    let harmed = outcome.record.harmed.clone().unwrap();
    assert_eq!((harmed.pid, harmed.name.as_deref()), (Some(holder), Some("tail")));
    let told = rt::report::proof::conclusion(&outcome);
    assert!(told.starts_with("*** A PROCESS OF THE CONTAINER WAS KILLED ***"), "{told}");
    assert!(told.contains(&format!("process {holder} (tail)")), "{told}");
    assert!(alive(init));
}

#[test]
fn an_init_that_the_kernel_takes_is_the_container() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = Pid::from_raw(cgroup.holder(45));
    std::fs::write(format!("/proc/{init}/oom_score_adj"), "990").unwrap();
    let mut request = cgroup.request(init);
    request.allow_kill_container = true;
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::InitDied, "{:?}", outcome.decision);
}

/// A zombie's cgroup is the root of the hierarchy, which has no limit.
#[test]
fn an_init_that_has_ended_and_is_not_waited_for_is_stopped() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let mut request = cgroup.request(init);
    request.asked = rt::proof::Asked::Limited(64 * MIB);
    kill(init, Signal::SIGKILL).unwrap();
    wait_until("init to end", || !alive(init));
    let outcome = proved(&request);
    assert_eq!(outcome.decision.reason, Some("stopped"), "{:?}", outcome.decision);
    assert_eq!(cgroup.latest_record().exit_code, Some(3));
}

/// The worker cannot be started, and init has gone meanwhile.
#[test]
fn an_init_that_ends_before_the_worker_is_there_is_no_failure_of_the_prover() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let mut request = cgroup.request(init);
    let script = cgroup.records.path().join("worker");
    std::fs::write(&script, format!("#!/bin/sh\nkill -9 {init}\n")).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    request.worker_program = script;
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::InitDied, "{:?}", outcome.decision);
    assert_eq!(cgroup.latest_record().verdict, "init-died", "the record is final");
}

/// Changes the limit of `changed` at the first sample of a proof of `cgroup`, and says what was found.
fn proved_while_limit_becomes(cgroup: &TestCgroup, changed: &TestCgroup, init: Pid, limit: &str) -> Verdict {
    let mut done = false;
    let mut request = cgroup.request(init);
    // The first sample comes when the first side is complete, or earlier.
    request.target_bytes = Some(420 * MIB);
    let outcome = prove(&request, &mut |_| {
        if !std::mem::replace(&mut done, true) {
            changed.write(["memory.limit_in_bytes", "memory.max"], limit);
        }
    })
    .unwrap();
    assert!(done && alive(init), "{:?}", outcome.decision);
    outcome.decision.verdict
}

#[test]
fn a_limit_that_goes_away_is_not_enforced() {
    let Some(mut cgroup) = TestCgroup::limited(400) else { return };
    let init = cgroup.sleeper();
    let none = if cgroup.version == Version::V1 { "-1" } else { "max" };
    assert_eq!(proved_while_limit_becomes(&cgroup, &cgroup, init, none), Verdict::NotEnforced);
}

#[test]
fn a_limit_that_shrinks_kills_early() {
    let Some(mut cgroup) = TestCgroup::limited(400) else { return };
    let init = cgroup.sleeper();
    let less = (300 * MIB).to_string();
    assert_eq!(proved_while_limit_becomes(&cgroup, &cgroup, init, &less), Verdict::KilledEarly);
}

#[test]
fn a_limit_above_that_shrinks_kills_in_its_own_name() {
    let Some(pod) = TestCgroup::limited(500) else { return };
    let mut container = pod.child("container");
    container.limit(400);
    let init = container.sleeper();
    let less = (300 * MIB).to_string();
    assert_eq!(proved_while_limit_becomes(&container, &pod, init, &less), Verdict::KilledByAncestor);
}

#[test]
fn a_limit_that_comes_above_on_the_way_kills_in_its_own_name() {
    let Some(pod) = TestCgroup::unlimited() else { return };
    let mut container = pod.child("container");
    container.limit(400);
    let init = container.sleeper();
    let less = (300 * MIB).to_string();
    assert_eq!(proved_while_limit_becomes(&container, &pod, init, &less), Verdict::KilledByAncestor);
}

#[test]
fn memory_high_throttles() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    if cgroup.version == Version::V1 {
        return needs("cgroup v2");
    }
    cgroup.write(["", "memory.high"], &(32 * MIB).to_string());
    let init = cgroup.sleeper();
    let mut request = cgroup.request(init);
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::Throttled, "{:?}", outcome.decision);
    assert!(outcome.record.duration_us < 10_000_000, "it does not wait for the deadline");
    request.target_bytes = Some(16 * MIB);
    assert_eq!(proved(&request).decision.verdict, Verdict::WithinLimit, "below memory.high");
}

#[test]
fn swap_takes_what_is_above_the_limit() {
    let Some(mut cgroup) = TestCgroup::limited(32) else { return };
    let host = rt::proof::hostmem::Host::read().unwrap();
    if host.swap_free_bytes < 100 * MIB {
        return needs("100 MiB of free swap");
    }
    cgroup.allow_swap();
    let init = cgroup.sleeper();
    let request = cgroup.request(init);
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::SpilledToSwap, "{:?}", outcome.decision);
    // Without swap, the same limit kills.
    cgroup.forbid_swap();
    assert_eq!(proved(&request).decision.verdict, Verdict::Enforced);
}

#[test]
fn sigint_ends_a_proof_in_order() {
    let Some(mut cgroup) = TestCgroup::large() else { return };
    let init = cgroup.sleeper();
    let prover = command(init).stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the worker", || newcomer(&cgroup, &[init]).is_some());
    kill(Pid::from_raw(i32::try_from(prover.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = prover.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stdout).contains("interrupted"));
    assert_eq!(cgroup.processes(), [init.as_raw()]);
}

#[test]
fn no_worker_outlives_its_prover() {
    let Some(mut cgroup) = TestCgroup::large() else { return };
    let init = cgroup.sleeper();
    let mut prover = command(init).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the worker", || newcomer(&cgroup, &[init]).is_some());
    prover.kill().unwrap();
    assert_eq!(prover.wait().unwrap().signal(), Some(9));
    wait_until("the worker to go", || newcomer(&cgroup, &[init]).is_none());
    assert!(alive(init));
    // What the dead prover had reserved is free again.
    let outcome = proved(&{
        let mut request = cgroup.request(init);
        request.target_bytes = Some(MIB);
        request
    });
    assert_eq!(outcome.decision.verdict, Verdict::WithinLimit);
}

fn command(pid: Pid) -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_rt")));
    command.args(["test-memory", "--pid", &pid.to_string()]).stdin(Stdio::null());
    command
}
