//! Proofs that a hook makes: at which stage, by which policy, asked for by whom; and what a verdict means for the
//! container. Knows the hooks and annotations of config.json, and nothing of how a container is made.

pub mod annotations;
pub mod deadline;
#[cfg(test)]
mod fuzz;
pub mod listed;
pub mod state;
pub mod terms;

pub use annotations::Annotations;
pub use state::State;
pub use terms::{Kind, NotOneOf, OnInconclusive, Policy, Stage};
