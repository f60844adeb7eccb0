//! Tables of measured and imagined runs under a limit of 64 MiB.

use std::time::Duration;

use super::*;
use crate::cgroup::Counters;
use crate::proof::Sample;
use crate::proof::harm::Harmed;
use crate::proof::scratch::Medium;
use crate::proof::strategy::Strategy;
use crate::proof::worker::Stage;
use crate::units::MIB;

const LIMIT: u64 = 64 * MIB;
const UNSAFE: Stop = Stop::VictimUnsafe { pid: 7, held_bytes: 60 * MIB, oom_score_adj: 0 };

fn plan(target: u64) -> Plan {
    let mut plan = Plan {
        strategy: Strategy::Sequential,
        medium: None,
        step_bytes: MIB,
        target_bytes: target,
        ceiling_bytes: target,
        limit_bytes: Some(LIMIT),
        high_bytes: None,
        usage_before_bytes: 0,
        reclaimable_bytes: 0,
        swap_room_bytes: 0,
        predicted_bytes: None,
        within_bytes: 0,
        page_size: 4096,
        noise_bytes: 64 * 4096 * 2,
        deadline: Duration::from_secs(10),
    };
    plan.rebase(0);
    plan
}

/// A worker that the limit killed after `touched` bytes.
fn killed(touched: u64) -> Evidence {
    Evidence {
        stop: Stop::WorkerEnded,
        worker_end: WorkerEnd::Signal(9),
        touched_bytes: touched,
        within: None,
        init_alive: true,
        harmed: None,
        before: Counters::default(),
        after: Counters { oom_kill: 1, limit_hits: 36, ..Counters::default() },
        limiter_hits: 36,
        limiter_silent: false,
        ancestor_hits: 0,
        refusals: None,
        swapped_bytes: 0,
        others_grew_bytes: 0,
        samples: Vec::new(),
    }
}

/// A worker that wrote all it should and lived.
fn lived(touched: u64) -> Evidence {
    Evidence { stop: Stop::Filled, after: Counters::default(), limiter_hits: 0, ..killed(touched) }
}

fn stopped(stop: Stop) -> Evidence {
    Evidence { stop, ..lived(10 * MIB) }
}

/// A run of the `file` strategy on a disk, with this usage at most.
fn cached(touched: u64, highest: u64) -> (Plan, Evidence) {
    let mut plan = plan(touched);
    (plan.strategy, plan.medium) = (Strategy::File, Some(Medium::Disk));
    let samples = vec![Sample { at_us: 1, touched_bytes: touched, usage_bytes: highest }];
    (plan, Evidence { samples, limiter_hits: 9, ..lived(touched) })
}

#[test]
fn a_limiter_whose_hits_are_not_counted_is_judged_by_the_byte() {
    let at = |touched| Evidence { limiter_hits: 0, limiter_silent: true, ..killed(touched) };
    let plan = plan(80 * MIB);
    let predicted = plan.predicted_bytes.unwrap();
    assert_eq!(verdict(&plan, &at(predicted)).0, Verdict::Enforced);
    assert_eq!(verdict(&plan, &at(40 * MIB)).0, Verdict::KilledEarly);
    let above = Evidence { ancestor_hits: 1, ..at(40 * MIB) };
    assert_eq!(verdict(&plan, &above).0, Verdict::KilledByAncestor);
}

