//! Proofs that were made, as a page with a picture of each.

use std::fmt::Write;

use super::history::{sentence, skipped, verdict};
use super::markup::Escaped;
use super::page::page;
use super::plot::{self, Picture};
use crate::cgroup::Counters;
use crate::proof::history::{Entry, History, Run};
use crate::proof::stress::StressVerdict;
use crate::proof::{Record, Refusal, Verdict};
use crate::units::Mib;

const STYLE: &str = "
article { border-top: 1px solid #8884; padding-bottom: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
td, th { text-align: right; padding: .15rem .75rem .15rem 0; font-weight: normal; }
th:first-child { text-align: left; }
thead th { color: var(--dim); }
";

/// The whole page.
#[must_use]
pub fn document(history: &History) -> String {
    let runs = history.runs();
    let mut body: String = runs.iter().map(section).collect();
    if let Some(line) = skipped(history) {
        let _ = writeln!(body, "<p class=\"dim\">{}</p>", Escaped(&line));
    }
    let id = runs.last().map_or("", Run::id);
    let of_one = history.entries.iter().all(|entry| entry.id() == id);
    let title = if of_one { format!("Memory proofs of {id}") } else { "Memory proofs".to_owned() };
    page(&title, STYLE, &body)
}

/// The proofs of a run, below its verdict where they are several.
fn section(run: &Run<'_>) -> String {
    let articles: String = run.entries().iter().map(|entry| article(entry)).collect();
    let Some(summary) = run.summary().filter(|summary| summary.strategies.len() > 1) else {
        return articles;
    };
    let overall = verdict(&summary.verdict, summary.reason.as_deref());
    let class = class(&summary.verdict);
    let (overall, each) = (Escaped(&overall), summary.each());
    let each = Escaped(&each);
    let title = format!(
        "<h2>overall <span class=\"{class}\">{overall}</span> <span class=\"dim\">{each}</span></h2>"
    );
    format!("<section>\n{title}\n{articles}</section>\n")
}

fn article(entry: &Entry) -> String {
    let inner = match entry {
        Entry::Proof(record) => {
            let mut text = found(&record.verdict, record.reason.as_deref(), record.strategy.name());
            text +=
                &told(sentence(&record.verdict, &record.sentence), record.hint.as_deref(), &record.refusals);
            text += &picture(record.as_ref().into());
            text += &counters(record.counters_before, record.counters_after);
            text + &dim(&circumstances(record))
        }
        Entry::Stress(record) => {
            let mut text = found(&record.verdict, record.reason.as_deref(), "stress");
            text +=
                &told(sentence(&record.verdict, &record.sentence), record.hint.as_deref(), &record.refusals);
            text += &picture(record.as_ref().into());
            for line in super::stress::numbers(record) {
                let _ = writeln!(text, "<div>{}</div>", Escaped(&line));
            }
            text += &counters(record.counters_before, record.counters_after);
            text + &dim(&format!("{} · {} · kernel {}", record.started_at, record.id, record.kernel))
        }
    };
    format!("<article>\n{inner}</article>\n")
}

fn dim(text: &str) -> String {
    format!("<p class=\"dim\">{}</p>\n", Escaped(text))
}

fn found(name: &str, reason: Option<&str>, how: &str) -> String {
    let shown = verdict(name, reason);
    let class = class(name);
    format!("<h2><span class=\"{class}\">{}</span> <span class=\"dim\">{how}</span></h2>\n", Escaped(&shown))
}

fn told(sentence: &str, hint: Option<&str>, refusals: &[Refusal]) -> String {
    let mut text = format!("<p>{}</p>\n", Escaped(sentence));
    if let Some(hint) = hint {
        let _ = writeln!(text, "<p>Hint: {}</p>", Escaped(hint));
    }
    for refusal in refusals.iter().skip(1) {
        let _ = writeln!(text, "<p>Also {}: {}</p>", refusal.reason, Escaped(&refusal.sentence));
    }
    text
}

/// A picture is described by the sentence above it.
fn picture(of: Picture<'_>) -> String {
    let svg = plot::svg(of).unwrap_or_default();
    svg.replacen("<svg ", "<svg role=\"img\" aria-label=\"memory over time\" ", 1)
}

/// How a verdict is shown.
fn class(verdict: &str) -> &'static str {
    let of_proof = Verdict::ALL.into_iter().find(|v| v.name() == verdict).map(Verdict::exit);
    let of_stress = || StressVerdict::ALL.into_iter().find(|v| v.name() == verdict).map(StressVerdict::exit);
    match of_proof.or_else(of_stress).map(|exit| exit.0) {
        Some(0) => "good",
        Some(1 | 5) => "bad",
        _ => "unsure",
    }
}

/// The kernel's counters before and after.
fn counters(before: Option<Counters>, after: Option<Counters>) -> String {
    let (Some(before), Some(after)) = (before, after) else {
        return String::new();
    };
    let mut text = String::from(
        "<table>\n<thead><tr><th>counter</th><th>before</th><th>after</th></tr></thead>\n<tbody>\n",
    );
    let bytes = |bytes: u64| Mib(bytes).to_string();
    let mut row = |name: &str, before: String, after: String| {
        let _ = writeln!(text, "<tr><th>{name}</th><td>{before}</td><td>{after}</td></tr>");
    };
    row("in use", bytes(before.usage_bytes), bytes(after.usage_bytes));
    if let (Some(before), Some(after)) = (before.peak_bytes, after.peak_bytes) {
        row("peak", bytes(before), bytes(after));
    }
    row("in swap", bytes(before.swap_bytes), bytes(after.swap_bytes));
    row("OOM kills", before.oom_kill.to_string(), after.oom_kill.to_string());
    row("limit hit", before.limit_hits.to_string(), after.limit_hits.to_string());
    row("memory.high exceeded", before.high.to_string(), after.high.to_string());
    text + "</tbody>\n</table>\n"
}

/// When, where and with what.
fn circumstances(record: &Record) -> String {
    let mut parts = vec![record.started_at.clone(), record.id.clone()];
    if let Some(cgroup) = &record.cgroup {
        parts.push(format!("cgroup {} {}", cgroup.version, cgroup.path));
        parts.extend(cgroup.limit_bytes.map(|bytes| format!("limit {}", Mib(bytes))));
    }
    if record.worker.is_some() {
        parts.push(format!("written {}", Mib(record.touched_bytes)));
        parts.extend(record.predicted_bytes.map(|bytes| format!("predicted {}", Mib(bytes))));
        let seconds = std::time::Duration::from_micros(record.duration_us).as_secs_f64();
        parts.push(format!("{seconds:.3} s"));
    }
    parts.push(format!("kernel {}", record.kernel));
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::history::tests::{ENFORCED, HELD};

    #[test]
    fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
        let hostile = ENFORCED.replace("\"id\":\"web\"", "\"id\":\"<script>x\"");
        let page = document(&History::parse(&hostile));
        assert!(page.contains("&lt;script&gt;x") && !page.contains("<script"), "{page}");
        assert!(page.contains("<svg role=\"img\"") && page.contains("class=\"good\">enforced"));
        assert!(document(&History::parse(HELD)).contains("class=\"good\">held"));
        // The name of SVG's own vocabulary is no address that is fetched.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
