//! What a journal tells, each proof and stress once: the final record in the place of the one that was begun.

use super::record::{IN_PROGRESS, Record, SCHEMA};
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

    fn name_and_verdict(&self) -> (&str, &str) {
        match self {
            Self::Proof(record) => (&record.proof, &record.verdict),
            Self::Stress(record) => (&record.proof, &record.verdict),
        }
    }
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

    /// The last of them.
    #[must_use]
    pub fn latest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// Puts those of another journal behind them.
    pub fn append(&mut self, mut other: Self) {
        self.entries.append(&mut other.entries);
        self.skipped += other.skipped;
    }

    /// The last of them alone.
    #[must_use]
    pub fn last(mut self) -> Self {
        self.entries.drain(..self.entries.len().saturating_sub(1));
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
