//! The checklist as one page that needs nothing else.

use std::fmt::Write;

use super::markup::Escaped;
use super::verify::{host, summary};
use crate::verify::{Check, Mark, Report};

const STYLE: &str = "
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --dim: #6e7781; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --dim: #8b949e; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
ul { list-style: none; margin: 0; padding: 0; }
li { display: grid; grid-template-columns: 1.5rem 11rem 1fr auto; gap: .5rem; padding: .25rem 0; border-top: 1px solid #8884; }
.pass b { color: var(--good); } .fail b, .fail code { color: var(--bad); } .skip { color: var(--dim); }
.time { color: var(--dim); font-variant-numeric: tabular-nums; }
.hint { grid-column: 3; } pre { overflow-x: auto; background: #8881; padding: .75rem; }
";

/// The whole page.
pub fn document(report: &Report) -> String {
    let result = if report.passed { "Memory limits hold" } else { "Memory limits do not all hold" };
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>rt verify: {result}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{result}</h1>\n"
    );
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
    let _ =
        writeln!(text, "<h2>This host</h2>\n<pre>{}</pre>\n</body>\n</html>", Escaped(&host(&report.host)));
    text
}

fn line(check: &Check) -> String {
    let class = match check.mark {
        Mark::Pass => "pass",
        Mark::Fail => "fail",
        Mark::Skip => "skip",
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
