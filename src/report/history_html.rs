//! Proofs that were made, as a page with a picture of each.

use std::fmt::Write;

use super::history::{sentence, skipped, verdict};
use super::markup::Escaped;
use super::page::page;
use super::plot;
use crate::proof::history::History;
use crate::proof::{Record, Verdict};
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
    let mut body: String = history.proofs.iter().map(article).collect();
    if let Some(line) = skipped(history) {
        let _ = writeln!(body, "<p class=\"dim\">{}</p>", Escaped(&line));
    }
    let id = history.proofs.last().map_or("", |record| record.id.as_str());
    page(&format!("Memory proofs of {id}"), STYLE, &body)
}

fn article(record: &Record) -> String {
    let mut text = format!(
        "<article>\n<h2><span class=\"{}\">{}</span> <span class=\"dim\">{}</span></h2>\n<p>{}</p>\n",
        class(record),
        Escaped(&verdict(record)),
        record.strategy,
        Escaped(sentence(record))
    );
    if let Some(hint) = &record.hint {
        let _ = writeln!(text, "<p>Hint: {}</p>", Escaped(hint));
    }
    for refusal in record.refusals.iter().skip(1) {
        let _ = writeln!(text, "<p>Also {}: {}</p>", refusal.reason, Escaped(&refusal.sentence));
    }
    if let Some(picture) = plot::svg(record) {
        // A picture is described by the sentence above it.
        text += &picture.replacen("<svg ", "<svg role=\"img\" aria-label=\"memory over time\" ", 1);
    }
    text += &counters(record);
    let _ = writeln!(text, "<p class=\"dim\">{}</p>\n</article>", Escaped(&circumstances(record)));
    text
}

/// How the verdict is shown.
fn class(record: &Record) -> &'static str {
    match Verdict::ALL.into_iter().find(|verdict| verdict.name() == record.verdict).map(Verdict::exit) {
        Some(exit) if exit.0 == 0 => "good",
        Some(exit) if matches!(exit.0, 1 | 5) => "bad",
        _ => "unsure",
    }
}

/// The kernel's counters before and after.
fn counters(record: &Record) -> String {
    let (Some(before), Some(after)) = (record.counters_before, record.counters_after) else {
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
    use crate::proof::history::tests::ENFORCED;

    #[test]
    fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
        let hostile = ENFORCED.replace("\"id\":\"web\"", "\"id\":\"<script>x\"");
        let page = document(&History::parse(&hostile));
        assert!(page.contains("&lt;script&gt;x") && !page.contains("<script"), "{page}");
        assert!(page.contains("<svg role=\"img\"") && page.contains("class=\"good\">enforced"));
        // The name of SVG's own vocabulary is no address that is fetched.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
