//! Each refusal from the facts that cause it, beside facts that do not.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::*;
use crate::cgroup::{Counters, Limiter, Location, MemoryCgroup, Version};
use crate::proof::facts::{Above, Container};
use crate::proof::hostmem::Host;
use crate::proof::request::Subject;
use crate::units::MIB;

const GIB: u64 = 1024 * MIB;

fn cgroup(name: &str) -> MemoryCgroup {
    let mount = PathBuf::from("/nowhere");
    MemoryCgroup { version: Version::V2, dir: mount.join(name), mount }
}

/// A container limited to 64 MiB on a host with plenty.
fn facts() -> Facts {
    let own = cgroup("pod/web");
    Facts {
        host: Host {
            kernel: "6.18".into(),
            mem_total_bytes: 16 * GIB,
            mem_available_bytes: 8 * GIB,
            swap_free_bytes: 0,
            page_size: 4096,
            cpus: 2,
            panic_on_oom: 0,
        },
        status: Status::Live,
        init: Some(Pid::from_raw(1)),
        accounting: Some(Accounting {
            location: Location {
                version: Version::V2,
                path: "/pod/web".into(),
                mount: own.mount.clone(),
                dir: own.dir.clone(),
            },
            limiter: Some(Limiter { cgroup: own.clone(), limit_bytes: 64 * MIB, own: true }),
            cgroup: own,
            limit_bytes: Some(64 * MIB),
            high_bytes: None,
            swap_limit_bytes: None,
            swap_room_bytes: 0,
            oom_group: None,
            oom_disabled: false,
            holds_prover: false,
            reclaimable_bytes: 0,
            counters: Counters::default(),
            above: Vec::new(),
            cpu_share: None,
            container: None,
        }),
        candidates: Vec::new(),
        lockable_bytes: u64::MAX,
    }
}

fn request() -> Request {
    Request::new(Subject::of_process(Pid::from_raw(1)), Asked::Limited(64 * MIB))
}

fn reasons(facts: &Facts, request: &Request) -> Vec<Reason> {
    let plan = Plan::make(facts, request);
    refusals(facts, request, plan.as_ref(), 0).into_iter().map(|refusal| refusal.reason).collect()
}

fn with(change: impl FnOnce(&mut Facts, &mut Accounting)) -> Facts {
    let mut facts = facts();
    let mut accounting = facts.accounting.take().unwrap();
    change(&mut facts, &mut accounting);
    facts.accounting = Some(accounting);
    facts
}

fn asking(target_bytes: u64) -> Request {
    Request { target_bytes: Some(target_bytes), ..request() }
}

#[test]
fn nothing_is_refused_on_a_healthy_container() {
    assert_eq!(reasons(&facts(), &request()), []);
}

#[test]
fn paused_and_stopped_containers_are_refused() {
    assert_eq!(reasons(&with(|f, _| f.status = Status::Paused), &request()), [Reason::Paused]);
    let gone = Facts { status: Status::Stopped, accounting: None, ..facts() };
    assert_eq!(reasons(&gone, &request()), [Reason::Stopped]);
}

#[test]
fn without_a_limit_only_up_to_makes_a_proof() {
    let unlimited = with(|_, a| (a.limiter, a.limit_bytes) = (None, None));
    let asked = Request { asked: Asked::Unlimited, ..request() };
    assert_eq!(reasons(&unlimited, &asked), [Reason::Unlimited]);
    let up_to = Request { up_to_bytes: Some(64 * GIB), ..asked };
    assert_eq!(reasons(&unlimited, &up_to), []);
    let plan = Plan::make(&unlimited, &up_to).unwrap();
    assert_eq!(plan.target_bytes, 4 * GIB, "capped at half of what the host has");
}

#[test]
fn a_hook_does_not_prove_the_cgroup_of_its_engine() {
    let shared = with(|_, a| a.holds_prover = true);
    assert_eq!(reasons(&shared, &Request { trigger: Trigger::Hook, ..request() }), [Reason::SharedCgroup]);
    assert_eq!(reasons(&shared, &request()), [], "who names it on the command line means it");
}

#[test]
fn a_host_without_room_is_not_risked() {
    let short = with(|f, _| f.host.mem_available_bytes = 5 * 16 * GIB / 100 + 60 * MIB);
    assert_eq!(reasons(&short, &request()), [Reason::HostUnsafe]);
    assert_eq!(reasons(&short, &asking(50 * MIB)), []);
    let panics = with(|f, _| f.host.panic_on_oom = 2);
    assert_eq!(reasons(&panics, &request()), [Reason::HostUnsafe]);
    assert_eq!(reasons(&panics, &asking(32 * MIB)), [], "nothing is killed below the limit");
}

#[test]
fn running_proofs_are_summed() {
    let (facts, request) = (facts(), request());
    let plan = Plan::make(&facts, &request).unwrap();
    let told = refusals(&facts, &request, Some(&plan), 7 * GIB + 900 * MIB);
    assert_eq!(told[0].reason, Reason::HostUnsafe);
    assert!(told[0].sentence.contains("running proofs"), "{}", told[0].sentence);
}

