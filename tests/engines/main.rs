//! Real engines with rt as their runtime. Each test brings its own engine state and daemons, in a temporary folder, and
//! ends them by pid; nothing of an engine that is installed and running is touched.

mod buildah;
#[path = "../common/mod.rs"]
mod common;
mod containerd;
mod docker;
mod engine;
mod podman;
mod proofs;
mod swarm;
