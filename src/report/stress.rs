//! A stress in words: as it runs, and what was found.

use std::fmt::Write;

use crate::cgroup::pressure::PressureScope;
use crate::printable::put_line;
use crate::proof::stress::{MemberSnapshot, MemberState, Snapshot, StressRecord};
use crate::units::Mib;

/// Lines of a terminal that a live view takes beside one a worker.
const HEAD: usize = 1;

/// A sample as a line of its own, for a pipe.
#[must_use]
pub fn line(snapshot: &Snapshot) -> String {
    let at = std::time::Duration::from_micros(snapshot.sample.at_us).as_secs_f64();
    let kills: u64 = snapshot.members.iter().map(|member| member.kills).sum();
    format!("{at:>8.1} s  {}  workers {}  killed {kills}\n", usage(snapshot), living(snapshot))
}

fn living(snapshot: &Snapshot) -> String {
    let living = snapshot.members.iter().filter(|member| member.state != MemberState::Dead).count();
    format!("{living} of {}", snapshot.members.len())
}

fn usage(snapshot: &Snapshot) -> String {
    let used = snapshot.sample.usage_bytes;
    let Some(limit) = snapshot.limit_bytes.filter(|limit| *limit > 0) else {
        return format!("{:>10} used", Mib(used).to_string());
    };
    let percent = u128::from(used) * 100 / u128::from(limit);
    format!("{:>10} used of {} {percent:>3} %", Mib(used).to_string(), Mib(limit))
}

/// The state as a block that is drawn over the one before, for a terminal of so many columns.
#[must_use]
pub fn block(snapshot: &Snapshot, before: Option<&Snapshot>, columns: usize) -> String {
    let up = before.map_or_else(String::new, |before| format!("\x1b[{}A", before.members.len() + HEAD));
    let mut lines = vec![line(snapshot).trim_end().to_owned()];
    lines.extend(snapshot.members.iter().map(member));
    let mut text = up;
    for line in lines {
        let cut: String = line.chars().take(columns.saturating_sub(1)).collect();
        let _ = writeln!(text, "\r\x1b[K{cut}");
    }
    text
}

fn member(member: &MemberSnapshot) -> String {
    let state = match member.state {
        MemberState::Filling => "filling",
        MemberState::Sustaining => "writing again",
        MemberState::Dead => "dead",
    };
    format!(
        "           {:<10} {:>10} of {:<9} {state:<13} written {:>10}  killed {}",
        member.strategy.name(),
        Mib(member.touched_bytes).to_string(),
        Mib(member.share_bytes).to_string(),
        Mib(member.written_bytes).to_string(),
        member.kills
    )
}

/// What was found, with the numbers behind it.
#[must_use]
pub fn conclusion(record: &StressRecord) -> String {
    let mut text = String::new();
    text += super::proof::alarm(&record.verdict);
    let reason = record.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    put_line(&mut text, &format!("{}{reason}: {}", record.verdict, record.sentence));
    for line in numbers(record) {
        put_line(&mut text, &format!("  {line}"));
    }
    for refusal in record.refusals.iter().skip(1) {
        put_line(&mut text, &format!("  also {}: {}", refusal.reason, refusal.sentence));
    }
    if let Some(why) = &record.not_kept {
        put_line(&mut text, &format!("  not recorded: {why}"));
    }
    if let Some(hint) = &record.hint {
        put_line(&mut text, &format!("hint: {hint}"));
    }
    text
}

/// The summary, line by line.
#[must_use]
pub fn numbers(record: &StressRecord) -> Vec<String> {
    let Some(summary) = &record.summary else { return Vec::new() };
    let seconds = std::time::Duration::from_micros(record.duration_us).as_secs_f64();
    let mut lines = vec![
        format!(
            "usage {} at least, {} on average, {} at most",
            Mib(summary.usage_min_bytes),
            Mib(summary.usage_mean_bytes),
            Mib(summary.usage_max_bytes)
        ),
        format!(
            "written {} in {seconds:.1} s, {} a second",
            Mib(summary.written_bytes),
            Mib(summary.bytes_per_second)
        ),
    ];
    let kills = summary.kills;
    let mut killed = format!("workers killed: {} by the limit", kills.limit);
    if kills.ancestor > 0 {
        let _ = write!(killed, ", {} by a limit above", kills.ancestor);
    }
    if kills.external > 0 {
        let _ = write!(killed, ", {} by somebody else", kills.external);
    }
    let _ = write!(killed, "; limit hit {} times", summary.limit_hits);
    lines.push(killed);
    if let (Some(some), Some(full)) = (summary.pressure_some_us, summary.pressure_full_us) {
        let whose =
            if summary.pressure_scope == Some(PressureScope::Host) { " (of the whole host)" } else { "" };
        let seconds = |us| std::time::Duration::from_micros(us).as_secs_f64();
        lines.push(format!(
            "waited for memory{whose}: some {:.2} s, all {:.2} s",
            seconds(some),
            seconds(full)
        ));
    }
    for member in &record.members {
        lines.push(format!(
            "{}: {} written, started {} times, killed {} times",
            member.strategy,
            Mib(member.written_bytes),
            member.starts,
            member.kills
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{Sample, Strategy};
    use crate::units::MIB;

    fn snapshot() -> Snapshot {
        let member = MemberSnapshot {
            strategy: Strategy::Random,
            state: MemberState::Sustaining,
            share_bytes: 32 * MIB,
            touched_bytes: 32 * MIB,
            written_bytes: 100 * MIB,
            kills: 3,
        };
        Snapshot {
            sample: Sample { at_us: 1_500_000, touched_bytes: 32 * MIB, usage_bytes: 48 * MIB },
            limit_bytes: Some(64 * MIB),
            members: vec![member, MemberSnapshot { state: MemberState::Dead, ..member }],
        }
    }

    #[test]
    fn a_line_has_usage_workers_and_deaths() {
        assert_eq!(
            line(&snapshot()),
            "     1.5 s      48 MiB used of 64 MiB  75 %  workers 1 of 2  killed 6\n"
        );
        let unlimited = Snapshot { limit_bytes: None, ..snapshot() };
        assert!(line(&unlimited).contains("48 MiB used  workers"));
    }

    #[test]
    fn a_block_is_drawn_over_the_one_before_and_never_wraps() {
        let (first, again) = (block(&snapshot(), None, 40), block(&snapshot(), Some(&snapshot()), 40));
        assert_eq!(again, format!("\x1b[3A{first}"));
        assert_eq!(first.lines().count(), 3);
        assert!(first.lines().all(|line| line.chars().count() <= 40 + 4));
    }
}
