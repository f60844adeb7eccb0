//! Verdicts of last runs as metrics, for Prometheus.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::exposition::{Dialect, Exposition, Family};
use crate::proof::history::{History, Run};

const VERDICT: Family = Family {
    name: "rt_proof_verdict",
    kind: "gauge",
    unit: "",
    help: "1 for the verdict of each container's last run of proofs, or last stress: the worst; none without one.",
};

const TIMESTAMP: Family = Family {
    name: "rt_proof_timestamp_seconds",
    kind: "gauge",
    unit: "seconds",
    help: "When the last run of proofs, or the last stress, of the container began, in seconds since the epoch.",
};

/// The exposition of the last verdict of each container in this history.
#[must_use]
pub fn exposition(dialect: Dialect, history: &History) -> String {
    let last: BTreeMap<_, _> = history.runs().into_iter().map(|run| (run.id(), run)).collect();
    let mut text = Exposition::new(dialect);
    text.family(VERDICT);
    for (id, run) in &last {
        let (verdict, reason) = run.worst().verdict();
        let labels = [("container", *id), ("verdict", verdict), ("reason", reason.unwrap_or_default())];
        text.sample(&labels, 1);
    }
    text.family(TIMESTAMP);
    for (id, run) in &last {
        if let Some(seconds) = began(run) {
            text.sample(&[("container", id)], seconds);
        }
    }
    text.end()
}

/// Seconds since the epoch; `None` for what is no time.
fn began(run: &Run<'_>) -> Option<u64> {
    let at = humantime::parse_rfc3339(run.started_at()).ok()?;
    Some(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::history::Entry;
    use crate::proof::history::tests::{ENFORCED, HELD};

    #[test]
    fn each_container_has_its_last_verdict_alone() {
        let mut history = History::parse(&[ENFORCED, HELD, ENFORCED].map(str::trim).join("\n"));
        let [_, Entry::Stress(held), Entry::Proof(refused)] = &mut history.entries[..] else {
            panic!("two proofs with a stress between them");
        };
        held.id = "busy".to_owned();
        refused.verdict = "refused".to_owned();
        refused.reason = Some("unlimited".to_owned());
        refused.started_at = "2026-01-02T03:04:05.678901Z".to_owned();
        let web = refused.id.clone();
        let text = exposition(Dialect::OpenMetrics, &history);
        let told = format!("{{container=\"{web}\",verdict=\"refused\",reason=\"unlimited\"}} 1\n");
        assert!(text.contains(&told) && !text.contains("enforced"), "{text}");
        assert!(text.contains("rt_proof_verdict{container=\"busy\",verdict=\"held\"} 1\n"), "{text}");
        let at = format!("rt_proof_timestamp_seconds{{container=\"{web}\"}} 1767323045\n");
        assert!(text.contains(&at) && text.ends_with("# EOF\n"), "{text}");
        assert!(!exposition(Dialect::Prometheus, &History::default()).contains('{'), "no series");
    }
}
