//! Moving a process of our own into a cgroup. The only writing here: the prover's worker needs it.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use nix::unistd::Pid;

use super::error::CgroupError;
use super::v2;
use crate::systemd;

/// Moves process `pid` into the cgroup folder `dir`, by the user's systemd where the kernel lets only that. Its charges
/// so far stay where they are.
pub fn join(dir: &Path, pid: i32) -> Result<(), CgroupError> {
    let written = OpenOptions::new()
        .write(true)
        .open(dir.join(v2::PROCS))
        .and_then(|mut procs| procs.write_all(pid.to_string().as_bytes()));
    match written {
        Err(source) if source.kind() == ErrorKind::PermissionDenied => {
            if let Some(Ok(())) = systemd::attach(dir, Pid::from_raw(pid)) {
                return Ok(());
            }
            Err(source)
        }
        written => written,
    }
    .map_err(|source| CgroupError::Join { path: dir.to_owned(), pid, source })
}
