//! What was observed of one proof: numbers alone, for the verdict and the record.

use serde::{Deserialize, Serialize};

use super::harm::Harmed;
use super::victims::Candidate;
use super::worker::{Stage, WorkerEnd};
use crate::cgroup::Counters;

/// One look at the proof while it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the worker's first byte.
    pub at_us: u64,
    /// Written by the worker so far.
    pub touched_bytes: u64,
    /// Charged at the limiter.
    pub usage_bytes: u64,
}

/// Why observation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The worker ended by itself or was killed by somebody else.
    WorkerEnded,
    /// The worker wrote all it should and lives.
    Filled,
    /// The deadline passed.
    Deadline,
    /// No progress, and memory.high was exceeded again and again.
    Throttled,
    /// SIGINT, SIGTERM or SIGHUP to the prover.
    Interrupted,
    /// This process of the container had become a likelier victim than the worker.
    VictimUnsafe { pid: i32, held_bytes: u64, oom_score_adj: i64 },
    /// The container's init ended.
    InitEnded,
    /// The worker said that it failed, at what and with which errno.
    WorkerFailed { stage: Stage, errno: i32 },
}

impl Stop {
    /// The end of a proof that could have `other` killed.
    pub fn unsafe_for(other: &Candidate) -> Self {
        let Candidate { pid, bytes, oom_score_adj, .. } = *other;
        Self::VictimUnsafe { pid, held_bytes: bytes, oom_score_adj }
    }
}

/// The check after the first side: did usage rise by what was written?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithinCheck {
    pub written_bytes: u64,
    /// Usage at the limiter, before and after.
    pub usage_before_bytes: u64,
    pub usage_after_bytes: u64,
    /// The worker's resident memory by /proc, for a container that is busy meanwhile.
    pub worker_bytes: u64,
}

/// Everything the verdict is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub stop: Stop,
    /// How the worker ended; after [`Stop::Filled`] and the like this is our own SIGKILL.
    pub worker_end: WorkerEnd,
    pub touched_bytes: u64,
    /// `None` where the first side was not completed.
    pub within: Option<WithinCheck>,
    pub init_alive: bool,
    /// A process of the container that an OOM kill took instead of the worker, or beside it.
    pub harmed: Option<Harmed>,
    /// The cgroup the worker was in.
    pub before: Counters,
    pub after: Counters,
    /// Hits of the limiter's own limit while the proof ran.
    pub limiter_hits: u64,
    /// The kernel counts no hits of the limiter's limit: see [`crate::cgroup::MemoryCgroup::counts_hits`].
    pub limiter_silent: bool,
    /// Hits of limits above the limiter while the proof ran.
    pub ancestor_hits: u64,
    /// Memory that the limiter, and limits above it, refused for good while the proof ran; `None` where the kernel counts only hits.
    pub refusals: Option<[u64; 2]>,
    /// The highest use of swap seen, above what there was before.
    pub swapped_bytes: u64,
    /// The most that others in the container grew by while the worker wrote.
    pub others_grew_bytes: u64,
    pub samples: Vec<Sample>,
}

/// Who refused memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuser {
    /// The limit that is proved.
    Limiter,
    /// One above it.
    Above,
    Host,
}

impl Evidence {
    /// OOM kills while the proof ran. Tested for `>= 1`, never for equality: memory.oom.group counts twice.
    pub fn oom_kills(&self) -> u64 {
        self.after.oom_kill.saturating_sub(self.before.oom_kill)
    }

    /// Who refused the memory that killed. A limit that was hit may have been held by reclaim: where the kernel tells no more than
    /// hits, and both limits have some, the limiter is taken only if the worker was `near` the byte at which that one kills.
    pub fn refuser(&self, near: bool) -> Refuser {
        let hits = [self.limiter_hits + u64::from(self.limiter_silent), self.ancestor_hits];
        match self.refusals.unwrap_or(hits).map(|count| count > 0) {
            [true, false] => Refuser::Limiter,
            [false, true] => Refuser::Above,
            [true, true] if near => Refuser::Limiter,
            [true, true] => Refuser::Above,
            [false, false] => Refuser::Host,
        }
    }

    /// How often memory.high was exceeded while the proof ran.
    pub fn high_hits(&self) -> u64 {
        self.after.high.saturating_sub(self.before.high)
    }
}
