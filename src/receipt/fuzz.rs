//! Receipts, the kernel's log and journals from any text, and a sentence for every evidence.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::evidence::{Found, SentSignal};
use super::kernel_log::{Victim, parse};
use super::proofs::Proofs;
use super::{Culprit, End, Evidence, Memory, Receipt, Stall};
use crate::cgroup::Version;
use crate::report::why::answer;

/// Text as a container may choose it, with what commands a terminal.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,12}", "[\\x00-\\x1f\\x7f-\\x9fa-z\\[]{0,12}"]
}

fn culprit() -> impl Strategy<Value = Culprit> {
    prop_oneof![
        any::<u64>().prop_map(|limit_bytes| Culprit::Own { limit_bytes }),
        (any_name(), any::<Option<u64>>())
            .prop_map(|(path, limit_bytes)| Culprit::Above { path, limit_bytes }),
        Just(Culprit::Host),
        Just(Culprit::Unknown),
    ]
}

fn victim() -> impl Strategy<Value = Victim> {
    (any::<i32>(), any_name(), option::of(any_name())).prop_map(|(pid, name, limiter)| Victim {
        pid,
        name,
        limiter,
    })
}

fn proofs() -> impl Strategy<Value = Proofs> {
    (any::<[u64; 4]>(), any::<[Option<u64>; 2]>(), any::<bool>()).prop_map(|(n, peaks, lost_init)| Proofs {
        begun: n[0],
        unfinished: n[1],
        oom_kills: n[2],
        limit_hits: n[3],
        peak_before_bytes: peaks[0],
        peak_after_bytes: peaks[1],
        lost_init,
        workers: Vec::new(),
    })
}

fn memory() -> impl Strategy<Value = Memory> {
    let numbers = (any::<[Option<u64>; 3]>(), 0..3u64, any::<u64>(), any::<bool>());
    let stall = option::of(any::<[u64; 2]>().prop_map(|[some_us, full_us]| Stall { some_us, full_us }));
    (numbers, any_name(), option::of(culprit()), vec(victim(), 0..3), proofs(), stall).prop_map(
        |((n, oom_kills, limit_hits, flag), path, culprit, victims, proofs, stall)| Memory {
            version: Version::V2,
            path,
            limit_bytes: n[0],
            peak_bytes: n[1],
            own_peak_bytes: n[2],
            own_peak_before_proofs: flag,
            oom_kills,
            limit_hits,
            culprit,
            victims,
            proofs,
            stall,
        },
    )
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let found = prop_oneof![
        Just(Found::Alive),
        Just(Found::NotStarted),
        Just(Found::Deleted),
        Just(Found::Stopped),
        Just(Found::Stopped)
    ];
    let end = option::of(prop_oneof![any::<u8>().prop_map(End::Exit), any::<i32>().prop_map(End::Signal)]);
    let signal = option::of((any::<i32>(), any_name()).prop_map(|(signal, at)| SentSignal { signal, at }));
    (found, any::<Option<i32>>(), end, signal, option::of(memory())).prop_map(
        |(found, init_pid, end, signal, memory)| Evidence {
            found,
            init_pid,
            end,
            signal,
            memory,
            victim: None,
        },
    )
}

proptest! {
    #[test]
    fn every_evidence_is_explained_and_read_back(evidence in evidence(), id in any_name()) {
        let receipt = Receipt::new(&id, "/bundle".into(), "2026-01-02T03:04:05Z", evidence);
        let text = serde_json::to_string(&receipt).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Receipt>(&text).unwrap(), &receipt);
        // Names of processes and cgroups are the container's choice, and must not command a terminal.
        let answer = answer(&receipt);
        prop_assert!(!answer.chars().any(|c| c.is_control() && c != '\n'), "{:?}", answer);
        let lines = 3 + receipt.evidence.memory.as_ref().map_or(0, |memory| memory.victims.len() + 1);
        prop_assert!(answer.lines().count() <= lines, "{:?}", answer);
    }

    #[test]
    fn victims_are_read_back(
        name in "[^\n]{0,15}",
        pid in 1..i32::MAX,
        path in "(/[a-z,=_]{1,8}){1,3}",
        limiter in option::of("(/[a-z,=]{1,8}){1,3}"),
        noise in "\\PC{0,30}",
    ) {
        let whose = limiter.as_ref().map_or_else(|| "global_oom".to_owned(), |path| format!("oom_memcg={path}"));
        let log = format!(
            "{noise}\n<6>[    1.000000] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,{whose},task_memcg={path},task={name},pid={pid},uid=0\n"
        );
        let found = parse(&log, &path, None);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!((found[0].pid, &found[0].name, &found[0].limiter), (pid, &name, &limiter));
        prop_assert!(parse(&log, "/other", None).is_empty());
    }

    #[test]
    fn logs_and_journals_of_garbage_do_not_panic(
        log in vec("(oom-kill:)?[a-z_,=/0-9-]{0,60}|\\PC{0,40}", 0..6),
        kills in vec(any::<[u64; 4]>(), 0..4),
    ) {
        let _ = parse(&log.join("\n"), "/a", None);
        let line = |n: &[u64; 4]| format!(
            r#"{{"proof":"p","verdict":"enforced","counters_before":{{"usage_bytes":0,"peak_bytes":{},"swap_bytes":0,"oom_kill":{},"limit_hits":0,"high":0}},"counters_after":{{"usage_bytes":0,"peak_bytes":0,"swap_bytes":0,"oom_kill":{},"limit_hits":{},"high":0}}}}"#,
            n[0], n[1], n[2], n[3]
        );
        let journal: Vec<_> = kills.iter().map(line).chain(log).collect();
        let proofs = Proofs::read(&journal.join("\n"));
        let least = kills.iter().map(|n| n[2].saturating_sub(n[1])).max().unwrap_or(0);
        prop_assert!(proofs.oom_kills >= least);
        prop_assert!(proofs.begun <= journal.len() as u64);
    }
}
