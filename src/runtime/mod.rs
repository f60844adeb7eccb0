//! The lifecycle of containers on libcontainer: state, create, start, exec, kill, delete.
//! Nothing outside this module and `commands` knows how a container is made.

pub mod bundle;
mod census;
pub mod cgroups;
mod container;
pub mod create;
pub mod criu;
pub mod default_bundle;
pub mod delete;
mod error;
pub mod exec;
mod folder;
pub mod foreground;
#[cfg(test)]
mod fuzz;
mod gate;
pub mod hooks;
pub mod intel_rdt;
mod kept;
pub mod kill;
mod launch;
mod lost;
pub mod network;
pub mod node;
mod oci_state;
mod pid_file;
pub mod process;
mod proofs;
pub mod receipts;
mod record;
mod restored;
pub mod rootfs;
mod saved;
pub mod seal;
pub mod seccomp;
mod sockets;
pub mod start;
mod status;
mod store;
mod summary;
mod terminal;
pub mod update;
pub mod userdb;
mod validate;

pub use census::{Census, Living};
pub use container::Container;
pub use error::RuntimeError;
pub use launch::{Launched, SocketError, connect};
pub use oci_state::OciState;
pub use record::FILE as STATE_FILE;
pub use status::{ProcessId, Status};
pub use store::Store;
pub use summary::Summary;
