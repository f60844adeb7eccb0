//! What a proof finds when nothing disturbs it.

use rt::proof::{Asked, Verdict, prove};

use crate::cgroup::{MIB, TestCgroup, alive, needs, read};
use crate::schema::proved;

#[test]
fn the_limit_kills_at_the_predicted_byte_and_init_lives() {
    for mib in [16, 64, 200] {
        let Some(mut cgroup) = TestCgroup::limited(mib) else { return };
        let init = cgroup.sleeper();
        let adj_before = read(format!("/proc/{init}/oom_score_adj").as_ref());
        let outcome = proved(&cgroup.request(init));
        let record = &outcome.record;
        assert_eq!(outcome.decision.verdict, Verdict::Enforced, "{:?}", outcome.decision);
        let off = record.touched_bytes.abs_diff(record.predicted_bytes.unwrap());
        let allowed = (mib * MIB / 400).max(64 * 1024) + 64 * 4096;
        assert!(off <= allowed, "{mib} MiB: {off} bytes off");
        let (before, after) = (record.counters_before.unwrap(), record.counters_after.unwrap());
        assert!(after.oom_kill > before.oom_kill && after.limit_hits > before.limit_hits);
        assert!(alive(init));
        assert_eq!(cgroup.processes(), [init.as_raw()], "no worker is left");
        assert_eq!(read(format!("/proc/{init}/oom_score_adj").as_ref()), adj_before);
    }
}

#[test]
fn the_record_is_begun_and_finished_and_can_be_read_back() {
    let Some(mut cgroup) = TestCgroup::limited(32) else { return };
    let init = cgroup.sleeper();
    let outcome = proved(&cgroup.request(init));
    assert!(outcome.record_error.is_none());
    assert_eq!(cgroup.latest_record(), outcome.record);
    let text = std::fs::read_to_string(cgroup.records.path().join(rt::proof::journal::FILE)).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["verdict"], &lines[1]["verdict"]), (&"in-progress".into(), &"enforced".into()));
    assert_eq!(lines[0]["proof"], lines[1]["proof"]);
    assert_eq!(
        (&lines[1]["schema"], &lines[1]["exit_code"], &lines[1]["worker"]["signal"]),
        (&1.into(), &0.into(), &9.into())
    );
}

#[test]
fn less_than_the_headroom_fits() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    for mib in [1, 32, 60] {
        let mut request = cgroup.request(init);
        request.target_bytes = Some(mib * MIB);
        let outcome = proved(&request);
        assert_eq!(outcome.decision.verdict, Verdict::WithinLimit, "{mib}: {:?}", outcome.decision);
        assert_eq!(outcome.record.touched_bytes, mib * MIB);
        assert_eq!(outcome.record.counters_after.unwrap().oom_kill, 0);
    }
}

#[test]
fn a_proof_can_be_made_again_and_again() {
    let Some(mut cgroup) = TestCgroup::limited(24) else { return };
    let init = cgroup.sleeper();
    let descriptors = || std::fs::read_dir("/proc/self/task").map(|d| d.count()).unwrap_or(0);
    let before = descriptors();
    for round in 0..20 {
        let outcome = proved(&cgroup.request(init));
        assert_eq!(outcome.decision.verdict, Verdict::Enforced, "round {round}: {:?}", outcome.decision);
    }
    assert!(descriptors() <= before + 8);
    assert_eq!(cgroup.processes(), [init.as_raw()]);
}

#[test]
fn a_limit_that_was_not_applied_is_found_without_writing_a_byte() {
    let Some(mut cgroup) = TestCgroup::unlimited() else { return };
    let init = cgroup.sleeper();
    let mut request = cgroup.request(init);
    request.asked = Asked::Limited(64 * MIB);
    let outcome = proved(&request);
    assert_eq!(
        (outcome.decision.verdict, outcome.decision.reason),
        (Verdict::NotEnforced, Some("limit-not-applied"))
    );
    assert_eq!((outcome.record.touched_bytes, outcome.record.worker), (0, None));
    cgroup.limit(128);
    assert_eq!(proved(&request).decision.reason, Some("limit-not-applied"), "larger than asked for");
    cgroup.limit(64);
    assert_eq!(proved(&request).decision.verdict, Verdict::Enforced);
}

