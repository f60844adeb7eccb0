//! The memory prover: does a container's limit hold? Facts → preflight → plan → worker, observed → evidence →
//! verdict → record. No printing and no argument types here; a container is a pid, a cgroup and two folders.

pub mod asked;
pub mod budget;
pub mod engine;
pub mod error;
pub mod evidence;
pub mod facts;
#[cfg(test)]
mod fuzz;
pub mod harm;
pub mod history;
pub mod hostmem;
pub mod journal;
mod lock;
pub mod lockable;
pub mod meters;
pub mod observe;
mod oom_score;
pub mod plan;
pub mod preflight;
pub mod record;
pub mod record_dir;
pub mod refusal;
pub mod request;
pub mod run;
pub mod samples;
pub mod scratch;
pub mod strategy;
pub mod stress;
pub mod verdict;
pub mod victims;
pub mod worker;

pub use engine::{Assessment, Outcome, assess, prove};
pub use error::ProofError;
pub use evidence::{Evidence, Sample, Stop};
pub use facts::Facts;
pub use plan::Plan;
pub use record::Record;
pub use record_dir::RecordDir;
pub use refusal::{Reason, Refusal};
pub use request::{Asked, Place, Request, STEP_BYTES, Status, Subject};
pub use strategy::Strategy;
pub use verdict::{Decision, Verdict, decide};
