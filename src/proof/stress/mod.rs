//! Stress: several workers at once that share a target, keep writing what they hold, and are started again when the
//! limit kills them. What must hold at every sample: usage is not above the limit, and init lives.

mod crew;
mod record;
mod run;
mod tally;
mod verdict;

use std::time::Duration;

pub use crew::MemberState;
pub use record::{KIND, MemberRecord, StressRecord, Summary};
pub use run::{MemberSnapshot, Outcome, Snapshot, stress};
pub use tally::{Kills, Tally};
pub use verdict::{Decision, StressVerdict, decide};

use super::request::Request;
use super::strategy::Strategy;

/// How long without being told.
pub const DEFAULT_TIME: Duration = Duration::from_secs(30);

/// One stress to be made.
#[derive(Debug, Clone)]
pub struct StressRequest {
    /// Whom and with what; its strategy and time are not looked at.
    pub base: Request,
    /// A worker each; a strategy may be named twice.
    pub strategies: Vec<Strategy>,
    pub time: Duration,
}
