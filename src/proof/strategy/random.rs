//! `random`: noise, so that zswap, zram and same-page merging cannot hide it. getrandom(2) fills at 0.35 GiB/s only; this
//! is as fast as writing one byte everywhere.

use std::hash::{BuildHasher, RandomState};

use super::PAGE;
use super::mapped::Content;

/// Pages of noise that are made beforehand: they stay in the processor's cache.
const MADE: usize = 16;
const WORDS: usize = PAGE / 8;

/// Each page is one of those made, with a number of its own mixed into every word. The kernel compresses and compares page
/// by page: none has a word twice, and no two have one in common, but by chance.
pub(super) struct Noise {
    seed: u64,
    made: Vec<[u64; WORDS]>,
}

impl Noise {
    /// Seeded by the kernel: its number is the key of a hasher, for there is no /dev where the worker is.
    pub fn seeded() -> Self {
        Self::from(RandomState::new().hash_one(std::process::id()))
    }
}

/// The number at `index` of what SplitMix64 makes of a seed.
fn number(seed: u64, index: usize) -> u64 {
    let at = (index as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
    let mixed = (at ^ (at >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl From<u64> for Noise {
    fn from(seed: u64) -> Self {
        let page = |page| std::array::from_fn(|word| number(seed, page * WORDS + word));
        Self { seed, made: (0..MADE).map(page).collect() }
    }
}

impl Content for Noise {
    fn write(&mut self, offset: usize, bytes: &mut [u8]) {
        for (page, bytes) in (offset / PAGE..).zip(bytes.chunks_mut(PAGE)) {
            let own = number(self.seed, MADE * WORDS + page);
            for (slot, word) in bytes.as_chunks_mut().0.iter_mut().zip(&self.made[page % MADE]) {
                *slot = (word ^ own).to_ne_bytes();
            }
        }
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
    fn seeds_differ() {
        let first = |noise: Noise| noise.made[0][0];
        assert_ne!(first(Noise::from(1)), first(Noise::from(2)));
        assert_ne!(first(Noise::seeded()), first(Noise::seeded()));
    }
}
