//! `pattern`: each word says where it is, so that pages which were mixed up, shared or lost are found when it is
//! read back.

use super::mapped::Content;

/// Odd, so that no two words of a mapping are equal; most bits differ from one word to the next.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is read back is read at several places in turn: the processor fetches ahead at each of them, but not into the
/// next page (a quarter faster).
const STREAMS: usize = 4;
const BLOCK: usize = 512;

pub(super) struct Words;

impl Words {
    /// The word at the byte `offset`.
    fn word(offset: usize) -> u64 {
        (offset as u64 / 8 + 1).wrapping_mul(STRIDE)
    }

    /// The bits that are not as they were written. Without a decision at each word, so that vector instructions will do.
    fn differences(offset: usize, bytes: &[u8]) -> u64 {
        let mut word = Self::word(offset);
        bytes.as_chunks().0.iter().fold(0, |found, slot| {
            let different = u64::from_ne_bytes(*slot) ^ word;
            word = word.wrapping_add(STRIDE);
            found | different
        })
    }
}

impl Content for Words {
    fn write(&mut self, offset: usize, bytes: &mut [u8]) {
        let mut word = Self::word(offset);
        for slot in bytes.chunks_exact_mut(8) {
            slot.copy_from_slice(&word.to_ne_bytes());
            word = word.wrapping_add(STRIDE);
        }
    }

    fn holds(&self, offset: usize, bytes: &[u8]) -> bool {
        let part = bytes.len() / STREAMS / BLOCK * BLOCK;
        let mut blocks =
            (0..part).step_by(BLOCK).flat_map(|at| (0..STREAMS).map(move |stream| stream * part + at));
        let (streams, rest) = bytes.split_at(STREAMS * part);
        blocks.all(|at| Self::differences(offset + at, &streams[at..at + BLOCK]) == 0)
            && Self::differences(offset + STREAMS * part, rest) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_the_same_however_it_is_cut() {
        let (mut whole, mut cut) = (vec![0; 8192], vec![0; 8192]);
        Words.write(4096, &mut whole);
        Words.write(4096, &mut cut[..4096]);
        Words.write(8192, &mut cut[4096..]);
        assert_eq!(whole, cut);
        assert!(Words.holds(4096, &whole));
        assert!(!Words.holds(0, &whole), "words of another place are found");
        whole.swap(0, 8);
        assert!(!Words.holds(4096, &whole));
    }
}
