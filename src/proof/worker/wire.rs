//! What parent and worker say to each other: fixed messages of four numbers over a socket pair.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

const NUMBERS: usize = 4;
const BYTES: usize = NUMBERS * 8;

/// The parent's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Use memory up to `to` bytes in all, in pieces of `step`, page by page from `fine_from` on.
    Fill { to: u64, step: u64, fine_from: u64 },
    /// Write what is used again, round after round, until the parent kills. There is no reply.
    Sustain,
}

/// What the worker was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u64)]
pub enum Stage {
    OomScore = 1,
    Isolate = 2,
    Capabilities = 3,
    Progress = 4,
    Prepare = 5,
    Fill = 6,
    Verify = 7,
    File = 8,
}

impl Stage {
    const ALL: [Self; 8] = [
        Self::OomScore,
        Self::Isolate,
        Self::Capabilities,
        Self::Progress,
        Self::Prepare,
        Self::Fill,
        Self::Verify,
        Self::File,
    ];

    /// The stage in words that follow "could not".
    pub fn words(self) -> &'static str {
        match self {
            Self::OomScore => "raise its oom_score_adj",
            Self::Isolate => "isolate itself",
            Self::Capabilities => "drop its capabilities",
            Self::Progress => "map the progress page",
            Self::Prepare => "prepare its strategy",
            Self::Fill => "use the memory",
            Self::Verify => "read back what it wrote",
            Self::File => "make its file",
        }
    }
}

/// The worker's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Set up, and not a byte used.
    Ready,
    /// The order is done; this many bytes in all.
    Done(u64),
    /// It failed at a stage with this errno (0 where there is none).
    Failed(Stage, i32),
}

fn send(to: &mut impl Write, numbers: [u64; NUMBERS]) -> io::Result<()> {
    let mut bytes = [0; BYTES];
    for (slot, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    to.write_all(&bytes)
}

fn receive(from: &mut impl Read) -> io::Result<[u64; NUMBERS]> {
    let mut bytes = [0; BYTES];
    from.read_exact(&mut bytes)?;
    let mut numbers = [0; NUMBERS];
    for (number, slot) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = slot.try_into().map(u64::from_le_bytes).unwrap_or(0);
    }
    Ok(numbers)
}

impl Order {
    pub fn send(self, to: &mut impl Write) -> io::Result<()> {
        send(
            to,
            match self {
                Self::Fill { to, step, fine_from } => [1, to, step, fine_from],
                Self::Sustain => [2, 0, 0, 0],
            },
        )
    }

    pub fn receive(from: &mut impl Read) -> io::Result<Self> {
        match receive(from)? {
            [1, to, step, fine_from] => Ok(Self::Fill { to, step, fine_from }),
            [2, ..] => Ok(Self::Sustain),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Reply {
    pub fn send(self, to: &mut impl Write) -> io::Result<()> {
        send(
            to,
            match self {
                Self::Ready => [1, 0, 0, 0],
                Self::Done(bytes) => [2, bytes, 0, 0],
                Self::Failed(stage, errno) => [3, stage as u64, u64::from(errno.unsigned_abs()), 0],
            },
        )
    }

    pub fn receive(from: &mut impl Read) -> io::Result<Self> {
        match receive(from)? {
            [1, ..] => Ok(Self::Ready),
            [2, bytes, ..] => Ok(Self::Done(bytes)),
            [3, stage, errno, _] => {
                let stage = Stage::ALL.into_iter().find(|s| *s as u64 == stage).unwrap_or(Stage::Fill);
                Ok(Self::Failed(stage, i32::try_from(errno).unwrap_or(0)))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let mut wire = Vec::new();
        for order in [Order::Fill { to: 7 << 40, step: 1 << 20, fine_from: u64::MAX }, Order::Sustain] {
            wire.clear();
            order.send(&mut wire).unwrap();
            assert_eq!(Order::receive(&mut wire.as_slice()).unwrap(), order);
        }
        for reply in [Reply::Ready, Reply::Done(u64::MAX), Reply::Failed(Stage::Prepare, 12)] {
            let mut wire = Vec::new();
            reply.send(&mut wire).unwrap();
            assert_eq!(Reply::receive(&mut wire.as_slice()).unwrap(), reply);
        }
    }

    #[test]
    fn a_closed_or_garbled_wire_is_an_error() {
        assert!(Order::receive(&mut [].as_slice()).is_err());
        assert!(Reply::receive(&mut [0xff; 32].as_slice()).is_err());
    }
}
