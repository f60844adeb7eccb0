//! All unsafe code: the system calls that nix lacks, each behind a small safe function.
#![expect(unsafe_code, reason = "this module is where the unsafe code of the project lives")]

pub mod clone;
pub mod criu;
#[cfg(target_arch = "x86_64")]
mod entry;
pub mod kill;
pub mod klog;
pub mod memory;
pub mod mount;
pub mod process;
pub mod seal;
pub mod seccomp;
pub mod socket;
pub mod terminal;
#[cfg(test)]
pub mod testing;
pub mod worker;
