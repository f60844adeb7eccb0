//! Ways to use memory. Each is a [`Fill`]; the worker drives it and never knows which it is.

use std::fmt;
use std::fs::File;
use std::io;
use std::str::FromStr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::scratch::Medium;
use crate::sys::memory::Region;

mod file;
pub mod fork;
mod mapped;
mod pattern;
mod random;
mod turned;

pub use mapped::PAGE;
use mapped::{Constant, Mapped};
use turned::Turned;

/// The strategies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Anonymous memory, written from the first byte to the last.
    Sequential,
    /// Anonymous memory, each word told by its address, and read back.
    Pattern,
    /// Anonymous memory that cannot be compressed or merged.
    Random,
    /// Page cache of a file that has no name: reclaimed on a disk, kept on tmpfs.
    File,
    /// Shared memory.
    Shm,
    /// Anonymous memory that cannot be swapped out.
    Mlock,
    /// Anonymous memory of many processes together.
    Fork,
}

impl Strategy {
    /// All strategies there are.
    pub const ALL: [Self; 7] =
        [Self::Sequential, Self::Pattern, Self::Random, Self::File, Self::Shm, Self::Mlock, Self::Fork];

    /// What `test-memory` does when no strategy is named, in this order.
    pub const DEFAULT: [Self; 4] = [Self::Sequential, Self::Pattern, Self::Random, Self::File];

    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Pattern => "pattern",
            Self::Random => "random",
            Self::File => "file",
            Self::Shm => "shm",
            Self::Mlock => "mlock",
            Self::Fork => "fork",
        }
    }

    /// True where the worker itself holds the memory: the kernel then weighs it by what it wrote.
    pub fn is_resident(self) -> bool {
        !matches!(self, Self::File | Self::Fork)
    }

    /// True where what is written is given back only after the death of who wrote it: the last of it is then private memory.
    pub fn is_freed_late(self, medium: Option<Medium>) -> bool {
        self == Self::Shm || (self == Self::File && medium == Some(Medium::Tmpfs))
    }

    /// Makes ready to use up to `bytes`, charging none of them yet. Runs in the worker before it joins, with the
    /// prover's capabilities still. `file` is what [`Strategy::File`] writes to, on that medium.
    pub fn prepare(
        self,
        bytes: usize,
        file: Option<File>,
        medium: Option<Medium>,
    ) -> io::Result<Box<dyn Fill>> {
        let fill = self.first(bytes, file)?;
        if !self.is_freed_late(medium) {
            return Ok(fill);
        }
        Ok(Box::new(Turned::new(fill, Mapped::new(Region::new(bytes)?, Constant))))
    }

    /// What is filled first.
    fn first(self, bytes: usize, file: Option<File>) -> io::Result<Box<dyn Fill>> {
        Ok(match self {
            Self::Sequential => Box::new(Mapped::new(Region::new(bytes)?, Constant)),
            Self::Pattern => Box::new(Mapped::new(Region::new(bytes)?, pattern::Words)),
            Self::Random => Box::new(Mapped::new(Region::new(bytes)?, random::Noise::seeded())),
            Self::File => Box::new(file::InFile::new(file.ok_or(io::ErrorKind::InvalidInput)?)),
            Self::Shm => Box::new(Mapped::new(Region::shared(bytes)?, Constant)),
            Self::Mlock => {
                let region = Region::new(bytes)?;
                let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
                setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)?;
                region.lock_on_fault()?;
                Box::new(Mapped::new(region, Constant))
            }
            Self::Fork => Box::new(fork::Family::new(bytes)?),
        })
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no strategy has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{name}' is no strategy: expected all, {}", Strategy::ALL.map(Strategy::name).join(", "))]
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
    /// Uses the bytes `from..to` (whole pages, `from` is where the last call ended), in steps of at most `step` bytes
    /// (whole pages, not 0). `progress` is told the new end after each; the process may be killed at any byte.
    fn extend(&mut self, from: usize, to: usize, step: usize, progress: &dyn Fn(usize)) -> io::Result<()>;

    /// Writes the bytes `0..to`, which are used, again; `written` is told how many after each piece.
    fn rewrite(&mut self, to: usize, written: &dyn Fn(usize)) -> io::Result<()>;

    /// What comes after `done` bytes is to be freed together with the process.
    fn turn(&mut self, _done: usize) {}

    /// Checks that the bytes `0..to` still hold what was written; strategies that cannot tell agree.
    fn verify(&mut self, _to: usize) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn prepared(strategy: Strategy, bytes: usize) -> Box<dyn Fill> {
        strategy.prepare(bytes, tempfile::tempfile().ok(), Some(Medium::Disk)).unwrap()
    }

    #[test]
    fn each_strategy_parses_as_its_own_name() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
        }
        assert!("fastest".parse::<Strategy>().unwrap_err().to_string().contains("sequential"));
    }

    #[test]
    fn each_strategy_tells_how_far_it_is() {
        // A child of fork tells in shared memory only, which its own tests look at.
        for strategy in Strategy::ALL.into_iter().filter(|s| *s != Strategy::Fork) {
            let mut fill = prepared(strategy, 64 * 4096);
            let seen = Cell::new(0);
            fill.extend(0, 32 * 4096, 1 << 20, &|end| seen.set(end)).unwrap();
            assert_eq!(seen.get(), 32 * 4096, "{strategy}");
            fill.extend(32 * 4096, 64 * 4096, 4096, &|end| {
                assert_eq!(end - seen.get(), 4096, "{strategy} page by page");
                seen.set(end);
            })
            .unwrap();
            assert_eq!(seen.get(), 64 * 4096, "{strategy}");
            fill.verify(64 * 4096).unwrap();
            let again = Cell::new(0);
            fill.rewrite(60 * 4096, &|bytes| again.set(again.get() + bytes)).unwrap();
            assert_eq!(again.get(), 60 * 4096, "{strategy} again");
            fill.verify(64 * 4096).unwrap();
        }
    }

    #[test]
    fn a_file_strategy_needs_its_file() {
        assert!(Strategy::File.prepare(4096, None, None).is_err());
    }
}
