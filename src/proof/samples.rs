//! The samples that are kept of a proof or a stress: evenly spread, however long it takes.

use super::evidence::Sample;

/// Kept at most; when there are more, every other one goes.
const MAX: usize = 600;

/// Samples in the order of time.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    kept: Vec<Sample>,
    seen: u64,
    /// How often every other one went: one in so many powers of two is kept.
    halved: u32,
}

impl Samples {
    /// Keeps the sample, if it is its turn.
    pub fn add(&mut self, sample: Sample) {
        if self.seen.trailing_zeros() >= self.halved {
            if self.kept.len() == MAX {
                self.halved += 1;
                let mut stays = false;
                self.kept.retain(|_| {
                    stays = !stays;
                    stays
                });
            }
            self.kept.push(sample);
        }
        self.seen += 1;
    }

    /// What was kept; nothing is left.
    pub fn take(&mut self) -> Vec<Sample> {
        std::mem::take(self).kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_kept_are_evenly_spread() {
        for count in [1, 600, 601, 1199, 1201, 5000] {
            let mut samples = Samples::default();
            (0..count).for_each(|at_us| samples.add(Sample { at_us, touched_bytes: 0, usage_bytes: 0 }));
            let kept: Vec<u64> = samples.take().iter().map(|sample| sample.at_us).collect();
            let every = count.div_ceil(MAX as u64).next_power_of_two();
            let wanted: Vec<u64> = (0..count).filter(|at_us| at_us.is_multiple_of(every)).collect();
            assert_eq!(kept, wanted, "of {count}");
        }
    }
}
