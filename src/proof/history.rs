//! The proofs of a journal, each once: the final record in the place of the one that was begun.

use super::record::{IN_PROGRESS, Record, SCHEMA};

/// What a journal tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In the order they were begun.
    pub proofs: Vec<Record>,
    /// Lines that are no records of this schema.
    pub skipped: usize,
}

impl History {
    /// From the text of a journal.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut history = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str::<Record>(line) {
                Ok(record) if record.schema == SCHEMA => history.add(record),
                _ => history.skipped += 1,
            }
        }
        history
    }

    fn add(&mut self, record: Record) {
        let begun =
            self.proofs.iter_mut().rev().find(|p| p.proof == record.proof && p.verdict == IN_PROGRESS);
        match begun {
            Some(begun) => *begun = record,
            None => self.proofs.push(record),
        }
    }

    /// The last of them alone.
    #[must_use]
    pub fn last(mut self) -> Self {
        self.proofs.drain(..self.proofs.len().saturating_sub(1));
        self
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record as `rt test-memory` wrote it (64 MiB, Linux 6.18, cgroup v1).
    pub(crate) const ENFORCED: &str = include_str!("history/enforced.json");

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
        let seen: Vec<_> = history.proofs.iter().map(|p| (p.proof.as_str(), p.verdict.as_str())).collect();
        assert_eq!(seen, [("a", "enforced"), ("b", IN_PROGRESS), ("c", "refused")]);
        assert_eq!(history.last().proofs.len(), 1);
    }

    #[test]
    fn what_is_no_record_is_counted() {
        let newer = line("a", "enforced").replace("\"schema\":1", "\"schema\":2");
        let text = format!("{}\n\n{{\"cut\":\n\u{0}\n{newer}\n", line("a", "enforced"));
        let history = History::parse(&text);
        assert_eq!((history.proofs.len(), history.skipped), (1, 3));
        assert_eq!(History::parse(""), History::default());
    }
}
