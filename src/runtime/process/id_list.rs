//! Lists of CPUs or memory nodes as the kernel writes them ("0-3,5,7-9"), as bit sets.

const WORDS: usize = 16;
const LARGEST: usize = WORDS * 64 - 1;

/// Why a list could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdListError {
    /// Not a number.
    #[error("parsing {0:?}: invalid syntax")]
    Syntax(String),
    /// More than 32 bits.
    #[error("parsing {0:?}: value out of range")]
    OutOfRange(String),
    /// Over the 1024 ids a set holds.
    #[error("values larger than {LARGEST} are not supported")]
    TooLarge,
    /// The start is over the end.
    #[error("invalid range: {0}")]
    Range(String),
    /// Only commas and spaces.
    #[error("no members found in set {0:?}")]
    Empty(String),
}

/// A set of ids from 0 to 1023.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdSet {
    words: [u64; WORDS],
}

impl IdSet {
    /// Parses a list; an empty text is no set at all. Spaces and empty elements are allowed, as in runc.
    pub fn parse(text: &str) -> Result<Option<Self>, IdListError> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut set = Self { words: [0; WORDS] };
        for element in text.split(',').map(str::trim).filter(|element| !element.is_empty()) {
            let (start, end) = match element.split_once('-') {
                Some((start, end)) => (parse_id(start)?, parse_id(end)?),
                None => {
                    let id = parse_id(element)?;
                    (id, id)
                }
            };
            if start > end {
                return Err(IdListError::Range(element.to_owned()));
            }
            (start..=end).for_each(|id| set.words[id / 64] |= 1 << (id % 64));
        }
        if set.count() == 0 { Err(IdListError::Empty(text.to_owned())) } else { Ok(Some(set)) }
    }

    /// The number of ids in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The bits, lowest id first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}

fn parse_id(text: &str) -> Result<usize, IdListError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(IdListError::Syntax(text.to_owned()));
    }
    let id: u32 = text.parse().map_err(|_| IdListError::OutOfRange(text.to_owned()))?;
    usize::try_from(id).ok().filter(|id| *id <= LARGEST).ok_or(IdListError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<u64> {
        IdSet::parse(text).unwrap().unwrap().words().to_vec()
    }

    #[test]
    fn reads_single_ids_ranges_and_loose_commas() {
        assert_eq!(words("0-3,5,7-9")[0], 0b11_1010_1111);
        assert_eq!(words(" 1 ,, 64 ")[..2], [2, 1]);
        assert_eq!(words("1023")[15], 1 << 63);
        assert_eq!(IdSet::parse("").unwrap(), None);
        assert_eq!(IdSet::parse("0-7").unwrap().unwrap().count(), 8);
    }

    #[test]
    fn refuses_what_is_no_list() {
        for (text, error) in [
            ("x", "parsing \"x\": invalid syntax"),
            ("1-", "parsing \"\": invalid syntax"),
            ("3-1", "invalid range: 3-1"),
            ("1024", "values larger than 1023 are not supported"),
            ("0-9876543210", "parsing \"9876543210\": value out of range"),
            (",", "no members found in set \",\""),
        ] {
            assert_eq!(IdSet::parse(text).unwrap_err().to_string(), error, "{text}");
        }
    }
}
