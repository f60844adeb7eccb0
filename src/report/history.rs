//! Proofs that were made, in words.

use std::fmt::Write;

use crate::printable::put_line;
use crate::proof::Record;
use crate::proof::history::{Entry, History};
use crate::proof::record::IN_PROGRESS;
use crate::proof::stress::StressRecord;
use crate::units::Mib;

/// One paragraph a proof, a line for a run of several, and what was not read.
#[must_use]
pub fn text(history: &History) -> String {
    let entry = |entry: &Entry| match entry {
        Entry::Proof(record) => proof(record),
        Entry::Stress(record) => stress(record),
    };
    let mut text = String::new();
    for run in history.runs() {
        text.extend(run.entries().iter().map(|of_run| entry(of_run)));
        text += &run.summary().and_then(|summary| super::proof::overall(&summary)).unwrap_or_default();
    }
    if let Some(line) = skipped(history) {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// What of the file could not be read, in words.
#[must_use]
pub fn skipped(history: &History) -> Option<String> {
    match history.skipped {
        0 => None,
        1 => Some("1 line is no record that can be read".to_owned()),
        n => Some(format!("{n} lines are no records that can be read")),
    }
}

fn proof(record: &Record) -> String {
    let mut text = String::new();
    let verdict = verdict(&record.verdict, record.reason.as_deref());
    put_line(&mut text, &format!("{}  {}  {}  {verdict}", record.started_at, record.id, record.strategy));
    put_line(&mut text, &format!("  {}", sentence(&record.verdict, &record.sentence)));
    let mut parts: Vec<String> = Vec::new();
    if let Some(limit) = record.cgroup.as_ref().and_then(|cgroup| cgroup.limit_bytes) {
        parts.push(format!("limit {}", Mib(limit)));
    }
    if record.worker.is_some() {
        parts.push(format!("written {}", Mib(record.touched_bytes)));
        parts.extend(record.predicted_bytes.map(|bytes| format!("predicted {}", Mib(bytes))));
    }
    if let (Some(before), Some(after)) = (record.counters_before, record.counters_after) {
        parts.push(format!("OOM kills {}", after.oom_kill.saturating_sub(before.oom_kill)));
        parts.push(format!("limit hit {} times", after.limit_hits.saturating_sub(before.limit_hits)));
    }
    if record.duration_us > 0 {
        let seconds = std::time::Duration::from_micros(record.duration_us).as_secs_f64();
        parts.push(format!("{seconds:.3} s"));
    }
    if !parts.is_empty() {
        let _ = writeln!(text, "  {}", parts.join(", "));
    }
    if let Some(hint) = &record.hint {
        put_line(&mut text, &format!("  hint: {hint}"));
    }
    text
}

fn stress(record: &StressRecord) -> String {
    let verdict = verdict(&record.verdict, record.reason.as_deref());
    let mut text = String::new();
    put_line(&mut text, &format!("{}  {}  stress  {verdict}", record.started_at, record.id));
    put_line(&mut text, &format!("  {}", sentence(&record.verdict, &record.sentence)));
    for line in super::stress::numbers(record) {
        put_line(&mut text, &format!("  {line}"));
    }
    if let Some(hint) = &record.hint {
        put_line(&mut text, &format!("  hint: {hint}"));
    }
    text
}

/// The verdict with its reason.
#[must_use]
pub fn verdict(verdict: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| verdict.to_owned(), |reason| format!("{verdict} ({reason})"))
}

/// What was found; of a proof without an end, that it has none.
#[must_use]
pub fn sentence<'a>(verdict: &str, sentence: &'a str) -> &'a str {
    match verdict {
        IN_PROGRESS => "it has no end: the prover was killed, or is still at it",
        _ => sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::history::tests::{ENFORCED, HELD};

    #[test]
    fn a_proof_is_a_paragraph_and_what_was_not_read_is_said() {
        let mut history = History::parse(&format!("{ENFORCED}\ngarbage\n"));
        let told = text(&history);
        assert!(told.contains("sequential  enforced\n  OOM-killed after"), "{told}");
        assert!(told.contains("limit 64 MiB, written 63.") && told.contains("OOM kills 1"), "{told}");
        assert!(told.ends_with("1 line is no record that can be read\n"), "{told}");
        if let Entry::Proof(record) = &mut history.entries[0] {
            record.verdict = IN_PROGRESS.to_owned();
        }
        assert!(text(&history).contains("the prover was killed"));
    }

    #[test]
    fn a_record_makes_no_line_of_its_own_and_commands_no_terminal() {
        let mut history = History::parse(&format!("{ENFORCED}\n{HELD}\n"));
        let lines = text(&history).lines().count();
        let hostile = "web\x1b[2J\n*** enforced\x07";
        for entry in &mut history.entries {
            let (id, sentence, hint) = match entry {
                Entry::Proof(record) => (&mut record.id, &mut record.sentence, &mut record.hint),
                Entry::Stress(record) => (&mut record.id, &mut record.sentence, &mut record.hint),
            };
            (*id, *sentence, *hint) = (hostile.into(), hostile.into(), Some(hostile.into()));
        }
        let told = text(&history);
        assert_eq!(told.lines().count(), lines + 2, "{told}");
        assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told}");
        assert!(told.contains("  web\\u001b[2J\\u000a*** enforced\\u0007\n"), "{told}");
    }

    #[test]
    fn a_stress_is_a_paragraph_too() {
        let told = text(&History::parse(HELD));
        assert!(told.contains("  web  stress  held\n") && told.contains("by the limit"), "{told}");
    }
}
