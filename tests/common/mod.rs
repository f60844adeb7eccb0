//! What the integration tests share. Every test owns a [`Sandbox`]; what it leaves behind is removed when that is dropped.
//!
//! `RT_BIN` names another runtime to test, to see whether a test itself is right.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of this")]

mod bundle;
mod cgroup;
mod command;
mod console;
mod layer;
mod left;
mod needs;
pub mod random;
mod sandbox;

pub use bundle::Bundle;
pub use cgroup::Cgroup;
pub use command::{Outcome, Run, Running};
pub use console::ConsoleSocket;
pub use layer::Layer;
pub use left::{mounts_below, processes_marked};
pub use needs::{needs_criu, needs_engine, needs_root, needs_rt, skip};
pub use sandbox::Sandbox;

use std::time::{Duration, Instant};

/// How long anything may take that ends by itself. Generous: machines of CI are slow, and a hang is the only other outcome.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again until `condition` holds; panics with `what` after [`PATIENCE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