#[test]
fn a_busy_neighbour_in_the_container_changes_the_prediction_not_the_verdict() {
    let Some(mut cgroup) = TestCgroup::limited(96) else { return };
    let init = cgroup.sleeper();
    let holder = cgroup.holder(40);
    let outcome = proved(&cgroup.request(init));
    assert_eq!(outcome.decision.verdict, Verdict::Enforced, "{:?}", outcome.decision);
    assert!(outcome.record.touched_bytes < 57 * MIB);
    assert!(alive(init) && cgroup.processes().contains(&holder), "the worker died, nobody else");
}

#[test]
fn page_cache_of_the_container_gives_way() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = dir.path().join("cached");
    let init = cgroup.start(&format!("head -c 40M /dev/zero > '{}'; exec sleep 1000", file.display()));
    crate::cgroup::wait_until("the file", || file.metadata().is_ok_and(|m| m.len() == 40 * MIB));
    nix::unistd::sync();
    let outcome = proved(&cgroup.request(init));
    assert_eq!(outcome.decision.verdict, Verdict::Enforced, "{:?}", outcome.decision);
    assert!(outcome.record.touched_bytes > outcome.record.predicted_bytes.unwrap() - MIB);
}

#[test]
fn what_page_cache_made_room_for_is_too_close_to_say() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = dir.path().join("cached");
    let init = cgroup.start(&format!("head -c 40M /dev/zero > '{}'; exec sleep 1000", file.display()));
    crate::cgroup::wait_until("the file", || file.metadata().is_ok_and(|m| m.len() == 40 * MIB));
    nix::unistd::sync();
    let mut request = cgroup.request(init);
    request.target_bytes = Some(48 * MIB);
    let outcome = proved(&request);
    assert!(outcome.record.predicted_bytes.unwrap() < 48 * MIB, "more than fits beside the page cache");
    assert_eq!(outcome.decision.verdict, Verdict::TooClose, "{:?}", outcome.decision);
    assert_eq!((outcome.record.exit_code, outcome.record.touched_bytes), (Some(4), 48 * MIB));
}

#[test]
fn proofs_of_two_containers_run_side_by_side() {
    let (Some(mut one), Some(mut two)) = (TestCgroup::limited(200), TestCgroup::limited(200)) else { return };
    let locks = tempfile::tempdir().unwrap();
    let requests = [&mut one, &mut two].map(|cgroup| {
        let init = cgroup.sleeper();
        let mut request = cgroup.request(init);
        request.lock_dir = Some(locks.path().to_owned());
        request
    });
    let [first, second] = requests;
    let mut beside = None;
    let outcome = prove(&first, &mut |_| {
        beside.get_or_insert_with(|| {
            let reserved = rt::proof::budget::reserved(locks.path());
            (reserved, proved(&second).decision.verdict)
        });
    })
    .unwrap();
    let (reserved, verdict) = beside.expect("a sample");
    assert_eq!((outcome.decision.verdict, verdict), (Verdict::Enforced, Verdict::Enforced));
    assert_eq!(reserved, rt::proof::plan::crossing(200 * MIB), "what the first may take is reserved");
    assert_eq!(rt::proof::budget::reserved(locks.path()), 0);
}

#[test]
fn a_v1_limit_that_memory_and_swap_share_is_enforced() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let swap = cgroup.dir.join("memory.memsw.limit_in_bytes");
    if !swap.exists() {
        return needs("cgroup v1 with swap accounting");
    }
    std::fs::write(swap, (64 * MIB).to_string()).unwrap();
    let init = cgroup.sleeper();
    let outcome = proved(&cgroup.request(init));
    assert_eq!(outcome.decision.verdict, Verdict::Enforced, "{:?}", outcome.decision);
}
