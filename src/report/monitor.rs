//! A reading in words: a line of its own for a pipe, or one that is drawn over the one before.

use std::fmt::Write;

use serde::Serialize;

use super::sparkline::Trend;
use crate::cgroup::pressure::PressureScope;
use crate::monitor::{End, Reading};
use crate::printable::printable_line;
use crate::units::Mib;

/// The reading as one line, without an end.
pub fn line(reading: &Reading) -> String {
    let mut text = String::new();
    put_line(&mut text, reading);
    text
}

/// As [`line`], at the end of `text`.
pub fn put_line(text: &mut String, reading: &Reading) {
    let at = std::time::Duration::from_micros(reading.at_us).as_secs_f64();
    let _ = write!(text, "{at:>8.3} s  {:>10} ", Mib(reading.usage_bytes).to_string());
    put_limit(text, reading);
    let _ = write!(text, "  working set {}", Mib(reading.working_set_bytes));
    if let Some(peak) = reading.peak_bytes {
        let _ = write!(text, "  peak {}", Mib(peak));
    }
    if reading.swap_bytes > 0 {
        let _ = write!(text, "  swap {}", Mib(reading.swap_bytes));
    }
    let change = reading.bytes_per_second.unwrap_or(0);
    let _ = write!(text, "  {}{}/s", sign(change), Mib(change.unsigned_abs()));
    let _ = write!(text, "  OOM kills {}", reading.oom_kills);
    if reading.new_oom_kills > 0 {
        let _ = write!(text, " (+{})", reading.new_oom_kills);
    }
    if let (Some(pressure), Some(scope)) = (reading.pressure, reading.pressure_scope) {
        let whose = if scope == PressureScope::Host { " (host)" } else { "" };
        let _ = write!(text, "  pressure {:.1} %{whose}", pressure.some_avg10);
    }
}

fn put_limit(text: &mut String, reading: &Reading) {
    let Some(limit) = reading.limit_bytes else {
        let _ = write!(text, "unlimited (the host has {})", Mib(reading.host_total_bytes));
        return;
    };
    let _ = write!(text, "of {}", Mib(limit));
    if let Some(name) = &reading.limiter {
        let _ = write!(text, " (limit of {})", printable_line(name));
    }
    if let Some(percent) = reading.percent {
        let _ = write!(text, "  {percent:>5.1} %");
    }
}

pub(super) fn rate(bytes_per_second: i64) -> String {
    format!("{}{}/s", sign(bytes_per_second), Mib(bytes_per_second.unsigned_abs()))
}

fn sign(number: i64) -> char {
    if number < 0 { '-' } else { '+' }
}

/// The reading as a line of a live view, with its trend.
#[must_use]
pub fn live(reading: &Reading, trend: &Trend) -> String {
    format!("{}  {}", trend.bars(reading.limit_bytes), line(reading).trim_start())
}

/// Puts the reading of a container as JSON at the end of `text`.
///
/// # Errors
/// Never: a reading can always be written.
pub fn put_json(text: &mut Vec<u8>, id: &str, reading: &Reading) -> serde_json::Result<()> {
    #[derive(Serialize)]
    struct Named<'a> {
        id: &'a str,
        #[serde(flatten)]
        reading: &'a Reading,
    }
    serde_json::to_writer(text, &Named { id, reading })
}

/// Lines drawn over so many that were drawn before, each cut to the columns of the terminal.
#[must_use]
pub fn redraw(lines: &[String], before: usize, columns: usize) -> String {
    let mut text = if before > 0 { format!("\x1b[{before}A") } else { String::new() };
    for line in lines {
        let cut: String = printable_line(line).chars().take(columns.saturating_sub(1)).collect();
        let _ = writeln!(text, "\r\x1b[K{cut}");
    }
    // What was longer before.
    text + "\x1b[J"
}

/// Why the view ended; `None` where that needs no word.
pub fn ending(id: &str, end: End) -> Option<String> {
    match end {
        End::Ended => Some(format!("{} has ended\n", printable_line(id))),
        End::Stopped => Some(format!("{} is stopped\n", printable_line(id))),
        End::TimeUp | End::Interrupted => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::units::MIB;

    pub(crate) fn reading() -> Reading {
        Reading {
            at_us: 1_500_000,
            usage_bytes: 32 * MIB,
            working_set_bytes: 30 * MIB,
            limit_bytes: Some(128 * MIB),
            limiter: None,
            percent: Some(25.0),
            host_total_bytes: 24 * 1024 * MIB,
            peak_bytes: Some(40 * MIB),
            swap_bytes: 0,
            oom_kills: 2,
            new_oom_kills: 1,
            bytes_per_second: Some(-(1 << 20)),
            pressure: None,
            pressure_scope: None,
        }
    }

    #[test]
    fn a_line_has_what_matters() {
        let want = "   1.500 s      32 MiB of 128 MiB   25.0 %  working set 30 MiB  peak 40 MiB  -1 MiB/s  OOM kills 2 (+1)";
        assert_eq!(line(&reading()), want);
        let above = Reading { limiter: Some("/pod".into()), ..reading() };
        assert!(line(&above).contains("of 128 MiB (limit of /pod)"));
    }

    #[test]
    fn no_limit_is_said_in_words() {
        let unlimited = Reading { limit_bytes: None, percent: None, ..reading() };
        assert!(
            line(&unlimited).contains("32 MiB unlimited (the host has 24576 MiB)"),
            "{}",
            line(&unlimited)
        );
    }

    #[test]
    fn a_drawn_line_never_wraps_and_covers_the_one_before() {
        let lines = [line(&reading()), line(&reading())];
        let drawn = redraw(&lines, 2, 40);
        assert!(drawn.starts_with("\x1b[2A\r"));
        assert!(drawn.lines().all(|line| line.chars().count() <= 40 + 8), "{drawn:?}");
    }

    #[test]
    fn a_cgroups_name_commands_no_terminal() {
        let named = Reading { limiter: Some("/pod\x1b[2J\u{9b}".into()), ..reading() };
        assert!(line(&named).contains("(limit of /pod\\u001b[2J\\u009b)"));
        let drawn = redraw(&["* web: limit of /\x1b]0;x\x07".to_owned()], 0, 80);
        assert_eq!(drawn, "\r\x1b[K* web: limit of /\\u001b]0;x\\u0007\n\x1b[J");
    }

    #[test]
    fn json_has_the_name_and_the_numbers_side_by_side() {
        let mut text = Vec::new();
        put_json(&mut text, "web", &reading()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&value["id"], &value["usage_bytes"]), (&"web".into(), &(32 * MIB).into()));
    }
}
