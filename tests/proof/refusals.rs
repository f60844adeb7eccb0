//! Each refusal by the kernel state that causes it; nothing is written into the container.

use std::fs;

use nix::unistd::Pid;
use rt::cgroup::Version;
use rt::proof::{Asked, Outcome, Reason, Strategy, Verdict};

use crate::cgroup::{MIB, TestCgroup, alive, needs};
use crate::schema::proved;

#[track_caller]
fn assert_refused(outcome: &Outcome, reason: Reason) {
    assert_eq!(outcome.decision.verdict, Verdict::Refused, "{:?}", outcome.decision);
    assert_eq!(outcome.decision.reason, Some(reason.name()), "{:?}", outcome.decision);
    assert_eq!((outcome.record.touched_bytes, outcome.record.worker), (0, None));
    assert_eq!(outcome.record.exit_code, Some(3));
}

#[test]
fn stopped() {
    let Some(cgroup) = TestCgroup::limited(64) else { return };
    let gone = Pid::from_raw(i32::MAX - 1);
    assert_refused(&proved(&cgroup.request(gone)), Reason::Stopped);
}

#[test]
fn paused() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let freezer = rt::cgroup::locate(init.as_raw(), "freezer").unwrap();
    let (dir, file, on, off) = match freezer.version {
        Version::V1 => {
            let dir = freezer.mount.join(cgroup.dir.file_name().unwrap());
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("cgroup.procs"), init.to_string()).unwrap();
            (Some(dir.clone()), dir.join("freezer.state"), "FROZEN", "THAWED")
        }
        Version::V2 => (None, freezer.dir.join("cgroup.freeze"), "1", "0"),
    };
    fs::write(&file, on).unwrap();
    crate::cgroup::wait_until("the freezer", || rt::cgroup::freezer::frozen(init.as_raw()).unwrap());
    let outcome = proved(&cgroup.request(init));
    fs::write(&file, off).unwrap();
    assert_refused(&outcome, Reason::Paused);
    drop(cgroup);
    if let Some(dir) = dir {
        crate::cgroup::wait_until("the freezer's folder to go", || fs::remove_dir(&dir).is_ok());
    }
}

#[test]
fn unlimited() {
    let Some(mut cgroup) = TestCgroup::unlimited() else { return };
    let init = cgroup.sleeper();
    let mut request = cgroup.request(init);
    request.asked = Asked::Unlimited;
    assert_refused(&proved(&request), Reason::Unlimited);
    request.up_to_bytes = Some(16 * MIB);
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::WithinLimit, "{:?}", outcome.decision);
    assert_eq!(outcome.record.touched_bytes, 16 * MIB);
}

#[test]
fn host_unsafe() {
    let Some(mut cgroup) = TestCgroup::limited(1 << 30) else { return };
    let init = cgroup.sleeper();
    assert_refused(&proved(&cgroup.request(init)), Reason::HostUnsafe);
}

#[test]
fn host_unsafe_beside_a_running_proof() {
    let (Some(mut cgroup), Some(other)) = (TestCgroup::limited(64), TestCgroup::limited(64)) else { return };
    let init = cgroup.sleeper();
    let locks = tempfile::tempdir().unwrap();
    let mut request = cgroup.request(init);
    request.lock_dir = Some(locks.path().to_owned());
    let host = rt::proof::hostmem::Host::read().unwrap();
    // A proof of another container that may take all the host can spare.
    let all = host.mem_available_bytes - host.reserve_bytes();
    let held = rt::proof::budget::reserve(locks.path(), &other.cgroup(), all).unwrap().unwrap();
    let outcome = proved(&request);
    assert_refused(&outcome, Reason::HostUnsafe);
    assert!(outcome.decision.sentence.contains("reserved by running proofs"), "{:?}", outcome.decision);
    drop(held);
    assert_eq!(proved(&request).decision.verdict, Verdict::Enforced);
}

