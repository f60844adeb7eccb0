//! The bias of the OOM killer. Each process sets its own before it becomes undumpable and before it enters a user
//! namespace, where it would no longer be allowed to; its parent makes sure.

use super::reason::Reason;

/// Why the bias is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OomScoreAdjError {
    /// The file could not be written.
    #[error("failed to update /proc/self/oom_score_adj: {0}")]
    Set(Reason),
    /// It could not be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// The kernel's answer.
        reason: Reason,
    },
    /// The kernel has another one.
    #[error("{path} is {found}, not {wanted}")]
    Differs {
        /// The file.
        path: String,
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: i32,
    },
}

/// Sets the bias (-1000..=1000) of the caller; children inherit it.
pub fn apply(value: i32) -> Result<(), OomScoreAdjError> {
    std::fs::write("/proc/self/oom_score_adj", value.to_string())
        .map_err(|error| OomScoreAdjError::Set(Reason::of(&error)))
}

/// Makes sure that `pid` has this bias.
pub fn verify(pid: i32, wanted: i32) -> Result<(), OomScoreAdjError> {
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().parse() == Ok(wanted) => Ok(()),
        Ok(text) => Err(OomScoreAdjError::Differs { path, found: text.trim().to_owned(), wanted }),
        Err(error) => Err(OomScoreAdjError::Read { reason: Reason::of(&error), path }),
    }
}
