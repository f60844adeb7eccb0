//! The bias of the OOM killer. Written before the process becomes non-dumpable and before it enters a user
//! namespace, where lowering it would no longer be allowed.

use super::reason::Reason;

/// The file could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to update {path}: {reason}")]
pub struct OomScoreAdjError {
    path: String,
    reason: Reason,
}

/// Sets the bias (-1000..=1000) of `pid`, or of the caller; children inherit it.
pub fn apply(pid: Option<i32>, value: i32) -> Result<(), OomScoreAdjError> {
    let path = match pid {
        Some(pid) => format!("/proc/{pid}/oom_score_adj"),
        None => "/proc/self/oom_score_adj".to_owned(),
    };
    std::fs::write(&path, value.to_string())
        .map_err(|error| OomScoreAdjError { reason: Reason::of(&error), path })
}
