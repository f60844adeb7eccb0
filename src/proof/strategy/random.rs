//! `random`: noise from a seeded generator, so that zswap, zram and same-page merging cannot hide it. getrandom(2)
//! fills at 0.35 GiB/s only; this generator is faster than page faults are.

use std::fs::File;
use std::io::{self, Read};

use super::mapped::Content;

/// Generators side by side, for the sake of vector instructions.
const LANES: usize = 8;

/// Marsaglia's xorshift64 in each lane.
pub(super) struct Noise {
    lanes: [u64; LANES],
}

impl Noise {
    /// Seeded by the kernel.
    pub fn seeded() -> io::Result<Self> {
        let mut seed = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Ok(Self::from(u64::from_ne_bytes(seed)))
    }
}

/// The next numbers of all lanes.
fn next(mut lanes: [u64; LANES]) -> [u64; LANES] {
    for lane in &mut lanes {
        *lane ^= *lane << 13;
        *lane ^= *lane >> 7;
        *lane ^= *lane << 17;
    }
    lanes
}

impl From<u64> for Noise {
    fn from(seed: u64) -> Self {
        // SplitMix64 spreads the seed; a lane must not be 0, or it stays so.
        let mut at = seed;
        let lanes = std::array::from_fn(|_| {
            at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (at ^ (at >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)).max(1)
        });
        Self { lanes }
    }
}

impl Content for Noise {
    fn write(&mut self, _offset: usize, bytes: &mut [u8]) {
        // In registers meanwhile.
        let mut lanes = self.lanes;
        for piece in bytes.chunks_exact_mut(LANES * 8) {
            lanes = next(lanes);
            for (slot, number) in piece.chunks_exact_mut(8).zip(lanes) {
                slot.copy_from_slice(&number.to_ne_bytes());
            }
        }
        self.lanes = lanes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn noise_does_not_repeat_and_every_byte_is_as_likely() {
        let mut bytes = vec![0; 1 << 20];
        Noise::from(7).write(0, &mut bytes);
        let words: HashSet<&[u8]> = bytes.chunks_exact(8).collect();
        assert_eq!(words.len(), bytes.len() / 8);
        let mut counts = [0u32; 256];
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        // 4096 each are expected; six standard deviations are 384.
        assert!(counts.iter().all(|n| n.abs_diff(4096) < 400), "{counts:?}");
    }

    #[test]
    fn seeds_differ_and_none_stays_at_zero() {
        assert_ne!(next(Noise::from(1).lanes), next(Noise::from(2).lanes));
        assert!(next(Noise::from(0).lanes).iter().all(|n| *n != 0));
        assert_ne!(Noise::seeded().unwrap().lanes, Noise::seeded().unwrap().lanes);
    }
}
