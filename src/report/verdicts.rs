//! The verdict of every container of a machine, a line each.

use std::fmt::Write;

use super::history::verdict;
use crate::printable::printable_line;
use crate::proof::history::Run;
use crate::units::Mib;

/// A container, what it is doing (or `deleted`), and what the last run found of its limit.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    pub id: &'a str,
    pub status: &'a str,
    /// `None` where no proof was made.
    pub last: Option<Run<'a>>,
}

const TITLES: [&str; 5] = ["CONTAINER", "STATUS", "LIMIT", "VERDICT", "AT"];

/// The table, titles included.
#[must_use]
pub fn table(lines: &[Line<'_>]) -> String {
    let rows = std::iter::once(TITLES.map(str::to_owned)).chain(lines.iter().map(row));
    let rows: Vec<_> = rows.collect();
    let mut widths = [0; TITLES.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn row(line: &Line<'_>) -> [String; TITLES.len()] {
    let (id, status) = (printable_line(line.id).into_owned(), line.status.to_owned());
    let Some(run) = &line.last else { return [id, status, "-".into(), "no proof".into(), "-".into()] };
    let entry = run.worst();
    let limit = entry.limit_bytes().map_or_else(|| "-".to_owned(), |bytes| Mib(bytes).to_string());
    let (name, reason) = entry.verdict();
    let verdict = printable_line(&verdict(name, reason)).into_owned();
    [id, status, limit, verdict, printable_line(run.started_at()).into_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::history::History;
    use crate::proof::history::tests::ENFORCED;

    #[test]
    fn a_container_without_a_proof_is_told_too() {
        let history = History::parse(ENFORCED);
        let lines = [
            Line { id: "web", status: "running", last: history.latest() },
            Line { id: "a-longer-name", status: "deleted", last: None },
        ];
        let text = table(&lines);
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(rows.len(), 3);
        assert!(rows[1].starts_with("web            running  64 MiB  enforced  20"), "{text}");
        assert_eq!(rows[2], "a-longer-name  deleted  -       no proof  -");
        assert_eq!(rows[0].find("VERDICT"), rows[1].find("enforced"));
    }
}
