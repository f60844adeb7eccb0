//! What a journal tells, each proof and stress once: the final record in the place of the one that was begun. The proofs of
//! one command or hook are a run.

use std::collections::HashMap;

use serde::Deserialize;

use super::record::{IN_PROGRESS, Record, SCHEMA};
use super::run::{self, RunSummary};
use super::stress::{KIND, StressRecord};

/// One proof or stress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Proof(Box<Record>),
    Stress(Box<StressRecord>),
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let proof = serde_json::from_str(line).ok().filter(|record: &Record| record.schema == SCHEMA);
        let stress = || {
            let stress = serde_json::from_str(line).ok();
            stress.filter(|record: &StressRecord| record.schema == SCHEMA && record.kind == KIND)
        };
        proof
            .map(|record| Self::Proof(Box::new(record)))
            .or_else(|| stress().map(|r| Self::Stress(Box::new(r))))
    }

    /// What the container is called.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Proof(record) => &record.id,
            Self::Stress(record) => &record.id,
        }
    }

    /// The verdict, and the reason where there is one.
    #[must_use]
    pub fn verdict(&self) -> (&str, Option<&str>) {
        match self {
            Self::Proof(record) => (&record.verdict, record.reason.as_deref()),
            Self::Stress(record) => (&record.verdict, record.reason.as_deref()),
        }
    }

    /// When it began: RFC 3339, UTC.
    #[must_use]
    pub fn started_at(&self) -> &str {
        match self {
            Self::Proof(record) => &record.started_at,
            Self::Stress(record) => &record.started_at,
        }
    }

    /// The limit that bound, in bytes; `None` where there was none.
    #[must_use]
    pub fn limit_bytes(&self) -> Option<u64> {
        let cgroup = match self {
            Self::Proof(record) => &record.cgroup,
            Self::Stress(record) => &record.cgroup,
        };
        cgroup.as_ref()?.limit_bytes
    }

    /// The exit code of its verdict; `None` without an end.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Proof(record) => record.exit_code,
            Self::Stress(record) => record.exit_code,
        }
    }

    /// The container and the name of its run; `None` where the record names none, and so is a run of its own.
    fn run(&self) -> Option<(&str, &str)> {
        let run = match self {
            Self::Proof(record) => &record.run,
            Self::Stress(record) => &record.run,
        };
        Some((self.id(), run.as_deref()?))
    }

    fn name_and_verdict(&self) -> (&str, &str) {
        match self {
            Self::Proof(record) => (&record.proof, &record.verdict),
            Self::Stress(record) => (&record.proof, &record.verdict),
        }
    }
}

/// The proofs of one command or hook, or one stress; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run<'a> {
    /// In the order they were begun.
    entries: Vec<&'a Entry>,
}

impl<'a> Run<'a> {
    /// Its proofs, in the order they were begun.
    #[must_use]
    pub fn entries(&self) -> &[&'a Entry] {
        &self.entries
    }

    /// The one whose verdict is the run's: the worst, the first of equally bad ones.
    #[must_use]
    pub fn worst(&self) -> &'a Entry {
        run::worst(self.entries.iter().copied(), |entry| entry.exit_code()).unwrap_or(self.entries[0])
    }

    /// When the first of its proofs began: RFC 3339, UTC.
    #[must_use]
    pub fn started_at(&self) -> &'a str {
        self.entries[0].started_at()
    }

    /// What the container is called.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.entries[0].id()
    }

    /// Its proofs summed up; `None` of a stress, whose record is all there is.
    #[must_use]
    pub fn summary(&self) -> Option<RunSummary> {
        let proof = |entry: &&'a Entry| match entry {
            Entry::Proof(record) => Some(record.as_ref()),
            Entry::Stress(_) => None,
        };
        RunSummary::of(&self.entries.iter().filter_map(proof).collect::<Vec<_>>())
    }
}

/// The summary of a run, which is no record: what was printed may be read again.
fn is_summary(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        kind: &'a str,
    }
    serde_json::from_str(line).is_ok_and(|Kind { kind }| kind == run::KIND)
}

/// What a journal tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In the order they were begun.
    pub entries: Vec<Entry>,
    /// Lines that are no records of this schema.
    pub skipped: usize,
}

