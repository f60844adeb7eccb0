//! Moving a process of our own into a cgroup. The only writing here: the prover's worker needs it.

use std::io::Write;
use std::path::Path;

use super::error::CgroupError;
use super::v2;

/// Moves process `pid` into the cgroup folder `dir`. Its charges so far stay where they are.
pub fn join(dir: &Path, pid: i32) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Join { path: dir.to_owned(), pid, source };
    let mut procs = std::fs::OpenOptions::new().write(true).open(dir.join(v2::PROCS)).map_err(failed)?;
    procs.write_all(pid.to_string().as_bytes()).map_err(failed)
}
