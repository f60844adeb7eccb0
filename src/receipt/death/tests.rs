//! A table of what can be known, and what is said of it.

use super::super::kernel_log::Victim;
use super::super::proofs::Proofs;
use super::*;
use crate::cgroup::Version;
use crate::units::MIB;

const INIT: i32 = 100;

fn memory(oom_kills: u64) -> Memory {
    Memory {
        version: Version::V1,
        path: "/web".into(),
        limit_bytes: Some(64 * MIB),
        peak_bytes: Some(10 * MIB),
        own_peak_bytes: Some(10 * MIB),
        own_peak_before_proofs: false,
        oom_kills,
        limit_hits: oom_kills,
        culprit: (oom_kills > 0).then_some(Culprit::Own { limit_bytes: 64 * MIB }),
        victims: Vec::new(),
        proofs: Proofs::default(),
        stall: None,
    }
}

fn stopped(memory: Option<Memory>) -> Evidence {
    Evidence { found: Found::Stopped, init_pid: Some(INIT), end: None, signal: None, memory, victim: None }
}

fn victim(pid: i32) -> Victim {
    Victim { pid, name: "tail".into(), limiter: Some("/web".into()) }
}

fn sent(signal: i32) -> Option<SentSignal> {
    Some(SentSignal { signal, at: "2026-01-02T03:04:05Z".into() })
}

#[track_caller]
fn expect(evidence: &Evidence, cause: Cause, certain: bool, words: &str) {
    let death = explain(evidence);
    assert_eq!((death.cause, death.certain), (cause, certain), "{death:?}");
    assert!(death.sentence.contains(words), "no '{words}' in: {death:?}");
}

#[test]
fn an_oom_kill_of_init_is_certain_where_the_log_tells_it() {
    let mut evidence = stopped(Some(memory(1)));
    expect(&evidence, Cause::OomKilled, false, "most likely OOM-killed by its own limit of 64 MiB");
    evidence.end = Some(End::Signal(9));
    let likely = "was most likely OOM-killed by its own limit of 64 MiB: it got SIGKILL";
    expect(&evidence, Cause::OomKilled, false, likely);
    evidence.signal = sent(15);
    expect(&evidence, Cause::OomKilled, false, likely);
    evidence.signal = None;
    evidence.memory.as_mut().unwrap().victims = vec![victim(INIT)];
    expect(&evidence, Cause::OomKilled, true, "was OOM-killed by its own limit of 64 MiB");
    evidence.end = None;
    expect(&evidence, Cause::OomKilled, true, "was OOM-killed by its own limit of 64 MiB");
    let advice = explain(&evidence).advice.unwrap();
    assert!(advice.contains("more than 64 MiB: try 96 MiB"), "{advice}");
}

#[test]
fn where_the_cgroup_had_gone_the_log_alone_tells_of_an_oom_kill() {
    let mut evidence = stopped(None);
    evidence.end = Some(End::Signal(9));
    expect(&evidence, Cause::Killed, false, "whether for want of memory is not known");
    for end in [None, Some(End::Signal(9))] {
        evidence.end = end;
        evidence.victim = Some(victim(INIT));
        expect(
            &evidence,
            Cause::OomKilled,
            true,
            "was OOM-killed by the limit on /web, as the kernel's log tells",
        );
        evidence.victim = Some(Victim { limiter: None, ..victim(INIT) });
        expect(&evidence, Cause::OomKilled, true, "because the host had no memory left");
    }
    evidence.memory = Some(memory(0));
    evidence.end = None;
    expect(&evidence, Cause::Unknown, false, "was not OOM-killed");
}

#[test]
fn an_oom_kill_of_another_process_is_not_inits_death() {
    let mut evidence = stopped(Some(memory(2)));
    evidence.memory.as_mut().unwrap().victims = vec![victim(101), victim(102)];
    expect(
        &evidence,
        Cause::Unknown,
        false,
        "ended; how is not known to rt; before that 2 of its processes were OOM-killed",
    );
    evidence.end = Some(End::Signal(9));
    expect(&evidence, Cause::Killed, true, "killed by SIGKILL from outside");
    evidence.end = Some(End::Exit(3));
    expect(&evidence, Cause::Exited, true, "exited with 3; before that 2 of its processes were OOM-killed");
    evidence.end = Some(End::Exit(137));
    // The command that was killed may be another one, which somebody killed later.
    expect(&evidence, Cause::OomKilled, false, "as shells do when their command was killed: most likely");
}