#[test]
fn page_cache_is_held_by_reclaim_where_the_limit_was_hit_and_held() {
    let (plan, evidence) = cached(80 * MIB, LIMIT);
    assert_eq!(verdict(&plan, &evidence), (Verdict::HeldByReclaim, None));
    let (plan, evidence) = cached(80 * MIB, LIMIT + 3 * MIB);
    assert_eq!(verdict(&plan, &evidence), (Verdict::NotEnforced, Some("limit-exceeded")));
    let (plan, evidence) = cached(80 * MIB, 30 * MIB);
    let never_hit = Evidence { limiter_hits: 0, ..evidence };
    assert_eq!(verdict(&plan, &never_hit), (Verdict::TooClose, Some("cache-not-kept")));
    let (plan, evidence) = cached(80 * MIB, LIMIT - MIB);
    let silent = Evidence { limiter_hits: 0, limiter_silent: true, ..evidence };
    assert_eq!(verdict(&plan, &silent), (Verdict::HeldByReclaim, None));
    let (plan, _) = cached(80 * MIB, LIMIT);
    assert_eq!(verdict(&plan, &killed(75 * MIB)).0, Verdict::Enforced, "reclaim gave some back first");
    assert_eq!(verdict(&plan, &killed(20 * MIB)).0, Verdict::KilledEarly);
}

fn verdict(plan: &Plan, evidence: &Evidence) -> (Verdict, Option<&'static str>) {
    let decision = decide(plan, evidence);
    (decision.verdict, decision.reason)
}

#[test]
fn measured_deaths_are_enforced() {
    // v1 and v2 of kernel-memory-facts, and this host with a residue of 240 KiB in use.
    for touched in [66_973_696, 66_961_408, 66_797_568, LIMIT - MIB] {
        assert_eq!(verdict(&plan(80 * MIB), &killed(touched)), (Verdict::Enforced, None), "{touched}");
    }
}

#[test]
fn a_process_of_the_container_that_was_killed_comes_before_all_but_init() {
    let harmed = Harmed { pid: Some(7), name: Some("tail".into()) };
    for evidence in [killed(66_973_696), lived(80 * MIB), stopped(Stop::Deadline)] {
        let harmed = Evidence { harmed: Some(harmed.clone()), ..evidence };
        let decision = decide(&plan(80 * MIB), &harmed);
        assert_eq!((decision.verdict, decision.verdict.exit().0), (Verdict::ContainerHarmed, 5));
        assert!(decision.sentence.contains("process 7 (tail)"), "{}", decision.sentence);
        let lost = Evidence { init_alive: false, ..harmed };
        assert_eq!(verdict(&plan(80 * MIB), &lost).0, Verdict::InitDied);
    }
    let unknown = Evidence { harmed: Some(Harmed::default()), ..killed(66_973_696) };
    assert!(decide(&plan(80 * MIB), &unknown).sentence.starts_with("a process of the container"));
}

/// A container with 62 MiB of page cache, of which reclaim takes back as much as is asked for.
#[test]
fn hits_that_reclaim_made_room_for_do_not_say_who_killed() {
    let mut full = plan(80 * MIB);
    full.reclaimable_bytes = 62 * MIB;
    full.rebase(LIMIT - 100 * 1024);
    let by_hits = |touched| Evidence { ancestor_hits: 900, limiter_hits: 5000, ..killed(touched) };
    assert_eq!(verdict(&full, &by_hits(47 * MIB)), (Verdict::KilledByAncestor, Some("limit-not-hit")));
    assert_eq!(verdict(&full, &by_hits(61 * MIB)).0, Verdict::Enforced);
    let told = |refusals, touched| Evidence { refusals: Some(refusals), ..by_hits(touched) };
    assert_eq!(verdict(&full, &told([0, 2], 61 * MIB)).0, Verdict::KilledByAncestor);
    assert_eq!(verdict(&full, &told([2, 0], 61 * MIB)).0, Verdict::Enforced);
    assert_eq!(verdict(&full, &told([0, 0], 61 * MIB)).0, Verdict::KilledExternally);
}

#[test]
fn a_group_kill_counts_twice_and_is_still_one_death() {
    let mut evidence = killed(66_973_696);
    evidence.after.oom_kill = 2;
    assert_eq!(verdict(&plan(80 * MIB), &evidence).0, Verdict::Enforced);
}

