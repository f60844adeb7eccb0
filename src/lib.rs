//! rt: a runc-compatible OCI runtime that proves memory limits.
//!
//! Data flows one way: argv → [`cli`] → [`commands`] → a domain ([`runtime`], [`cgroup`], [`proof`],
//! [`monitor`], [`verify`]) → what is printed and the exit code. [`sys`] holds all unsafe code.

pub mod cgroup;
pub mod cli;
pub mod commands;
pub mod exit;
pub mod hook;
mod json;
pub mod log;
pub mod monitor;
pub mod poll;
pub mod printable;
pub mod proof;
pub mod receipt;
pub mod report;
pub mod runtime;
mod small_file;
pub mod sys;
pub mod systemd;
pub mod units;
pub mod verify;