#[test]
fn other_limits_and_the_host_are_named() {
    let words = |culprit| {
        let mut memory = memory(1);
        memory.culprit = Some(culprit);
        let death = explain(&stopped(Some(memory)));
        (death.sentence, death.advice.unwrap_or_default())
    };
    let above = words(Culprit::Above { path: "/pod".into(), limit_bytes: Some(32 * MIB) });
    assert!(above.0.contains("by the limit of 32 MiB on /pod above it"), "{above:?}");
    assert!(above.1.contains("raise the limit on /pod"), "{above:?}");
    let host = words(Culprit::Host);
    assert!(
        host.0.contains("the host had no memory left") && host.1.contains("limit it to 14 MiB"),
        "{host:?}"
    );
    assert!(words(Culprit::Unknown).0.contains("cannot be told"));
}

#[test]
fn ends_without_an_oom_kill_are_exits_and_signals() {
    let mut evidence = stopped(Some(memory(0)));
    expect(&evidence, Cause::Unknown, false, "was not OOM-killed");
    for (end, cause, words) in [
        (End::Exit(0), Cause::Exited, "exited with 0 by itself"),
        (End::Exit(3), Cause::Exited, "exited with 3"),
        (
            End::Exit(143),
            Cause::Exited,
            "exited with 143, as shells do when their command was killed by SIGTERM",
        ),
        (End::Signal(9), Cause::Killed, "killed by SIGKILL from outside: no OOM kill"),
        (End::Signal(11), Cause::Killed, "crashed with SIGSEGV"),
        (End::Signal(6), Cause::Killed, "aborted itself"),
    ] {
        evidence.end = Some(end);
        expect(&evidence, cause, true, words);
    }
    assert!(explain(&evidence).advice.unwrap().contains("a limit of 14 MiB would fit"));
    expect(&stopped(None), Cause::Unknown, false, "is not known");
}

#[test]
fn signals_sent_with_kill_are_told() {
    let mut evidence = stopped(Some(memory(0)));
    evidence.signal = sent(9);
    expect(&evidence, Cause::Killed, true, "killed by SIGKILL, sent with 'kill' at 2026-01-02T03:04:05Z");
    evidence.signal = sent(15);
    expect(&evidence, Cause::Killed, false, "ended after SIGTERM was sent");
    evidence.end = Some(End::Exit(0));
    expect(&evidence, Cause::Exited, true, "exited with 0, after SIGTERM was sent with 'kill' at 2026");
    evidence.signal = sent(10);
    expect(&evidence, Cause::Exited, true, "exited with 0 by itself");
    // The kill was counted while it still took signals.
    let mut evidence = stopped(Some(memory(1)));
    evidence.signal = sent(15);
    expect(&evidence, Cause::Killed, false, "; before that one of its processes was OOM-killed");
}

#[test]
fn deletion_and_life_are_no_mysteries() {
    let found = |found| Evidence { found, ..stopped(Some(memory(0))) };
    expect(&found(Found::Alive), Cause::Alive, true, "has not died");
    expect(&found(Found::NotStarted), Cause::NotStarted, true, "never started");
    expect(&found(Found::Deleted), Cause::Killed, true, "deleted by force");
    assert_eq!(explain(&found(Found::Alive)).advice, None);
}

#[test]
fn proofs_are_not_blamed_on_the_container() {
    let mut evidence = stopped(Some(memory(1)));
    evidence.memory.as_mut().unwrap().proofs.unfinished = 1;
    expect(&evidence, Cause::Unknown, false, "may have been OOM-killed");
    evidence.end = Some(End::Signal(9));
    expect(&evidence, Cause::Killed, false, "may have been OOM-killed");
    evidence.end = Some(End::Exit(137));
    expect(&evidence, Cause::Exited, true, "exited with 137; before that");
    evidence.end = None;
    evidence.memory.as_mut().unwrap().proofs.lost_init = true;
    expect(&evidence, Cause::LostInProof, true, "while rt proved its memory limit");
}

#[test]
fn every_evidence_has_a_sentence() {
    for found in [Found::Alive, Found::NotStarted, Found::Deleted, Found::Stopped] {
        for end in
            [None, Some(End::Exit(0)), Some(End::Exit(137)), Some(End::Signal(9)), Some(End::Signal(64))]
        {
            for signal in [None, sent(9), sent(15)] {
                for memory in [None, Some(memory(0)), Some(memory(1)), Some(memory(3))] {
                    let evidence =
                        Evidence { found, init_pid: None, end, signal: signal.clone(), memory, victim: None };
                    let death = explain(&evidence);
                    assert!(!death.sentence.is_empty() && !death.sentence.contains('\n'), "{death:?}");
                    let hedges = ["most likely", "may have been", "not known"];
                    let is_hedged = hedges.iter().any(|words| death.sentence.contains(words));
                    assert!(death.certain || is_hedged, "{death:?}");
                    assert_eq!(death.cause == Cause::Alive, found == Found::Alive, "{death:?}");
                }
            }
        }
    }
}