#[test]
fn a_death_far_from_the_prediction_is_early_unless_others_grew() {
    let mut evidence = killed(40 * MIB);
    assert_eq!(verdict(&plan(80 * MIB), &evidence).0, Verdict::KilledEarly);
    evidence.others_grew_bytes = 23 * MIB;
    assert_eq!(verdict(&plan(80 * MIB), &evidence).0, Verdict::Enforced);
    // A busy container may have used more between two samples: what counts is that the limit was hit.
    evidence.others_grew_bytes = 5 * MIB;
    assert_eq!(verdict(&plan(80 * MIB), &evidence).0, Verdict::Enforced);
    evidence.limiter_hits = 0;
    evidence.limiter_silent = true;
    assert_eq!(verdict(&plan(80 * MIB), &evidence).0, Verdict::KilledEarly);
}

#[test]
fn a_death_far_above_the_limit_is_no_enforcement() {
    assert_eq!(verdict(&plan(80 * MIB), &killed(70 * MIB)), (Verdict::NotEnforced, Some("killed-late")));
    let mut in_swap = killed(70 * MIB);
    in_swap.swapped_bytes = 8 * MIB;
    assert_eq!(verdict(&plan(80 * MIB), &in_swap).0, Verdict::Enforced, "the rest was in swap");
}

#[test]
fn sigkill_from_outside_is_not_an_oom() {
    let mut evidence = killed(30 * MIB);
    evidence.after.oom_kill = 0;
    assert_eq!(verdict(&plan(80 * MIB), &evidence).0, Verdict::KilledExternally);
    evidence.worker_end = WorkerEnd::Signal(15);
    assert_eq!(verdict(&plan(80 * MIB), &evidence).0, Verdict::KilledExternally);
}

#[test]
fn a_kill_without_a_hit_of_the_limit_came_from_elsewhere() {
    let mut evidence = killed(30 * MIB);
    evidence.limiter_hits = 0;
    assert_eq!(verdict(&plan(80 * MIB), &evidence), (Verdict::KilledExternally, Some("limit-not-hit")));
    evidence.ancestor_hits = 1;
    assert_eq!(verdict(&plan(80 * MIB), &evidence), (Verdict::KilledByAncestor, Some("limit-not-hit")));
}

#[test]
fn survivors_are_told_apart_by_where_they_are() {
    for (target, want) in [
        (32 * MIB, Verdict::WithinLimit),
        (62 * MIB, Verdict::WithinLimit),
        (64 * MIB, Verdict::TooClose),
        (66 * MIB, Verdict::TooClose),
        (67 * MIB, Verdict::NotEnforced),
        (80 * MIB, Verdict::NotEnforced),
    ] {
        assert_eq!(verdict(&plan(target), &lived(target)).0, want, "{} MiB", target / MIB);
    }
    let swapped = Evidence { swapped_bytes: 16 * MIB, ..lived(80 * MIB) };
    assert_eq!(verdict(&plan(80 * MIB), &swapped).0, Verdict::SpilledToSwap);
}

#[test]
fn without_a_limit_survival_is_within_it() {
    let unlimited = Plan { limit_bytes: None, predicted_bytes: None, ..plan(32 * MIB) };
    assert_eq!(verdict(&unlimited, &lived(32 * MIB)), (Verdict::WithinLimit, Some("unlimited")));
}

#[test]
fn writing_that_nobody_counts_is_found() {
    let check = |usage_after_bytes| WithinCheck {
        written_bytes: 32 * MIB,
        usage_before_bytes: MIB,
        usage_after_bytes,
        worker_bytes: 32 * MIB,
    };
    let with = |after| Evidence { within: Some(check(after)), ..lived(32 * MIB) };
    let plan = plan(32 * MIB);
    assert_eq!(verdict(&plan, &with(33 * MIB)).0, Verdict::WithinLimit);
    assert_eq!(verdict(&plan, &with(32 * MIB)).0, Verdict::WithinLimit, "others freed 1 MiB meanwhile");
    assert_eq!(verdict(&plan, &with(2 * MIB)), (Verdict::NotEnforced, Some("not-accounted")));
}

