//! What was found, by kind.

use std::collections::BTreeMap;
use std::fmt;

use crate::subject::{Answer, FAULTS, Fault};

#[derive(Debug, Default)]
pub struct Column {
    taken: usize,
    refused: usize,
    faults: BTreeMap<Fault, usize>,
}

#[derive(Debug, Default)]
pub struct Table {
    points: usize,
    rt: Column,
    beside: Column,
    /// Of rt.
    pub faults: Vec<String>,
    /// Of the other runtime.
    pub theirs: Vec<String>,
    /// Where the other runtime answers otherwise.
    pub differences: Vec<String>,
}

impl Column {
    fn add(&mut self, answer: &Answer) {
        *if answer.taken { &mut self.taken } else { &mut self.refused } += 1;
        for fault in FAULTS {
            // A mutant counts once of each.
            if answer.faults.iter().any(|(kind, _)| *kind == fault) {
                *self.faults.entry(fault).or_default() += 1;
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.taken += other.taken;
        self.refused += other.refused;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

impl Table {
    pub fn add(&mut self, what: &str, answer: &Answer, beside: Option<&Answer>) {
        self.points += 1;
        self.rt.add(answer);
        self.faults.extend(answer.faults.iter().map(|(kind, words)| format!("{kind:?}: {what}: {words}")));
        let Some(beside) = beside else { return };
        self.beside.add(beside);
        self.theirs
            .extend(beside.faults.iter().map(|(kind, words)| format!("beside: {kind:?}: {what}: {words}")));
        if beside.taken != answer.taken {
            let (who, said) =
                if answer.taken { ("rt takes", &beside.said) } else { ("rt refuses", &answer.said) };
            self.differences.push(format!("{who}: {what}: {said}"));
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.points += other.points;
        self.rt.merge(&other.rt);
        self.beside.merge(&other.beside);
        self.faults.extend(other.faults);
        self.differences.extend(other.differences);
        self.theirs.extend(other.theirs);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | points | taken | refused | weaker | left | panic | hang | mute |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (name, column) in [("rt", &self.rt), ("beside", &self.beside)] {
            if column.taken + column.refused == 0 {
                continue;
            }
            write!(f, "| {name} | {} | {} | {} |", self.points, column.taken, column.refused)?;
            for fault in FAULTS {
                write!(f, " {} |", column.faults.get(&fault).copied().unwrap_or(0))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
