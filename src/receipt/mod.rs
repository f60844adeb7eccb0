//! The memory receipt: what the kernel counted of a container, read before its cgroup goes, and why it died.
//!
//! Kernel and records → [`Evidence`], numbers alone → [`death::explain`], a pure function → [`Receipt`]. Nothing is
//! written, killed or printed here; where receipts are kept is the runtime's business.

pub mod advice;
pub mod death;
mod end;
mod evidence;
#[cfg(test)]
mod fuzz;
mod kernel_log;
mod proofs;

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use death::{Cause, Death};
pub use end::{End, signal_name};
pub use evidence::{Baseline, Culprit, Evidence, Found, Memory, Place, SentSignal, Stall};
pub use kernel_log::Victim;
pub use proofs::Proofs;

/// The version of [`Receipt`].
pub const SCHEMA: u32 = 1;

/// A receipt, schema version 1. Field names are stable; bytes and microseconds throughout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub schema: u32,
    pub id: String,
    pub bundle: PathBuf,
    /// When the container was created: RFC 3339, UTC.
    pub created: String,
    /// When the counters were read: RFC 3339, UTC.
    pub taken_at: String,
    #[serde(flatten)]
    pub evidence: Evidence,
    pub death: Death,
}

impl Receipt {
    /// The receipt of a container, with what the evidence says of its death.
    #[must_use]
    pub fn new(id: &str, bundle: PathBuf, created: &str, evidence: Evidence) -> Self {
        Self {
            schema: SCHEMA,
            id: id.to_owned(),
            bundle,
            created: created.to_owned(),
            taken_at: humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
            death: death::explain(&evidence),
            evidence,
        }
    }
}
