//! All unsafe code: the system calls that nix lacks, each behind a small safe function.
#![expect(unsafe_code, reason = "this module is where the unsafe code of the project lives")]

pub mod criu;
pub mod kill;
pub mod memory;
pub mod mount;
pub mod process;
pub mod seccomp;
#[cfg(test)]
pub mod testing;
pub mod worker;
