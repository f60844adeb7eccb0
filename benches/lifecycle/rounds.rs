//! Rounds in which every runtime has its turn, in another order each time.

/// What `one` told in each of `rounds` rounds, a list for each of `count` runtimes. A round before them warms caches and is forgotten.
pub fn shuffled<T>(rounds: usize, count: usize, mut one: impl FnMut(usize) -> T) -> Vec<Vec<T>> {
    let mut all: Vec<Vec<T>> = (0..count).map(|_| Vec::with_capacity(rounds)).collect();
    let mut random = Random::new();
    for round in 0..=rounds {
        for index in random.order(count) {
            let result = one(index);
            if round > 0 {
                all[index].push(result);
            }
        }
    }
    all
}

/// xorshift: the same order in every run, so that runs can be compared.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    /// The numbers below `count`, shuffled.
    pub fn order(&mut self, count: usize) -> Vec<usize> {
        let mut list: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let other = self.below(last + 1);
            list.swap(last, other);
        }
        list
    }
}