#[test]
fn at_most_half_of_the_free_swap_is_used() {
    let swap = |free| {
        with(move |f, a| {
            f.host.swap_free_bytes = free;
            a.swap_room_bytes = free;
        })
    };
    assert_eq!(reasons(&swap(20 * MIB), &request()), [Reason::HostUnsafe]);
    assert_eq!(reasons(&swap(40 * MIB), &request()), []);
}

#[test]
fn an_absurd_target_is_cut_before_it_can_hurt() {
    let plan = Plan::make(&facts(), &asking(1024 * GIB)).unwrap();
    assert_eq!((plan.target_bytes, plan.ceiling_bytes), (1024 * GIB, 80 * MIB));
    assert_eq!(reasons(&facts(), &asking(1024 * GIB)), []);
}

#[test]
fn a_group_kill_is_refused_unless_allowed_or_not_reached() {
    let group = with(|_, a| a.oom_group = Some("/pod/web".into()));
    assert_eq!(reasons(&group, &request()), [Reason::GroupKill]);
    assert_eq!(reasons(&group, &asking(32 * MIB)), []);
    assert_eq!(reasons(&group, &Request { allow_kill_container: true, ..request() }), []);
}

#[test]
fn a_likelier_victim_is_refused() {
    let init = |mib, adj| {
        with(move |f, a| {
            f.candidates = vec![Candidate {
                pid: 7,
                started: 0,
                name: "a".into(),
                group: 0,
                bytes: mib * MIB,
                drift_bytes: MIB / 2,
                oom_score_adj: adj,
            }];
            a.counters.usage_bytes = mib * MIB;
        })
    };
    // The usage of a limiter that does not exist cannot be read, so the worker is credited with the whole limit;
    // the measured table itself is tested in `victims`.
    assert_eq!(reasons(&init(63, 999), &request()), [Reason::VictimUnsafe]);
    assert_eq!(reasons(&init(50, 0), &request()), []);
    assert_eq!(reasons(&init(63, 999), &Request { allow_kill_container: true, ..request() }), []);
}

#[test]
fn the_v1_killer_that_is_off_is_refused_even_if_killing_is_allowed() {
    let off = with(|_, a| a.oom_disabled = true);
    let request = Request { allow_kill_container: true, ..request() };
    assert_eq!(reasons(&off, &request), [Reason::OomDisabled]);
}

#[test]
fn a_tighter_limit_above_is_refused_unless_it_is_the_one_asked_for() {
    let above = with(|_, a| {
        a.limit_bytes = None;
        a.limiter = Some(Limiter { cgroup: cgroup("pod"), limit_bytes: 64 * MIB, own: false });
    });
    let other = Request { asked: Asked::Unknown, ..request() };
    assert_eq!(reasons(&above, &other), [Reason::LimitedAbove]);
    assert_eq!(reasons(&above, &request()), [], "init lives in a leaf below the container's own cgroup");
}

#[test]
fn an_ancestor_that_would_be_full_first_is_refused() {
    let room = |room_bytes| {
        with(move |_, a| a.above = vec![Above { name: "/pod".into(), limit_bytes: GIB, room_bytes }])
    };
    assert_eq!(reasons(&room(40 * MIB), &request()), [Reason::LimitedAbove]);
    assert_eq!(reasons(&room(40 * MIB), &asking(32 * MIB)), []);
    assert_eq!(reasons(&room(64 * MIB), &request()), []);
}

#[test]
fn a_limit_that_the_container_sets_below_its_own_is_no_proof_of_that() {
    let gone_into = |limit_bytes, own_bytes| {
        with(move |_, a| {
            a.limiter = Some(Limiter { cgroup: cgroup("pod/web/below"), limit_bytes, own: true });
            a.container = Some(Container { cgroup: cgroup("pod/web"), limit_bytes: own_bytes });
        })
    };
    assert_eq!(reasons(&gone_into(20 * MIB, Some(64 * MIB)), &request()), [Reason::LimitedBelow]);
    assert_eq!(reasons(&gone_into(64 * MIB, Some(64 * MIB)), &request()), []);
    let lifted = gone_into(20 * MIB, None);
    assert_eq!(lifted.accounting.unwrap().container_limit(), None, "which is not what was asked for");
}

#[test]
fn every_refusal_says_what_can_be_done() {
    let bad = with(|f, a| {
        f.host.mem_available_bytes = 0;
        a.oom_disabled = true;
        a.oom_group = Some("/x".into());
        a.above = vec![Above { name: "/".into(), limit_bytes: 1, room_bytes: 0 }];
    });
    let plan = Plan::make(&bad, &request()).unwrap();
    let all = refusals(&bad, &request(), Some(&plan), 0);
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|r| r.hint.is_some() && !r.sentence.ends_with('.')));
    assert!(!Path::new("/nowhere").exists());
}

#[test]
fn memory_is_locked_only_where_the_caller_may() {
    let asking = Request { strategy: Strategy::Mlock, ..request() };
    assert_eq!(reasons(&facts(), &asking), []);
    let bounded = Facts { lockable_bytes: 8 * MIB, ..facts() };
    assert_eq!(reasons(&bounded, &asking), [Reason::MlockLimit]);
    assert_eq!(reasons(&bounded, &request()), [], "other strategies lock nothing");
}
