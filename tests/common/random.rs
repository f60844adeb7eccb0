//! Numbers that a seed repeats (SplitMix64).

/// The seed, and then where the row is.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }
}

/// `count` of all, in another order.
pub fn sample<T>(mut all: Vec<T>, seed: u64, count: usize) -> Vec<T> {
    let mut random = Random(seed);
    for last in (1..all.len()).rev() {
        all.swap(last, random.below(last + 1));
    }
    all.truncate(count);
    all
}
