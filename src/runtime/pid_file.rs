//! The pid file: the number alone, there as a whole or not at all.

use std::path::Path;

use nix::unistd::Pid;

use super::error::{Result, RuntimeError};
use super::record::replace;

/// Writes `pid` to `path`, replacing what was there.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, pid: Pid) -> Result<()> {
    replace(path, pid.to_string().as_bytes(), 0o644).map_err(RuntimeError::file("write pid file", path))
}
