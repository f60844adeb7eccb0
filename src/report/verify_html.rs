//! The checklist as one page that needs nothing else.

use std::fmt::Write;

use super::markup::Escaped;
use super::page::page;
use super::verify::{host, summary};
use crate::verify::{Check, Mark, Report};

const STYLE: &str = "
ul { list-style: none; margin: 0; padding: 0; }
li { display: grid; grid-template-columns: 1.5rem 11rem 1fr auto; gap: .5rem; padding: .25rem 0; border-top: 1px solid #8884; }
.bad code { color: var(--bad); } li b { color: inherit; } .good code, .good span, .bad span { color: CanvasText; }
.time { color: var(--dim) !important; font-variant-numeric: tabular-nums; }
.hint { grid-column: 3; }
";

/// The whole page.
pub fn document(report: &Report) -> String {
    let result = if report.passed { "Memory limits hold" } else { "Memory limits do not all hold" };
    let mut text = String::new();
    let runtime = report.runtime.to_string_lossy();
    let _ = writeln!(
        text,
        "<p>{} <code>{}</code>, kernel {}</p>",
        Escaped(&summary(report)),
        Escaped(&runtime),
        Escaped(&report.kernel)
    );
    for step in report.checks.chunk_by(|a, b| a.step == b.step) {
        let _ = writeln!(text, "<h2>{}</h2>\n<ul>", Escaped(step[0].step.title()));
        step.iter().for_each(|check| text += &line(check));
        text += "</ul>\n";
    }
    let _ = writeln!(text, "<h2>This host</h2>\n<pre>{}</pre>", Escaped(&host(&report.host)));
    page(result, STYLE, &text)
}

fn line(check: &Check) -> String {
    let class = match check.mark {
        Mark::Pass => "good",
        Mark::Fail => "bad",
        Mark::Skip => "dim",
    };
    let hint = check
        .hint
        .as_deref()
        .map_or_else(String::new, |hint| format!("<span class=\"hint\">{}</span>", Escaped(hint)));
    format!(
        "<li class=\"{class}\"><b>{}</b><code>{}</code><span>{}</span><span class=\"time\">{} ms</span>{hint}</li>\n",
        check.mark,
        Escaped(check.name),
        Escaped(&check.why),
        check.took_us / 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verify::tests::report;

    #[test]
    fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
        let page = document(&report());
        assert!(page.contains("&lt;broken&gt;") && !page.contains("<broken>"));
        for outside in ["http:", "https:", "src=", "<script", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<li class=").count(), 3);
        assert_eq!(page.matches("<h2>").count(), 3, "two steps and the host");
    }
}