impl History {
    /// From the text of a journal.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut history = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match Entry::parse(line) {
                Some(entry) => history.add(entry),
                None if is_summary(line) => {}
                None => history.skipped += 1,
            }
        }
        history
    }

    fn add(&mut self, entry: Entry) {
        let begun = (entry.name_and_verdict().0, IN_PROGRESS);
        match self.entries.iter_mut().rev().find(|before| before.name_and_verdict() == begun) {
            Some(before) => *before = entry,
            None => self.entries.push(entry),
        }
    }

    /// All runs, in the order in which their last proofs were begun.
    #[must_use]
    pub fn runs(&self) -> Vec<Run<'_>> {
        let mut runs: Vec<Run<'_>> = Vec::new();
        let mut named = HashMap::new();
        for entry in self.entries.iter().rev() {
            let next = runs.len();
            let at = entry.run().map_or(next, |name| *named.entry(name).or_insert(next));
            match runs.get_mut(at) {
                Some(run) => run.entries.push(entry),
                None => runs.push(Run { entries: vec![entry] }),
            }
        }
        for run in &mut runs {
            run.entries.reverse();
        }
        runs.reverse();
        runs
    }

    /// The run of the last record.
    #[must_use]
    pub fn latest(&self) -> Option<Run<'_>> {
        self.runs().pop()
    }

    /// Puts those of another journal behind them.
    pub fn append(&mut self, mut other: Self) {
        self.entries.append(&mut other.entries);
        self.skipped += other.skipped;
    }

    /// The last run alone.
    #[must_use]
    pub fn last(mut self) -> Self {
        if let Some(last) = self.entries.pop() {
            self.entries.retain(|entry| entry.run().is_some() && entry.run() == last.run());
            self.entries.push(last);
        }
        self
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record as `rt test-memory` wrote it (64 MiB, Linux 6.18, cgroup v1).
    pub(crate) const ENFORCED: &str = include_str!("history/enforced.json");

    /// A record as `rt stress-memory` wrote it: four workers share 128 MiB under a limit of 64 MiB.
    pub(crate) const HELD: &str = include_str!("history/held.json");

    fn line(proof: &str, verdict: &str) -> String {
        let mut record: serde_json::Value = serde_json::from_str(ENFORCED).unwrap();
        record["proof"] = proof.into();
        record["verdict"] = verdict.into();
        record.to_string()
    }

    #[test]
    fn the_end_of_a_proof_takes_the_place_of_its_beginning() {
        let lines =
            [line("a", IN_PROGRESS), line("b", IN_PROGRESS), line("a", "enforced"), line("c", "refused")];
        let history = History::parse(&lines.join("\n"));
        let seen: Vec<_> = history.entries.iter().map(Entry::name_and_verdict).collect();
        assert_eq!(seen, [("a", "enforced"), ("b", IN_PROGRESS), ("c", "refused")]);
        assert_eq!(history.last().entries.len(), 1);
    }

    #[test]
    fn proofs_of_one_command_are_one_run_with_the_worst_verdict() {
        let of_run = |run: &str, proof: &str, verdict: &str, code: u8| {
            let mut record: serde_json::Value = serde_json::from_str(&line(proof, verdict)).unwrap();
            (record["run"], record["exit_code"]) = (run.into(), code.into());
            record.to_string()
        };
        let lines = [
            line("old", "not-enforced"),
            of_run("r", "a", "enforced", 0),
            of_run("r", "b", "killed-externally", 4),
            of_run("s", "x", "refused", 3),
            of_run("r", "c", "within-limit", 0),
        ];
        let history = History::parse(&lines.join("\n"));
        let seen: Vec<_> =
            history.runs().iter().map(|run| (run.entries().len(), run.worst().verdict().0)).collect();
        assert_eq!(seen, [(1, "not-enforced"), (1, "refused"), (3, "killed-externally")]);
        let summary = history.latest().unwrap().summary().unwrap();
        assert_eq!((summary.run.as_str(), summary.exit_code), ("r", Some(4)));
        assert_eq!(
            summary.each(),
            "sequential enforced, sequential killed-externally, sequential within-limit"
        );
        let printed = serde_json::to_string(&summary).unwrap();
        let last = history.last();
        assert_eq!(last.entries.len(), 3);
        let again = History::parse(&format!("{}\n{printed}\n", lines[1]));
        assert_eq!(
            (again.entries.len(), again.skipped),
            (1, 0),
            "a summary is no record, and none is missing"
        );
    }

    #[test]
    fn a_stress_is_told_from_a_proof() {
        let history = History::parse(&[ENFORCED.trim(), HELD.trim()].join("\n"));
        assert!(matches!(history.entries[..], [Entry::Proof(_), Entry::Stress(_)]), "{history:?}");
        assert_eq!(history.skipped, 0);
    }

    #[test]
    fn what_is_no_record_is_counted() {
        let newer = line("a", "enforced").replace("\"schema\":1", "\"schema\":2");
        let text = format!("{}\n\n{{\"cut\":\n\u{0}\n{newer}\n", line("a", "enforced"));
        let history = History::parse(&text);
        assert_eq!((history.entries.len(), history.skipped), (1, 3));
        assert_eq!(History::parse(""), History::default());
    }
}
