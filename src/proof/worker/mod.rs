//! The worker: rt executed again with the hidden subcommand `__worker`, so that no tool is needed in the image and
//! nothing of the prover's own memory is charged to the container. Its stdin is the command socket, its stdout
//! the shared progress page; everything else is closed.

mod beside;
mod child;
mod door;
mod parent;
mod seclude;
mod wire;

pub use child::{SUBCOMMAND, run};
pub use parent::{Worker, WorkerEnd};
pub use wire::{Reply, Stage};
