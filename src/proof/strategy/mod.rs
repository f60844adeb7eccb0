//! Ways to use memory. Each is one file with a [`Fill`]; the worker drives it and never knows which it is.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod sequential;

/// The strategies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Anonymous memory, written from the first byte to the last.
    Sequential,
}

impl Strategy {
    /// All strategies there are.
    pub const ALL: [Self; 1] = [Self::Sequential];

    /// What `test-memory` does when no strategy is named, in this order.
    pub const DEFAULT: [Self; 1] = [Self::Sequential];

    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
        }
    }

    /// Makes ready to use up to `bytes`, charging none of them yet. Runs in the worker before it joins.
    pub fn prepare(self, bytes: usize) -> io::Result<Box<dyn Fill>> {
        match self {
            Self::Sequential => Ok(Box::new(sequential::Sequential::new(bytes)?)),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no strategy has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{name}' is no strategy: expected {}", Strategy::ALL.map(Strategy::name).join(", "))]
pub struct UnknownStrategy {
    pub name: String,
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.name() == name)
            .ok_or_else(|| UnknownStrategy { name: name.to_owned() })
    }
}

/// Memory being filled, in the worker.
pub trait Fill {
    /// Uses the bytes `from..to` (whole pages, `from` is where the last call ended). Where `fine`, page by page.
    /// `progress` is told the new end after each piece; the process may be killed at any byte.
    fn extend(&mut self, from: usize, to: usize, fine: bool, progress: &dyn Fn(usize)) -> io::Result<()>;

    /// Checks that the bytes `0..to` still hold what was written; strategies that cannot tell agree.
    fn verify(&mut self, _to: usize) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn each_strategy_parses_as_its_own_name() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
        }
        assert!("fastest".parse::<Strategy>().unwrap_err().to_string().contains("sequential"));
    }

    #[test]
    fn each_strategy_tells_how_far_it_is() {
        for strategy in Strategy::ALL {
            let mut fill = strategy.prepare(64 * 4096).unwrap();
            let seen = Cell::new(0);
            fill.extend(0, 32 * 4096, false, &|end| seen.set(end)).unwrap();
            assert_eq!(seen.get(), 32 * 4096, "{strategy}");
            fill.extend(32 * 4096, 64 * 4096, true, &|end| {
                assert_eq!(end - seen.get(), 4096, "{strategy} page by page");
                seen.set(end);
            })
            .unwrap();
            assert_eq!(seen.get(), 64 * 4096, "{strategy}");
            fill.verify(64 * 4096).unwrap();
        }
    }
}
