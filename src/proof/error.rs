//! What makes the prover itself fail (exit 125). A refusal or a bad verdict is data, not an error.

use std::io;
use std::path::PathBuf;

use crate::cgroup::CgroupError;

/// A failure of the prover.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("cannot read '{}'", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("'{}' lacks the field {field}", path.display())]
    Field { path: PathBuf, field: &'static str },
    #[error("cannot start the worker '{}'", path.display())]
    Spawn { path: PathBuf, source: io::Error },
    #[error("cannot set up the observation of the worker: {what}")]
    Observe { what: &'static str, source: io::Error },
    #[error("the worker could not {stage}")]
    Worker { stage: &'static str, source: io::Error },
    #[error("the worker did not come up within {seconds} s")]
    WorkerSilent { seconds: u64 },
    #[error("cannot keep the proof's lock '{}'", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot write the record '{}'", path.display())]
    Record { path: PathBuf, source: io::Error },
    #[error("'{}' is not a regular file of one name: not written to", path.display())]
    RecordNotAFile { path: PathBuf },
}

impl ProofError {
    /// The message with its causes.
    #[must_use]
    pub fn in_full(&self) -> String {
        std::iter::successors(std::error::Error::source(self), |error| error.source())
            .fold(self.to_string(), |told, cause| format!("{told}: {cause}"))
    }
}
