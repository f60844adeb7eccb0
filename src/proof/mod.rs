//! The memory prover.
