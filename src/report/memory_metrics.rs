//! Readings as OpenMetrics text, which Prometheus and the textfile collector of its node exporter read.

use std::fmt::{self, Write};

use crate::cgroup::pressure::PressureScope;
use crate::monitor::Reading;

/// One family of metrics: its name, kind, unit, meaning, and its value in a reading.
struct Family {
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    help: &'static str,
    value: fn(&Reading) -> Option<Value>,
}

/// Bytes and counts are whole; times are not.
enum Value {
    Whole(u64),
    Seconds(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Seconds(value) => write!(f, "{value}"),
        }
    }
}

fn bytes(name: &'static str, help: &'static str, value: fn(&Reading) -> Option<Value>) -> Family {
    Family { name, kind: "gauge", unit: "bytes", help, value }
}

fn families() -> [Family; 8] {
    use Value::{Seconds, Whole};
    // The pressure of the whole host is no container's.
    fn own(reading: &Reading) -> Option<crate::cgroup::pressure::Pressure> {
        reading.pressure.filter(|_| reading.pressure_scope == Some(PressureScope::Cgroup))
    }
    [
        bytes("rt_memory_usage_bytes", "Memory charged to the container.", |r| Some(Whole(r.usage_bytes))),
        bytes("rt_memory_working_set_bytes", "Usage without idle page cache.", |r| {
            Some(Whole(r.working_set_bytes))
        }),
        bytes("rt_memory_limit_bytes", "The tightest limit that binds; absent without one.", |r| {
            r.limit_bytes.map(Whole)
        }),
        bytes("rt_memory_peak_bytes", "The highest usage recorded.", |r| r.peak_bytes.map(Whole)),
        bytes("rt_memory_swap_bytes", "Memory of the container in swap.", |r| Some(Whole(r.swap_bytes))),
        Family {
            name: "rt_memory_oom_kills",
            kind: "counter",
            unit: "",
            help: "Processes of the container that were OOM-killed.",
            value: |r| Some(Whole(r.oom_kills)),
        },
        Family {
            name: "rt_memory_pressure_some_seconds",
            kind: "counter",
            unit: "seconds",
            help: "Time in which some task of the container waited for memory.",
            value: |r| {
                own(r).map(|p| Seconds(std::time::Duration::from_micros(p.some_total_us).as_secs_f64()))
            },
        },
        Family {
            name: "rt_memory_pressure_full_seconds",
            kind: "counter",
            unit: "seconds",
            help: "Time in which all tasks of the container waited for memory.",
            value: |r| {
                own(r).map(|p| Seconds(std::time::Duration::from_micros(p.full_total_us).as_secs_f64()))
            },
        },
    ]
}

/// The exposition of these readings, each with the container's name.
#[must_use]
pub fn exposition(readings: &[(String, Reading)]) -> String {
    let mut text = String::new();
    for family in families() {
        let Family { name, kind, unit, help, value } = family;
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {help}");
        let ending = if kind == "counter" { "_total" } else { "" };
        for (id, reading) in readings {
            if let Some(value) = value(reading) {
                let _ = writeln!(text, "{name}{ending}{{{}}} {value}", labels(id, reading));
            }
        }
    }
    text + "# EOF\n"
}

/// The container, and whose limit it is where an ancestor binds.
fn labels(id: &str, reading: &Reading) -> String {
    let limiter =
        reading.limiter.as_ref().map_or_else(String::new, |name| format!(",limiter=\"{}\"", Label(name)));
    format!("container=\"{}\"{limiter}", Label(id))
}

/// A label's value, escaped.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::monitor::tests::reading;
    use super::*;
    use crate::cgroup::pressure::Pressure;

    #[test]
    fn families_are_whole_and_the_end_is_marked() {
        let pressure = Pressure { some_total_us: 1_500_000, ..Pressure::default() };
        let full =
            Reading { pressure: Some(pressure), pressure_scope: Some(PressureScope::Cgroup), ..reading() };
        let unlimited = Reading { limit_bytes: None, ..reading() };
        let text = exposition(&[("web".into(), full), ("d\"b\\\n".into(), unlimited)]);
        assert!(
            text.contains("# TYPE rt_memory_usage_bytes gauge\n# UNIT rt_memory_usage_bytes bytes\n# HELP ")
        );
        assert!(text.contains("rt_memory_usage_bytes{container=\"web\"} 33554432\n"), "{text}");
        assert!(text.contains("{container=\"d\\\"b\\\\\\n\"}"), "{text}");
        assert!(text.contains("rt_memory_oom_kills_total{container=\"web\"} 2\n"), "{text}");
        assert!(text.contains("rt_memory_pressure_some_seconds_total{container=\"web\"} 1.5\n"), "{text}");
        assert_eq!(text.matches("rt_memory_limit_bytes{").count(), 1, "none without a limit");
        assert_eq!(
            text.matches("pressure_some_seconds_total{").count(),
            1,
            "none where the kernel tells none"
        );
        assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"));
    }

    #[test]
    fn a_limit_above_is_named_and_the_pressure_of_the_host_is_nobodys() {
        let above = Reading {
            limiter: Some("/pod".into()),
            pressure: Some(Pressure::default()),
            pressure_scope: Some(PressureScope::Host),
            ..reading()
        };
        let text = exposition(&[("web".into(), above)]);
        assert!(text.contains("rt_memory_limit_bytes{container=\"web\",limiter=\"/pod\"}"), "{text}");
        assert!(!text.contains("seconds_total{"), "{text}");
    }
}
