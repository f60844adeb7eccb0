//! What rt does beyond a runtime's work, with real engines: proofs, and a Swarm. Their everyday calls are in the bats files
//! beside this one. Each test brings its own engine state and daemons, in a temporary folder, and ends them by pid; nothing
//! of an engine that is installed and running is touched.

#[path = "../common/mod.rs"]
mod common;
mod docker;
mod engine;
mod podman;
mod proofs;
mod swarm;
