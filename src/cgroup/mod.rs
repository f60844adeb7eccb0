//! A read-only view of the kernel's accounting: where a process is accounted, and what the kernel says there.
//! Knows files of cgroup v1 and v2; knows nothing of containers or the OCI spec.

pub mod ancestors;
pub mod counters;
pub mod error;
pub mod freezer;
#[cfg(test)]
mod fuzz;
pub mod gauge;
pub mod host;
pub mod join;
pub mod limiter;
pub mod locate;
pub mod memory;
pub mod oom;
pub mod pressure;
pub mod processes;
mod read;
pub mod v1;
pub mod v2;

pub use counters::{Counters, Meter};
pub use error::CgroupError;
pub use limiter::{Limiter, limiter};
pub use locate::{Location, Version, locate};
pub use memory::MemoryCgroup;
