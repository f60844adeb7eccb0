//! A run: the proofs that one command or hook makes of a container, one strategy after the other. It has one verdict, the worst.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::record::{IN_PROGRESS, Record, SCHEMA};
use super::request::Trigger;
use super::strategy::Strategy;
use crate::exit::ExitStatus;

/// What tells the summary of a run from a record.
pub const KIND: &str = "run";

/// How bad a record is, by its exit code, as [`ExitStatus::severity`] has it; one without an end came to no conclusion.
#[must_use]
pub fn severity(exit_code: Option<u8>) -> u8 {
    exit_code.map_or(ExitStatus::INCONCLUSIVE, ExitStatus).severity()
}

/// The worst of several; of equally bad ones the first.
pub fn worst<T>(all: impl IntoIterator<Item = T>, exit_code: impl Fn(&T) -> Option<u8>) -> Option<T> {
    let worse = |worst: T, next: T| {
        if severity(exit_code(&next)) > severity(exit_code(&worst)) { next } else { worst }
    };
    all.into_iter().reduce(worse)
}

/// What a strategy of a run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StrategyVerdict {
    pub strategy: Strategy,
    /// The record's name.
    pub proof: String,
    pub verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub exit_code: Option<u8>,
}

/// A run of proofs, summed up: the last object of what `test-memory` prints as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    pub schema: u32,
    pub kind: &'static str,
    pub run: String,
    pub id: String,
    pub trigger: Trigger,
    /// When the first of its proofs began.
    pub started_at: String,
    /// All proofs together.
    pub duration_us: u64,
    pub strategies: Vec<StrategyVerdict>,
    /// The worst one's; the fields below as well.
    pub verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub sentence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub exit_code: Option<u8>,
}

impl RunSummary {
    /// Of these records of one run, in the order in which they were made; `None` of none.
    #[must_use]
    pub fn of(records: &[&Record]) -> Option<Self> {
        let first = records.first()?;
        let worst = worst(records, |record| record.exit_code)?;
        let strategy = |record: &&Record| StrategyVerdict {
            strategy: record.strategy,
            proof: record.proof.clone(),
            verdict: record.verdict.clone(),
            reason: record.reason.clone(),
            exit_code: record.exit_code,
        };
        Some(Self {
            schema: SCHEMA,
            kind: KIND,
            run: first.run().to_owned(),
            id: first.id.clone(),
            trigger: first.trigger,
            started_at: first.started_at.clone(),
            duration_us: records.iter().fold(0, |sum, record| sum.saturating_add(record.duration_us)),
            strategies: records.iter().map(strategy).collect(),
            verdict: worst.verdict.clone(),
            reason: worst.reason.clone(),
            sentence: worst.sentence.clone(),
            hint: worst.hint.clone(),
            exit_code: worst.exit_code,
        })
    }

    /// How each strategy ended: `sequential enforced, shm killed-externally`.
    #[must_use]
    pub fn each(&self) -> String {
        let mut text = String::new();
        for found in &self.strategies {
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{comma}{} {}", found.strategy, found.verdict);
        }
        text
    }
}

/// The verdict of a run, and when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunVerdict {
    pub verdict: String,
    pub started_at: String,
}

/// The part of a record that a run's verdict follows from, of whatever kind.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    run: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    proof: Cow<'a, str>,
    verdict: String,
    started_at: String,
    #[serde(default)]
    exit_code: Option<u8>,
}

/// The verdict of the last run in a journal's text; `None` where no line is a record.
#[must_use]
pub fn latest_verdict(journal: &str) -> Option<RunVerdict> {
    let mut lines = journal.lines().rev();
    let parse = |line| serde_json::from_str::<Line<'_>>(line).ok();
    let last = lines.by_ref().find_map(parse)?;
    let mut run = vec![last];
    if let Some(name) = run[0].run.clone() {
        for line in lines.filter(|line| line.contains(&*name)).filter_map(parse) {
            // The line that was begun has come to its end, which was met before it.
            let is_superseded = line.verdict == IN_PROGRESS && run.iter().any(|end| end.proof == line.proof);
            if line.run.as_ref() == Some(&name) && !is_superseded {
                run.push(line);
            }
        }
    }
    let started_at = run.last()?.started_at.clone();
    let worst = worst(run.into_iter().rev(), |line| line.exit_code)?;
    Some(RunVerdict { verdict: worst.verdict, started_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(run: Option<&str>, proof: &str, verdict: &str, code: Option<u8>) -> String {
        let mut line = serde_json::json!({
            "proof": proof, "verdict": verdict, "started_at": format!("at {proof}"), "exit_code": code
        });
        if let Some(run) = run {
            line["run"] = run.into();
        }
        line.to_string()
    }

    fn latest(lines: &[String]) -> (String, String) {
        let RunVerdict { verdict, started_at } = latest_verdict(&lines.join("\n")).unwrap();
        (verdict, started_at)
    }

    #[test]
    fn the_verdict_of_a_run_is_its_worst_and_the_first_of_equals() {
        let run = Some("r");
        let ends = [
            line(run, "a", IN_PROGRESS, None),
            line(run, "a", "enforced", Some(0)),
            line(run, "b", IN_PROGRESS, None),
            line(run, "b", "killed-externally", Some(4)),
            line(Some("other"), "x", "refused", Some(3)),
            line(run, "c", "timed-out", Some(4)),
            line(run, "d", IN_PROGRESS, None),
            line(run, "d", "within-limit", Some(0)),
        ];
        assert_eq!(latest(&ends), ("killed-externally".into(), "at a".into()));
        assert_eq!(latest(&ends[..2]), ("enforced".into(), "at a".into()));
        assert_eq!(latest(&ends[..3]), (IN_PROGRESS.into(), "at a".into()), "no end, no conclusion");
        assert_eq!(latest(&ends[..5]), ("refused".into(), "at x".into()));
        assert_eq!(latest_verdict("garbage\n"), None);
    }

    #[test]
    fn a_record_without_a_run_is_a_run_of_its_own() {
        let older = [line(None, "a", "not-enforced", Some(1)), line(None, "b", "enforced", Some(0))];
        assert_eq!(latest(&older), ("enforced".into(), "at b".into()));
    }

    #[test]
    fn a_broken_limit_is_worse_than_a_failure_and_that_than_no_conclusion() {
        let order = [Some(0), Some(3), None, Some(125), Some(1), Some(5)];
        assert!(order.map(severity).is_sorted_by(|a, b| a < b), "{:?}", order.map(severity));
        assert_eq!(severity(Some(4)), severity(None));
    }
}
