//! The last readings as a row of bars.

use std::collections::VecDeque;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How many readings are shown.
pub const LENGTH: usize = 20;

/// The newest values of one container.
#[derive(Debug, Clone, Default)]
pub struct Trend {
    values: VecDeque<u64>,
}

impl Trend {
    /// Adds the newest value; the oldest goes where there are enough.
    pub fn push(&mut self, value: u64) {
        if self.values.len() == LENGTH {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// The bars, the highest of them at `whole` (a limit), or at the highest value where there is none.
    #[must_use]
    pub fn bars(&self, whole: Option<u64>) -> String {
        let highest = whole.or_else(|| self.values.iter().copied().max()).unwrap_or(0).max(1);
        let top = (BARS.len() - 1) as u128;
        let height = |value: u64| u128::from(value.min(highest)) * top / u128::from(highest);
        self.values.iter().map(|value| BARS[usize::try_from(height(*value)).unwrap_or(0)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_reach_from_nothing_to_the_limit() {
        let mut trend = Trend::default();
        assert_eq!(trend.bars(None), "");
        [0, 50, 100, 200].into_iter().for_each(|value| trend.push(value));
        assert_eq!(trend.bars(Some(100)), "▁▄██");
        assert_eq!(trend.bars(None), "▁▂▄█");
        (0..100).for_each(|value| trend.push(value));
        assert_eq!(trend.bars(None).chars().count(), LENGTH);
        assert_eq!(trend.bars(Some(0)).chars().last(), Some('█'));
    }
}
