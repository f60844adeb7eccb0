//! Readings of many containers as a table that fits the terminal: what matters least is left out first.

use std::collections::BTreeMap;

use super::screen::Size;
use super::sparkline::{self, Trend};
use crate::cgroup::pressure::PressureScope;
use crate::monitor::Reading;
use crate::units::Mib;

/// A column: its title, width, and what it shows.
struct Column {
    title: &'static str,
    width: usize,
    cell: fn(&Reading) -> String,
}

const fn column(title: &'static str, width: usize, cell: fn(&Reading) -> String) -> Column {
    Column { title, width, cell }
}

/// In the order they are shown.
const COLUMNS: [Column; 9] = [
    column("USAGE", 9, |r| Mib(r.usage_bytes).to_string()),
    column("LIMIT", 10, limit),
    column("%", 5, |r| r.percent.map_or_else(String::new, |percent| format!("{percent:.1}"))),
    column("KILLS", 5, |r| r.oom_kills.to_string()),
    column("WORKING", 9, |r| Mib(r.working_set_bytes).to_string()),
    column("PEAK", 9, |r| r.peak_bytes.map_or_else(String::new, |bytes| Mib(bytes).to_string())),
    column("RATE", 14, |r| super::monitor::rate(r.bytes_per_second.unwrap_or(0))),
    column("PRESSURE", 8, pressure),
    column("SWAP", 9, |r| Mib(r.swap_bytes).to_string()),
];

/// So many of them are always shown.
const LEAST: usize = 4;

/// The name's column.
const NAME: usize = 18;

/// A limit that is an ancestor's is marked; a line below the table names it.
fn limit(reading: &Reading) -> String {
    let mark = if reading.limiter.is_some() { "*" } else { "" };
    reading.limit_bytes.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{}{mark}", Mib(bytes)))
}

/// The pressure of the whole host is no container's.
fn pressure(reading: &Reading) -> String {
    let own = reading.pressure.filter(|_| reading.pressure_scope == Some(PressureScope::Cgroup));
    own.map_or_else(String::new, |pressure| format!("{:.1} %", pressure.some_avg10))
}

/// The lines of the table, titles and notes included, for a terminal of that size.
#[must_use]
pub fn table(readings: &[(String, Reading)], trends: &BTreeMap<String, Trend>, size: Size) -> Vec<String> {
    let columns = &COLUMNS[..fitting(size.columns)];
    let titles = columns.iter().map(|column| format!("  {:>1$}", column.title, column.width));
    let mut lines = vec![format!("{:<NAME$}{}  TREND", "CONTAINER", titles.collect::<String>())];
    let notes: Vec<String> = readings
        .iter()
        .filter_map(|(id, reading)| Some(format!("* {id}: limit of {}", reading.limiter.as_ref()?)))
        .collect();
    // Without room the cursor could not go back to the first line.
    let room = size.rows.saturating_sub(lines.len() + notes.len() + 2).max(1);
    for (id, reading) in readings.iter().take(room) {
        let cells = columns.iter().map(|column| format!("  {:>1$}", (column.cell)(reading), column.width));
        let bars = trends.get(id).map_or_else(String::new, |trend| trend.bars(reading.limit_bytes));
        lines.push(format!("{id:<NAME$.NAME$}{}  {bars}", cells.collect::<String>()));
    }
    if readings.len() > room {
        lines.push(format!("and {} more", readings.len() - room));
    }
    lines.extend(notes.into_iter().take(size.rows.saturating_sub(lines.len() + 1)));
    lines
}

/// How many columns fit beside name and trend.
fn fitting(width: usize) -> usize {
    let beside = NAME + 2 + sparkline::LENGTH + 1;
    let mut used = beside;
    let fit = COLUMNS.iter().take_while(|column| {
        used += column.width + 2;
        used <= width
    });
    fit.count().max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::super::monitor::tests::reading;
    use super::*;
    use crate::units::MIB;

    const SIZE: Size = Size { columns: 160, rows: 24 };

    fn web() -> Vec<(String, Reading)> {
        vec![("web".to_owned(), reading())]
    }

    #[test]
    fn a_row_has_numbers_and_a_trend_and_no_limit_is_said_in_words() {
        let unlimited = Reading { limit_bytes: None, percent: None, ..reading() };
        let readings = [("db".to_owned(), unlimited), ("web".to_owned(), reading())];
        let mut trends = BTreeMap::new();
        let trend: &mut Trend = trends.entry("web".to_owned()).or_default();
        [0, 64 * MIB, 128 * MIB].into_iter().for_each(|usage| trend.push(usage));
        let lines = table(&readings, &trends, SIZE);
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("db ") && lines[1].contains("unlimited"), "{}", lines[1]);
        assert!(lines[2].contains(" 25.0 ") && lines[2].contains("-1 MiB/s") && lines[2].ends_with("▁▄█"));
    }

    #[test]
    fn a_narrow_terminal_keeps_what_matters_most() {
        let lines = table(&web(), &BTreeMap::new(), Size { columns: 80, ..SIZE });
        assert!(lines[0].contains("LIMIT") && lines[0].contains("KILLS") && lines[0].ends_with("TREND"));
        assert!(!lines[0].contains("PRESSURE") && lines[0].len() + sparkline::LENGTH <= 80 + "TREND".len());
    }

    #[test]
    fn a_limit_above_is_named_below_the_table() {
        let above = Reading { limiter: Some("/pod".into()), ..reading() };
        let lines = table(&[("web".to_owned(), above)], &BTreeMap::new(), SIZE);
        assert!(lines[1].contains("128 MiB*"), "{}", lines[1]);
        assert_eq!(lines[2], "* web: limit of /pod");
    }

    #[test]
    fn more_containers_than_rows_are_counted() {
        let many: Vec<_> = (0..50).map(|i| (format!("c{i}"), reading())).collect();
        let lines = table(&many, &BTreeMap::new(), Size { rows: 10, ..SIZE });
        assert!(lines.len() < 10 && lines.last().unwrap().ends_with("more"), "{lines:?}");
    }
}
