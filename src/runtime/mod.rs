//! The lifecycle of containers on libcontainer: state, create, start, exec, kill, delete.
//! Nothing outside this module and `commands` knows how a container is made.

pub mod cgroups;
pub mod criu;
pub mod default_bundle;
pub mod hooks;
pub mod intel_rdt;
pub mod network;
pub mod process;
pub mod rootfs;
pub mod seccomp;
pub mod userdb;
