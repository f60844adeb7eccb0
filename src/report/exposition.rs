//! How metrics are written down: OpenMetrics, or Prometheus' older text format, which is all that the textfile collector
//! of node exporter reads (it knows no `UNIT`, and a counter's type by its sample's name alone).

use std::fmt::{Display, Write};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    OpenMetrics,
    Prometheus,
}

/// What a family of metrics is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Without the ending of a counter.
    pub name: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// Empty for none.
    pub unit: &'static str,
    pub help: &'static str,
}

/// Metrics, family by family.
#[derive(Debug)]
pub struct Exposition {
    dialect: Dialect,
    text: String,
    sample: String,
}

impl Exposition {
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self::reusing(dialect, String::new())
    }

    /// In the place of an older text, whose memory is taken over.
    #[must_use]
    pub fn reusing(dialect: Dialect, mut text: String) -> Self {
        text.clear();
        Self { dialect, text, sample: String::new() }
    }

    /// Begins a family; the samples that follow are its own.
    pub fn family(&mut self, family: Family) {
        let Family { name, kind, unit, help } = family;
        let ending = if kind == "counter" { "_total" } else { "" };
        self.sample = format!("{name}{ending}");
        let name = if self.dialect == Dialect::OpenMetrics { name } else { &self.sample };
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        if self.dialect == Dialect::OpenMetrics && !unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {help}");
    }

    /// A sample; a label without a value is left out.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.sample);
        let mut between = '{';
        for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            self.text.push(between);
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.label(value);
            self.text.push('"');
            between = ',';
        }
        self.text.push_str(if between == ',' { "} " } else { " " });
        let _ = writeln!(self.text, "{value}");
    }

    /// A label's value, escaped.
    fn label(&mut self, value: &str) {
        for piece in value.split_inclusive(['\\', '"', '\n']) {
            let (plain, escaped) = match piece.as_bytes().last() {
                Some(b'\\') => (&piece[..piece.len() - 1], "\\\\"),
                Some(b'"') => (&piece[..piece.len() - 1], "\\\""),
                Some(b'\n') => (&piece[..piece.len() - 1], "\\n"),
                _ => (piece, ""),
            };
            self.text.push_str(plain);
            self.text.push_str(escaped);
        }
    }

    /// The whole text.
    #[must_use]
    pub fn end(self) -> String {
        match self.dialect {
            Dialect::OpenMetrics => self.text + "# EOF\n",
            Dialect::Prometheus => self.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(dialect: Dialect) -> String {
        let mut exposition = Exposition::new(dialect);
        exposition.family(Family { name: "waited_seconds", kind: "counter", unit: "seconds", help: "Time." });
        exposition.sample(&[("a", "d\"b\\\n"), ("b", ""), ("c", "x")], 1.5);
        exposition.sample(&[], 2);
        exposition.end()
    }

    #[test]
    fn a_counter_is_named_as_each_dialect_wants_it() {
        let samples = "waited_seconds_total{a=\"d\\\"b\\\\\\n\",c=\"x\"} 1.5\nwaited_seconds_total 2\n";
        let open =
            "# TYPE waited_seconds counter\n# UNIT waited_seconds seconds\n# HELP waited_seconds Time.\n";
        assert_eq!(text(Dialect::OpenMetrics), format!("{open}{samples}# EOF\n"));
        let old = "# TYPE waited_seconds_total counter\n# HELP waited_seconds_total Time.\n";
        assert_eq!(text(Dialect::Prometheus), format!("{old}{samples}"));
    }
}
