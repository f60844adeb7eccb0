//! What rt's own proofs left in a container's counters, so that it is not blamed on the container.

use serde::{Deserialize, Serialize};

use crate::cgroup::Counters;
use crate::proof::Verdict;
use crate::proof::record::IN_PROGRESS;

/// The share of proofs in the counters of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proofs {
    /// Proofs that were begun.
    pub begun: u64,
    /// Those that say how they ended and have no end: the prover was killed.
    pub unfinished: u64,
    pub oom_kills: u64,
    pub limit_hits: u64,
    /// The peak before the first of them.
    pub peak_before_bytes: Option<u64>,
    /// The highest peak that one of them left.
    pub peak_after_bytes: Option<u64>,
    /// The container's init died in the last one.
    pub lost_init: bool,
    /// Pids of their workers.
    #[serde(skip)]
    pub workers: Vec<i32>,
}

/// The part of a proof's record that counts here. Records of other kinds that have it count as well.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    proof: String,
    verdict: String,
    counters_before: Option<Counters>,
    counters_after: Option<Counters>,
    #[serde(default)]
    peak_reset: bool,
    #[serde(default)]
    worker: Option<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    pid: i32,
}

impl Proofs {
    /// From the text of a journal. Lines that are no records are skipped.
    #[must_use]
    pub fn read(journal: &str) -> Self {
        let mut all = Self::default();
        let mut open: Vec<String> = Vec::new();
        for line in journal.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            if line.verdict == IN_PROGRESS {
                all.begun += 1;
                all.peak_before(line.counters_before);
                open.push(line.proof);
                continue;
            }
            match open.iter().position(|begun| *begun == line.proof) {
                Some(at) => drop(open.swap_remove(at)),
                // A refusal, which has nothing before it; or what was before it was cut off.
                None => all.begun += 1,
            }
            all.add(&line);
        }
        all.unfinished = open.len() as u64;
        all
    }

    fn add(&mut self, line: &Line) {
        self.lost_init = line.verdict == Verdict::InitDied.name();
        self.peak_before(line.counters_before);
        let (Some(before), Some(after)) = (line.counters_before, line.counters_after) else { return };
        let kills = after.oom_kill.saturating_sub(before.oom_kill);
        self.oom_kills = self.oom_kills.saturating_add(kills);
        let hits = after.limit_hits.saturating_sub(before.limit_hits);
        self.limit_hits = self.limit_hits.saturating_add(hits);
        self.peak_after_bytes = self.peak_after_bytes.max(after.peak_bytes);
        if line.peak_reset {
            // What was before is forgotten by the kernel too: its peak is the container's own again.
            (self.peak_before_bytes, self.peak_after_bytes) = (None, None);
        }
        self.workers.extend(line.worker.iter().map(|worker| worker.pid));
    }

    fn peak_before(&mut self, before: Option<Counters>) {
        self.peak_before_bytes = self.peak_before_bytes.or(before.and_then(|before| before.peak_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(proof: &str, verdict: &str, kills: [u64; 2], peaks: [u64; 2]) -> String {
        let counters = |kills: u64, peak: u64| {
            format!(
                r#"{{"usage_bytes":1,"peak_bytes":{peak},"swap_bytes":0,"oom_kill":{kills},"limit_hits":{kills},"high":0}}"#
            )
        };
        format!(
            r#"{{"proof":"{proof}","verdict":"{verdict}","counters_before":{},"counters_after":{},"worker":{{"pid":7,"signal":9}},"samples":[]}}"#,
            counters(kills[0], peaks[0]),
            counters(kills[1], peaks[1])
        )
    }

    #[test]
    fn kills_of_proofs_are_added_up_and_the_first_peak_is_kept() {
        let journal = [
            r#"{"proof":"a","verdict":"in-progress"}"#.to_owned(),
            line("a", "enforced", [0, 1], [5, 64]),
            "garbage".to_owned(),
            line("b", "enforced", [2, 4], [64, 64]),
        ]
        .join("\n");
        let proofs = Proofs::read(&journal);
        assert_eq!((proofs.begun, proofs.unfinished, proofs.oom_kills), (2, 0, 3));
        assert_eq!((proofs.peak_before_bytes, proofs.peak_after_bytes), (Some(5), Some(64)));
        assert_eq!(proofs.workers, [7, 7]);
        assert!(!proofs.lost_init);
    }

    #[test]
    fn a_peak_that_was_reset_is_nobodys() {
        let reset =
            line("a", "enforced", [0, 1], [5, 64]).replace("\"worker\"", "\"peak_reset\":true,\"worker\"");
        let proofs = Proofs::read(&reset);
        assert_eq!((proofs.peak_before_bytes, proofs.peak_after_bytes, proofs.oom_kills), (None, None, 1));
        let later = Proofs::read(&[reset, line("b", "enforced", [1, 2], [9, 64])].join("\n"));
        assert_eq!((later.peak_before_bytes, later.peak_after_bytes), (Some(9), Some(64)));
    }

    #[test]
    fn a_proof_without_an_end_and_a_lost_init_are_seen() {
        let journal =
            [line("b", "init-died", [0, 1], [5, 64]), r#"{"proof":"c","verdict":"in-progress"}"#.to_owned()]
                .join("\n");
        let proofs = Proofs::read(&journal);
        assert_eq!((proofs.begun, proofs.unfinished), (2, 1));
        assert!(proofs.lost_init);
        assert_eq!(Proofs::read(""), Proofs::default());
    }
}
