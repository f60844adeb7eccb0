//! Removing a cgroup with everything below it, of a container whose init has ended.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use super::{Cgroup, CgroupError, Result, members, systemd};
use crate::sys::clone::pidfd_send_signal;
use crate::sys::process::pidfd_open;

/// A dying process holds its cgroup for a moment (EBUSY); runc's patience: 1, 2, 4 … 512 ms, about a second.
const ATTEMPTS: u32 = 10;

impl Cgroup {
    /// Removes the cgroup from every hierarchy, with its sub-cgroups, and the systemd unit if there is one.
    /// What is gone already (or was never made) is fine. It goes on after a failure and returns the first one.
    /// A process left in what was made for the container is killed: what is executed enters the cgroups before the pid
    /// namespace, whose end it outlives, and where it is frozen on that way it would stay for ever.
    pub fn delete(&self) -> Result<()> {
        let mut result = Ok(());
        if let Some(unit) = &self.unit {
            result = systemd::stop(unit, self);
        }
        for hierarchy in &self.hierarchies {
            let removed = remove(&hierarchy.dir, &|dir| {
                if !self.preexisting
                    && let Err(error) = kill_left(dir).and_then(|()| self.let_die())
                {
                    tracing::debug!("{error}");
                }
            });
            if result.is_ok() {
                result = removed;
            }
        }
        result
    }
}

/// Kills the processes that are in this cgroup itself.
fn kill_left(dir: &Path) -> Result<()> {
    for pid in members::pids_in(dir, false)? {
        let Ok(pidfd) = pidfd_open(pid.as_raw()) else { continue };
        // Else the descriptor is of another process that has the number now.
        if members::pids_in(dir, false)?.contains(&pid) {
            let _ = pidfd_send_signal(&pidfd, libc::SIGKILL);
        }
    }
    Ok(())
}

/// `busy` is told of a directory that is still in use.
fn remove(dir: &Path, busy: &dyn Fn(&Path)) -> Result<()> {
    // Nearly always there is nothing below it and nobody left in it.
    if rmdir(dir).is_ok() {
        return Ok(());
    }
    // A read-only file system refuses even what is not there: looking tells the truth.
    let children = match members::sub_cgroups(dir) {
        Ok(children) => children,
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => return Err(error),
    };
    for child in children {
        remove(&child, busy)?;
    }
    let mut delay = Duration::from_millis(1);
    for _ in 0..ATTEMPTS {
        match rmdir(dir) {
            Err(Errno::EBUSY) => {
                busy(dir);
                sleep(delay);
                delay *= 2;
            }
            result => return result.map_err(|errno| remove_error(dir, errno)),
        }
    }
    rmdir(dir).map_err(|errno| remove_error(dir, errno))
}

fn rmdir(dir: &Path) -> std::result::Result<(), Errno> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
    }
}

fn remove_error(dir: &Path, errno: Errno) -> CgroupError {
    CgroupError::Remove { path: dir.to_path_buf(), error: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_directories_go_first_and_missing_ones_are_fine() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a");
        fs::create_dir_all(dir.join("b/c")).unwrap();
        remove(&dir, &|_| ()).unwrap();
        assert!(!dir.exists());
        remove(&dir, &|_| ()).unwrap();
        remove(&root.path().join("x/y/z"), &|_| ()).unwrap();
    }
}
