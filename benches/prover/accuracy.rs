//! How far from the prediction a worker dies.

use std::fmt::Write;

use rt::proof::{Strategy, Verdict};

use crate::cgroup::{MIB, TestCgroup, proved};
use crate::document::median;

const LIMITS_MIB: [u64; 5] = [16, 64, 256, 1024, 2048];
const ROUNDS: usize = 5;

/// The mark: the larger of a quarter percent and 64 KiB.
fn allowed(limit: u64) -> u64 {
    (limit / 400).max(64 << 10)
}

/// Distances from the prediction in KiB (positive: later), each of a fresh cgroup.
fn distances(strategy: Strategy, mib: u64) -> Vec<i64> {
    (0..ROUNDS)
        .map(|_| {
            let mut cgroup = TestCgroup::limited(mib).unwrap();
            let init = cgroup.sleeper();
            let mut request = cgroup.request(init);
            request.strategy = strategy;
            // On a disk a file is not killed at all.
            request.file_dir = Some("/dev/shm".into());
            let outcome = proved(&request);
            assert_eq!(
                outcome.decision.verdict,
                Verdict::Enforced,
                "{strategy} {mib}: {:?}",
                outcome.decision
            );
            let (touched, predicted) =
                (outcome.record.touched_bytes, outcome.record.predicted_bytes.unwrap());
            (i64::try_from(touched).unwrap() - i64::try_from(predicted).unwrap()) / 1024
        })
        .collect()
}

pub fn table() -> String {
    let mut text = String::from(
        "Death point against its prediction, KiB (positive: later): median of 5 fresh cgroups, and the farthest; \
         ✓ where the farthest is within the larger of 0.25 % and 64 KiB.\n\n| strategy |",
    );
    LIMITS_MIB.iter().for_each(|mib| write!(text, " {mib} MiB |").unwrap());
    text += "\n|---|---:|---:|---:|---:|---:|\n";
    for strategy in Strategy::ALL {
        write!(text, "| {strategy} |").unwrap();
        for mib in LIMITS_MIB {
            let off = distances(strategy, mib);
            let farthest = *off.iter().max_by_key(|kib| kib.abs()).unwrap();
            let within = farthest.unsigned_abs() * 1024 <= allowed(mib * MIB);
            write!(text, " {} ({farthest}) {} |", median(&off), if within { "✓" } else { "✗" }).unwrap();
        }
        text += "\n";
    }
    text
}
