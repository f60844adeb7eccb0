//! One reading, in numbers.

use serde::Serialize;

use crate::cgroup::pressure::{Pressure, PressureScope};

/// A container's memory at one moment. Bytes and microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// Since the view began.
    pub at_us: u64,
    pub usage_bytes: u64,
    /// Usage without page cache that lies idle: what the container really needs.
    pub working_set_bytes: u64,
    /// The tightest limit that binds it; `None` for no limit.
    pub limit_bytes: Option<u64>,
    /// The ancestor that the limit belongs to, where it is not the container's own.
    pub limiter: Option<String>,
    /// Usage in percent of the limit.
    pub percent: Option<f64>,
    /// The host's memory: the scale where there is no limit.
    pub host_total_bytes: u64,
    /// The highest usage the kernel recorded; `None` on v2 before Linux 5.19.
    pub peak_bytes: Option<u64>,
    pub swap_bytes: u64,
    /// OOM kills in the container since it was made, and since the view began.
    pub oom_kills: u64,
    pub new_oom_kills: u64,
    /// How fast usage changed since the reading before.
    pub bytes_per_second: Option<i64>,
    /// `None` where the kernel tells none.
    pub pressure: Option<Pressure>,
    pub pressure_scope: Option<PressureScope>,
}

/// Change per second over a span of time; `None` for a span too short to tell.
pub(super) fn rate(before: u64, now: u64, span_us: u64) -> Option<i64> {
    if span_us == 0 {
        return None;
    }
    let change = i128::from(now) - i128::from(before);
    i64::try_from(change * 1_000_000 / i128::from(span_us)).ok()
}

/// `part` in percent of `whole`, one decimal.
pub(super) fn percent(part: u64, whole: Option<u64>) -> Option<f64> {
    let whole = whole.filter(|whole| *whole > 0)?;
    let tenths = u32::try_from(u128::from(part) * 1000 / u128::from(whole)).ok()?;
    Some(f64::from(tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_sign_and_need_time() {
        assert_eq!(rate(0, 1000, 500_000), Some(2000));
        assert_eq!(rate(1000, 0, 1_000_000), Some(-1000));
        assert_eq!(rate(0, 1000, 0), None);
    }

    #[test]
    fn percentages_are_of_a_limit_only() {
        assert_eq!(percent(32 << 20, Some(128 << 20)), Some(25.0));
        assert_eq!(percent(1, Some(3)), Some(33.3));
        assert_eq!(percent(1, None), None);
        assert_eq!(percent(1, Some(0)), None);
    }
}