#[test]
fn the_containers_init_comes_before_everything() {
    let mut evidence = killed(66_973_696);
    evidence.init_alive = false;
    assert_eq!(verdict(&plan(80 * MIB), &evidence).0, Verdict::InitDied);
    assert_eq!(verdict(&plan(80 * MIB), &stopped(Stop::InitEnded)).0, Verdict::InitDied);
}

#[test]
fn each_way_to_stop_has_its_verdict() {
    let plan = plan(80 * MIB);
    assert_eq!(verdict(&plan, &stopped(Stop::Deadline)).0, Verdict::TimedOut);
    assert_eq!(verdict(&plan, &stopped(Stop::Throttled)).0, Verdict::Throttled);
    assert_eq!(verdict(&plan, &stopped(Stop::Interrupted)).0, Verdict::Interrupted);
    assert_eq!(verdict(&plan, &stopped(UNSAFE)), (Verdict::Refused, Some("victim-unsafe")));
    let failed = stopped(Stop::WorkerFailed { stage: Stage::Fill, errno: 12 });
    assert_eq!(verdict(&plan, &failed), (Verdict::ProverFailed, Some("worker-failed")));
    let exited = Evidence { worker_end: WorkerEnd::Exit(0), ..killed(MIB) };
    assert_eq!(verdict(&plan, &exited).0, Verdict::ProverFailed);
}

#[test]
fn a_deadline_under_memory_high_is_throttling() {
    let high = Plan { high_bytes: Some(50 * MIB), ..plan(80 * MIB) };
    let mut evidence = stopped(Stop::Deadline);
    assert_eq!(verdict(&high, &evidence).0, Verdict::TimedOut);
    evidence.after.high = 40;
    assert_eq!(verdict(&high, &evidence).0, Verdict::Throttled);
}

/// `decide` is total: whatever was seen, there is a verdict with an exit code of the list, and 137 is none of them.
#[test]
fn every_evidence_has_a_verdict() {
    let stops = [
        Stop::WorkerEnded,
        Stop::Filled,
        Stop::Deadline,
        Stop::Throttled,
        Stop::Interrupted,
        UNSAFE,
        Stop::InitEnded,
        Stop::WorkerFailed { stage: Stage::Verify, errno: 0 },
    ];
    let ends = [WorkerEnd::Exit(0), WorkerEnd::Exit(1), WorkerEnd::Signal(9), WorkerEnd::Signal(11)];
    let amounts = [0, MIB, LIMIT, u64::MAX / 4];
    for (stop, worker_end) in stops.into_iter().flat_map(|s| ends.map(|e| (s, e))) {
        for (touched, target) in amounts.into_iter().flat_map(|t| amounts.map(|a| (t, a))) {
            for counts in 0..16u64 {
                let evidence = Evidence {
                    stop,
                    worker_end,
                    touched_bytes: touched,
                    init_alive: counts & 1 == 0,
                    after: Counters { oom_kill: counts >> 1 & 1, high: counts >> 3, ..Counters::default() },
                    limiter_hits: counts >> 2 & 1,
                    ..killed(touched)
                };
                for plan in [plan(target), Plan { limit_bytes: None, predicted_bytes: None, ..plan(target) }]
                {
                    let code = decide(&plan, &evidence).verdict.exit().0;
                    assert!([0, 1, 3, 4, 5, 125].contains(&code), "{code}");
                }
            }
        }
    }
}

#[test]
fn names_are_unique_and_what_json_has() {
    let mut names: Vec<_> = Verdict::ALL.map(Verdict::name).to_vec();
    for verdict in Verdict::ALL {
        assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Verdict::ALL.len());
}

#[test]
fn the_worst_verdict_counts() {
    use Verdict::{Enforced, InitDied, NotEnforced, WithinLimit};
    assert_eq!(Verdict::worst([NotEnforced, Enforced]), Some(NotEnforced));
    assert_eq!(Verdict::worst([NotEnforced, InitDied, Enforced]), Some(InitDied));
    assert_eq!(Verdict::worst([Enforced, WithinLimit]), Some(Enforced), "of equally good ones the first");
    assert_eq!(Verdict::worst([]), None);
}
