//! The results as Markdown: a row a measurement, a column a runtime, and rt beside its mark.

use std::fmt::Write;
use std::time::Duration;

use crate::document;
use crate::runtimes::{Runtime, reference};

/// What rt shall reach.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// rt's value over the reference's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// rt's value itself.
    AtMost(f64),
}

/// One measurement: a value a runtime, none where it cannot be had.
#[derive(Debug)]
pub struct Row {
    what: String,
    unit: &'static str,
    values: Vec<Option<f64>>,
    mark: Option<Mark>,
}

impl Row {
    pub fn new(what: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self::of_some(what, unit, values.into_iter().map(Some).collect())
    }

    pub fn of_some(what: impl Into<String>, unit: &'static str, values: Vec<Option<f64>>) -> Self {
        Self { what: what.into(), unit, values, mark: None }
    }

    pub fn mark(self, mark: Mark) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// The cells after the values: ratio, mark, and whether rt is there.
    fn verdict(&self, reference: usize) -> String {
        let own = self.values[0];
        let ratio = own.zip(self.values[reference]).map(|(own, other)| own / other).filter(|r| r.is_finite());
        let shown = ratio.map_or("–".to_owned(), |r| format!("{r:.2}"));
        let (mark, reached) = match self.mark {
            None => return format!("{shown} | | |"),
            Some(Mark::RatioAtMost(most)) => (format!("≤ {most:.2}"), ratio.map(|r| r <= most)),
            Some(Mark::RatioAtLeast(least)) => (format!("≥ {least:.2}"), ratio.map(|r| r >= least)),
            Some(Mark::AtMost(most)) => (format!("rt ≤ {most:.0}"), own.map(|own| own <= most)),
        };
        let sign = reached.map_or("?", |reached| if reached { "✓" } else { "✗" });
        format!("{shown} | {mark} | {sign} |")
    }
}

pub fn render(runtimes: &[Runtime], rows: &[Row], rounds: usize, containers: usize) -> String {
    let reference = reference(runtimes);
    let mut text =
        format!("Medians of {rounds} shuffled rounds, {containers} containers; {}.\n\n", document::machine());
    let labels: Vec<&str> = runtimes.iter().map(|r| r.label.as_str()).collect();
    writeln!(text, "| | {} | rt / {} | mark | |", labels.join(" | "), labels[reference]).unwrap();
    writeln!(text, "|---|{}---:|---:|---|", "---:|".repeat(runtimes.len())).unwrap();
    for row in rows {
        let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
        let values: Vec<String> = row.values.iter().map(|v| v.map_or("–".to_owned(), number)).collect();
        writeln!(text, "| {}{unit} | {} | {}", row.what, values.join(" | "), row.verdict(reference)).unwrap();
    }
    text
}

/// Whole ones as such, others to three digits.
fn number(value: f64) -> String {
    match value {
        v if v.fract() == 0.0 || v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// What sealing costs, as a sentence.
pub fn seal(cost: Duration) -> String {
    format!(
        "\nThe protection of rt's binary against being overwritten from a container costs create, run and exec {:.2} ms each \
         (a create that ends right after it, less a command that goes without).\n",
        cost.as_secs_f64() * 1000.0
    )
}
