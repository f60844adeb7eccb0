//! The prover against a real kernel: cgroups of the test's own, verdicts by kernel state alone.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

mod cgroup;
mod kills;
mod outcomes;
mod refusals;
mod safety;
mod schema;
mod strategies;
mod stress;
