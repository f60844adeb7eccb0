//! Finds in criu's log what went wrong, for those who see only the runtime's.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What marks a line to be quoted, and how many lines before it are quoted too.
const MARK: &str = "Error";
const BEFORE: usize = 5;

/// Logs the lines with errors of criu's log `path` as warnings.
pub(super) fn quote_errors(path: &Path) {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return tracing::warn!("cannot open {}: {error}", path.display()),
    };
    let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    let quoted = errors(lines.map(|line| String::from_utf8_lossy(&line).into_owned()));
    if quoted.is_empty() {
        return;
    }
    tracing::warn!("--- Quoting {:?}", path.display().to_string());
    for line in quoted {
        tracing::warn!("{line}");
    }
    tracing::warn!("---");
}

/// Lines with an error and those before them, each with its number; `...` where some are left out.
fn errors(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut before = VecDeque::new();
    let mut quoted = Vec::new();
    let mut last = 0;
    for (number, line) in (1..).zip(lines) {
        let marked = line.contains(MARK);
        before.push_back((number, line));
        if before.len() > BEFORE + 1 {
            before.pop_front();
        }
        if !marked {
            continue;
        }
        if last != 0 && before.front().is_some_and(|(first, _)| *first > last + 1) {
            quoted.push("...".to_owned());
        }
        quoted.extend(before.drain(..).map(|(number, line)| format!("{number}:{line}")));
        last = number;
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_with_what_was_before_them() {
        let lines = (1..=30).map(|n| match n {
            2 | 4 | 20 => format!("Error {n}"),
            n => format!("line {n}"),
        });
        let quoted = errors(lines);
        assert_eq!(quoted[..4], ["1:line 1", "2:Error 2", "3:line 3", "4:Error 4"]);
        assert_eq!((quoted[4].as_str(), quoted[5].as_str()), ("...", "15:line 15"));
        assert_eq!(quoted.last().unwrap(), "20:Error 20");
        assert_eq!(quoted.len(), 11);
        assert!(errors(["fine".to_owned()].into_iter()).is_empty());
    }
}
