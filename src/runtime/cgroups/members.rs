//! The processes of a cgroup: listing them and signalling all of them.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Cgroup, CgroupError, Result, Version, knob};

impl Cgroup {
    /// The processes in the cgroup, with `recursive` also those in its sub-cgroups.
    /// A cgroup that is gone is an error with [`CgroupError::is_gone`].
    pub fn pids(&self, recursive: bool) -> Result<Vec<Pid>> {
        pids_in(self.main_dir().ok_or(CgroupError::NotExist)?, recursive)
    }

    /// Sends `signal` to every process of the cgroup and its sub-cgroups.
    ///
    /// SIGKILL goes through `cgroup.kill` where there is one: no new process can slip through. Otherwise the
    /// cgroup is frozen meanwhile (and thawed afterwards, even if it was frozen before, as in runc).
    pub fn signal_all(&self, signal: libc::c_int) -> Result<()> {
        if !self.exists()? {
            return Err(CgroupError::NotExist);
        }
        if signal == libc::SIGKILL && self.kill_by_file()? {
            return Ok(());
        }
        if let Err(error) = self.freeze() {
            tracing::warn!("{error}");
        }
        let result = self.pids(true).map(|pids| {
            for pid in pids {
                match crate::sys::kill::kill(pid, signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => tracing::warn!("kill {pid}: {}", errno.desc()),
                }
            }
        });
        let thawed = self.thaw().and_then(|()| if signal == libc::SIGKILL { self.let_die() } else { Ok(()) });
        if let Err(error) = thawed {
            tracing::warn!("{error}");
        }
        result
    }

    /// `cgroup.kill` (Linux 5.14), also of the cgroup2 directory of a hybrid layout; false when there is none.
    fn kill_by_file(&self) -> Result<bool> {
        let Some(dir) = self.path_of("") else { return Ok(false) };
        match knob::write(dir, "cgroup.kill", "1") {
            Ok(()) => {}
            Err(error) if error.is_gone() => return Ok(false),
            Err(error) => return Err(error),
        }
        // A process frozen by the v1 freezer dies only when it is thawed.
        if self.version != Version::V2 {
            self.let_die()?;
        }
        Ok(true)
    }
}

/// The processes of the cgroup at `dir`.
pub(super) fn pids_in(dir: &Path, recursive: bool) -> Result<Vec<Pid>> {
    let mut pids = Vec::new();
    collect(dir, recursive, &mut pids)?;
    Ok(pids)
}

fn collect(dir: &Path, recursive: bool, pids: &mut Vec<Pid>) -> Result<()> {
    let text = match knob::read(dir, "cgroup.procs") {
        // A threaded cgroup lists only threads.
        Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => knob::read(dir, "cgroup.threads")?,
        text => text?,
    };
    for line in text.lines() {
        let pid = line.parse().map_err(|_| CgroupError::parse(&dir.join("cgroup.procs"), line))?;
        pids.push(Pid::from_raw(pid));
    }
    if !recursive {
        return Ok(());
    }
    for child in sub_cgroups(dir)? {
        match collect(&child, true, pids) {
            // Removed while we looked.
            Err(error) if error.is_gone() => {}
            result => result?,
        }
    }
    Ok(())
}

/// The directories right below `dir`. The number of links tells cheaply when there are none.
pub(super) fn sub_cgroups(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    use std::os::unix::fs::MetadataExt;
    let read_error = |error| CgroupError::Read { path: dir.to_path_buf(), error };
    if fs::metadata(dir).map_err(read_error)?.nlink() == 2 {
        return Ok(Vec::new());
    }
    let mut children = Vec::new();
    for entry in fs::read_dir(dir).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        if entry.file_type().map_err(read_error)?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_cgroups_are_listed_only_when_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let child = root.path().join("child");
        fs::create_dir(&child).unwrap();
        fs::write(root.path().join("cgroup.procs"), "1\n7\n").unwrap();
        fs::write(child.join("cgroup.procs"), "9\n").unwrap();
        assert_eq!(pids_in(root.path(), false).unwrap(), [1, 7].map(Pid::from_raw));
        assert_eq!(pids_in(root.path(), true).unwrap(), [1, 7, 9].map(Pid::from_raw));
        assert!(pids_in(&root.path().join("none"), true).unwrap_err().is_gone());
    }
}
