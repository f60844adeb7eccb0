//! What the pages have in common: one file each that needs nothing else, light or dark as the reader likes it.

use super::markup::Escaped;

const STYLE: &str = "
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --unsure: #9a6700; --dim: #6e7781; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --unsure: #d29922; --dim: #8b949e; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; overflow-wrap: anywhere; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 .25rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .unsure { color: var(--unsure); } .dim { color: var(--dim); }
pre { overflow-x: auto; background: #8881; padding: .75rem; }
svg { width: 100%; height: auto; }
";

/// A whole page. `style` and `body` are trusted markup, `title` is text.
#[must_use]
pub fn page(title: &str, style: &str, body: &str) -> String {
    let title = Escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}{style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}
