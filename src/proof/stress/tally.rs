//! What was counted while the workers ran: numbers alone, for the verdict and the record.

use serde::{Deserialize, Serialize};

use crate::cgroup::Counters;
use crate::proof::evidence::Sample;
use crate::proof::samples::Samples;

/// Deaths of workers, by who killed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kills {
    /// OOM-killed by the container's limit.
    pub limit: u64,
    /// OOM-killed by a limit above it.
    pub ancestor: u64,
    /// SIGKILL without an OOM kill, or another signal.
    pub external: u64,
}

impl Kills {
    /// All of them.
    pub fn all(self) -> u64 {
        self.limit + self.ancestor + self.external
    }
}

/// Usage over all samples, and who died.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub samples: Samples,
    pub count: u64,
    sum: u128,
    pub min_bytes: u64,
    pub max_bytes: u64,
    pub kills: Kills,
    /// OOM kills of the cgroup that were put down to somebody.
    pub attributed: u64,
    /// Hits of the limits when the last death was put down, and to whom.
    hits: [u64; 2],
    last_by_ancestor: bool,
    /// Every worker had its whole share at the same time.
    pub target_reached: bool,
}

impl Tally {
    /// A sample: time, used by all workers, usage at the limiter.
    pub fn add(&mut self, sample: Sample) {
        self.min_bytes =
            if self.count == 0 { sample.usage_bytes } else { self.min_bytes.min(sample.usage_bytes) };
        self.max_bytes = self.max_bytes.max(sample.usage_bytes);
        self.sum += u128::from(sample.usage_bytes);
        self.samples.add(sample);
        self.count += 1;
    }

    /// Mean usage over all samples.
    pub fn mean_bytes(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }

    /// Puts down a worker that died by SIGKILL. `oom_kills` of the cgroup since the beginning, and hits of the limit and
    /// of those above it; a limit that counts no hits is `silent`.
    pub fn killed(&mut self, oom_kills: u64, hits: [u64; 2], silent: bool) {
        if oom_kills <= self.attributed {
            self.kills.external += 1;
            return;
        }
        self.attributed += 1;
        // Deaths close together find the hits counted for the first of them.
        let [by_limit, by_ancestor] = [hits[0] > self.hits[0] || silent, hits[1] > self.hits[1]];
        self.hits = hits;
        self.last_by_ancestor = match (by_limit, by_ancestor) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => self.last_by_ancestor,
        };
        let slot = if self.last_by_ancestor { &mut self.kills.ancestor } else { &mut self.kills.limit };
        *slot += 1;
    }

    /// OOM kills in the cgroup that were none of the workers.
    pub fn others_killed(&self, before: Counters, after: Counters) -> u64 {
        after.oom_kill.saturating_sub(before.oom_kill).saturating_sub(self.attributed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_summed_up_over_more_samples_than_are_kept() {
        let mut tally = Tally::default();
        for i in 0..5000 {
            tally.add(Sample { at_us: i, touched_bytes: 0, usage_bytes: 1000 + i % 11 });
        }
        assert_eq!((tally.count, tally.min_bytes, tally.max_bytes), (5000, 1000, 1010));
        assert!(tally.mean_bytes().abs_diff(1005) <= 1);
        assert!(tally.samples.take().len() < 5000);
    }

    #[test]
    fn deaths_are_put_down_to_who_killed() {
        let mut tally = Tally::default();
        tally.killed(0, [0, 0], false);
        tally.killed(1, [40, 0], false);
        tally.killed(2, [40, 0], false);
        tally.killed(3, [40, 7], false);
        tally.killed(3, [40, 7], false);
        assert_eq!(tally.kills, Kills { limit: 2, ancestor: 1, external: 2 });
        tally.killed(5, [40, 7], true);
        assert_eq!(tally.kills.limit, 3, "a limit that counts no hits");
        let counters = |oom_kill| Counters { oom_kill, ..Counters::default() };
        assert_eq!(tally.others_killed(counters(1), counters(6)), 1);
    }
}
