//! The prover against a real kernel: cgroups of the test's own, verdicts by kernel state alone.

mod cgroup;
mod kills;
mod outcomes;
mod refusals;
