//! The row of a runtime in the table of docs/reliability.md.

use std::path::Path;

use super::campaign::Finding;
use super::judge::Verdict;

const BEGIN: &str = "<!-- `make faults` writes: faults -->";
const END: &str = "<!-- end: faults -->";

/// The columns, and the verdicts that count as each.
const COLUMNS: [(&str, &[Verdict]); 8] = [
    ("clean", &[Verdict::Clean]),
    ("refused", &[Verdict::Refused]),
    ("weaker", &[Verdict::Weaker]),
    ("left", &[Verdict::Left]),
    ("torn", &[Verdict::Torn]),
    ("mute", &[Verdict::Mute]),
    ("panic", &[Verdict::Panic]),
    ("hang", &[Verdict::Hang]),
];

/// The line of a runtime; points that were not reached are none.
pub fn row(name: &str, findings: &[Finding]) -> String {
    let reached = findings.iter().filter(|finding| finding.verdict != Verdict::Unreached).count();
    let cells = COLUMNS.map(|(_, verdicts)| {
        let count = findings.iter().filter(|finding| verdicts.contains(&finding.verdict)).count();
        format!(" {count} |")
    });
    format!("| {name} | {reached} |{}", cells.concat())
}

/// Puts the row into the page, instead of the one that this runtime had there.
pub fn write(page: &Path, name: &str, row: &str) {
    let text = std::fs::read_to_string(page).expect("the page");
    let (before, rest) = text.split_once(BEGIN).expect("the mark of the table");
    let (table, after) = rest.split_once(END).expect("the end of the table");
    let heads = COLUMNS.map(|(head, _)| format!(" {head} |"));
    let mut lines = vec![
        format!("| runtime | points |{}", heads.concat()),
        format!("|---|---:|{}", "---:|".repeat(COLUMNS.len())),
    ];
    let others = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    lines.extend(
        others
            .filter(|line| line.starts_with("| ") && !line.starts_with(&format!("| {name} |")))
            .map(String::from),
    );
    lines.push(row.to_owned());
    // rt first, then by name.
    lines[2..].sort_by_key(|line| (!line.starts_with("| rt "), line.clone()));
    std::fs::write(page, format!("{before}{BEGIN}\n{}\n{END}{after}", lines.join("\n"))).expect("the page");
}
