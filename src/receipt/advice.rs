//! What limit would fit, from the peak that a container had.

use super::death::Cause;
use super::evidence::{Culprit, Memory};
use crate::units::{MIB, Mib};

/// Room above the peak, as a share of it: what the vertical pod autoscaler recommends.
const MARGIN_PERCENT: u64 = 15;

/// Room above the peak at least.
const LEAST_MARGIN: u64 = 4 * MIB;

/// The limit that leaves room above `peak`, in whole MiB.
#[must_use]
pub fn fitting(peak: u64) -> u64 {
    let margin = (peak / 100).saturating_mul(MARGIN_PERCENT).max(LEAST_MARGIN);
    whole_mib(peak.saturating_add(margin))
}

/// Half as much again: what more was needed is not known of a process that was killed at its limit.
fn half_more(limit: u64) -> u64 {
    whole_mib(limit.saturating_add(limit / 2))
}

fn whole_mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB).min(u64::MAX / MIB) * MIB
}

/// The advice; `None` where there is nothing to go by.
#[must_use]
pub fn advice(cause: Cause, memory: Option<&Memory>) -> Option<String> {
    let memory = memory?;
    match (&memory.culprit, cause) {
        (Some(Culprit::Own { limit_bytes }), _) => Some(format!(
            "it needed more than {}: try {}, and look at the peak again",
            Mib(*limit_bytes),
            Mib(half_more(*limit_bytes))
        )),
        (Some(Culprit::Above { path, .. }), _) => Some(format!(
            "raise the limit on {path}, or run less beside it{}",
            memory
                .own_peak_bytes
                .map_or_else(String::new, |peak| format!("; its own peak was {}", Mib(peak)))
        )),
        (Some(Culprit::Host), _) => Some(format!(
            "run less on this host{}",
            memory
                .own_peak_bytes
                .map_or_else(String::new, |peak| format!(", and limit it to {}", Mib(fitting(peak))))
        )),
        (Some(Culprit::Unknown), _) | (None, Cause::NotStarted | Cause::Alive) => None,
        (None, _) => from_peak(memory),
    }
}

fn from_peak(memory: &Memory) -> Option<String> {
    let peak = memory.own_peak_bytes?;
    let when = if memory.own_peak_before_proofs { " before the first proof" } else { "" };
    let fits = fitting(peak);
    let Some(limit) = memory.limit_bytes else {
        return Some(format!("its peak was {}{when}: a limit of {} would fit", Mib(peak), Mib(fits)));
    };
    if memory.limit_hits > 0 {
        return Some(format!(
            "it reached its limit of {} and lived on what could be given back: {} would leave it room",
            Mib(limit),
            Mib(half_more(limit))
        ));
    }
    // A limit within a quarter of what fits is not worth a word.
    if fits > limit {
        Some(format!(
            "its peak was {}{when}, close to its limit: {} would leave it room",
            Mib(peak),
            Mib(fits)
        ))
    } else if fits < limit - limit / 4 {
        Some(format!("its peak was {}{when}: a limit of {} would fit", Mib(peak), Mib(fits)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitting_limit_has_room_and_is_whole() {
        assert_eq!(fitting(0), 4 * MIB);
        assert_eq!(fitting(MIB / 2), 5 * MIB);
        assert_eq!(fitting(100 * MIB), 115 * MIB);
        assert_eq!(fitting(u64::MAX) % MIB, 0, "no overflow");
        assert_eq!(half_more(64 * MIB), 96 * MIB);
    }
}