#[test]
fn group_kill() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    if cgroup.version == Version::V1 {
        needs("cgroup v2");
        return;
    }
    let init = cgroup.sleeper();
    fs::write(cgroup.dir.join("memory.oom.group"), "1").unwrap();
    let mut request = cgroup.request(init);
    assert_refused(&proved(&request), Reason::GroupKill);
    assert!(alive(init));
    request.allow_kill_container = true;
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::InitDied, "{:?}", outcome.decision);
    assert_eq!(outcome.record.exit_code, Some(5));
}

#[test]
fn victim_unsafe() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let holder = cgroup.holder(45);
    fs::write(format!("/proc/{holder}/oom_score_adj"), "990").unwrap();
    assert_refused(&proved(&cgroup.request(init)), Reason::VictimUnsafe);
    assert!(alive(init) && cgroup.processes().contains(&holder));
    fs::write(format!("/proc/{holder}/oom_score_adj"), "0").unwrap();
    assert_eq!(proved(&cgroup.request(init)).decision.verdict, Verdict::Enforced);
    assert!(cgroup.processes().contains(&holder));
}

/// The kernel's bonus for the worker is in whole thousands of pages: 976 less than this limit.
#[test]
fn victim_unsafe_of_a_process_that_holds_nearly_all() {
    let Some(mut cgroup) = TestCgroup::limited(121) else { return };
    let init = cgroup.sleeper();
    let holder = cgroup.holder(117);
    for strategy in [Strategy::Sequential, Strategy::Shm, Strategy::Fork] {
        let request = rt::proof::Request { strategy, ..cgroup.request(init) };
        let outcome = proved(&request);
        assert_refused(&outcome, Reason::VictimUnsafe);
        let hint = outcome.decision.hint.unwrap();
        assert!(!hint.contains("lower its oom_score_adj"), "it has 0: {hint}");
    }
    assert!(alive(init) && cgroup.processes().contains(&holder));
}

#[test]
fn oom_disabled() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    if cgroup.version == Version::V2 {
        needs("cgroup v1");
        return;
    }
    let init = cgroup.sleeper();
    fs::write(cgroup.dir.join("memory.oom_control"), "1").unwrap();
    let mut request = cgroup.request(init);
    assert_refused(&proved(&request), Reason::OomDisabled);
    request.target_bytes = Some(16 * MIB);
    assert_eq!(proved(&request).decision.verdict, Verdict::WithinLimit, "below the limit nothing hangs");
}

#[test]
fn limited_above() {
    let Some(pod) = TestCgroup::limited(64) else { return };
    let mut container = pod.child("container");
    let init = container.sleeper();
    let mut request = container.request(init);
    assert_refused(&proved(&request), Reason::LimitedAbove);
    request.asked = Asked::Limited(64 * MIB);
    assert_eq!(proved(&request).decision.verdict, Verdict::Enforced, "the limit above is the one asked for");
}

#[test]
fn limited_above_by_siblings() {
    let Some(pod) = TestCgroup::limited(100) else { return };
    let mut sibling = pod.child("sibling");
    sibling.sleeper();
    let holder = sibling.holder(60);
    let mut container = pod.child("container");
    container.limit(64);
    let init = container.sleeper();
    assert_refused(&proved(&container.request(init)), Reason::LimitedAbove);
    assert!(sibling.processes().contains(&holder));
}

#[test]
fn busy() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let locks = tempfile::tempdir().unwrap();
    let mut request = cgroup.request(init);
    request.lock_dir = Some(locks.path().to_owned());
    let held = rt::proof::budget::reserve(locks.path(), &cgroup.cgroup(), MIB).unwrap().unwrap();
    assert_refused(&proved(&request), Reason::Busy);
    drop(held);
    assert_eq!(proved(&request).decision.verdict, Verdict::Enforced);
    let left: Vec<_> = fs::read_dir(locks.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["lock"], "no reservation is left");
}
