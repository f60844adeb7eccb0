//! Freezing and thawing: the v1 freezer hierarchy, or cgroup2's `cgroup.freeze`.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::members::{pids_in, sub_cgroups};
use super::{Cgroup, CgroupError, Result, Version, knob};
use crate::poll::after;

const STATE: &str = "freezer.state";
/// Whether a cgroup of v1 itself is frozen, whatever those above it are.
pub(super) const SELF_FREEZING: &str = "freezer.self_freezing";
/// Whether a cgroup of v1 is frozen by one above it.
const PARENT_FREEZING: &str = "freezer.parent_freezing";
/// The same of v2, and the way to freeze it.
pub(super) const FREEZE: &str = "cgroup.freeze";
/// How long a cgroup may take to freeze (runc's limit): tasks in uninterruptible sleep hold it up.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Stops every process of the cgroup, and returns once all have stopped.
    pub fn freeze(&self) -> Result<()> {
        match self.version {
            Version::V2 => freeze_v2(self.freezer_dir()?),
            _ => {
                let dir = self.freezer_dir()?;
                let result = freeze_v1(dir);
                if result.is_err() {
                    // Neither FREEZING nor FROZEN may stay behind after a failure.
                    let _ = knob::write(dir, STATE, "THAWED");
                }
                result
            }
        }
    }

    /// Lets the processes run again; nothing happens when they do.
    pub fn thaw(&self) -> Result<()> {
        match self.version {
            Version::V2 => match knob::write(self.freezer_dir()?, FREEZE, "0") {
                // A kernel without the freezer has nothing frozen.
                Err(error) if error.is_gone() => Ok(()),
                result => result,
            },
            _ => knob::write(self.freezer_dir()?, STATE, "THAWED"),
        }
    }

    /// Whether the cgroup itself has been frozen (a frozen ancestor does not count, as in runc). A cgroup that is
    /// gone, or a kernel without the freezer, is not frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        is_frozen(self.version, self.path_of("freezer"))
    }

    /// Thaws whatever keeps killed processes from their end: a frozen one dies when it thaws (on v2 at once). To be called when
    /// they have been killed.
    pub fn let_die(&self) -> Result<()> {
        let Some(dir) = self.path_of("freezer") else { return Ok(()) };
        let thawed = match self.version {
            Version::V2 => match knob::read_optional_u64(dir, FREEZE)? {
                None | Some(0) => Ok(()),
                Some(_) => self.thaw(),
            },
            _ => match thaw_tree(dir) {
                Ok(true) => leave_frozen_ancestor(dir, &self.freezer_mount()),
                result => result.map(drop),
            },
        };
        match thawed {
            Err(error) if error.is_gone() => Ok(()),
            result => result,
        }
    }

    fn freezer_mount(&self) -> PathBuf {
        let hierarchy = self.hierarchies.iter().find(|hierarchy| hierarchy.has("freezer"));
        hierarchy.map(|hierarchy| hierarchy.mount.clone()).unwrap_or_default()
    }

    fn freezer_dir(&self) -> Result<&Path> {
        self.path_of("freezer").ok_or(CgroupError::NoFreezer)
    }
}

/// Whether the cgroup whose freezer is `dir`, if it has one, has been frozen itself.
pub(super) fn is_frozen(version: Version, dir: Option<&Path>) -> Result<bool> {
    let Some(dir) = dir else { return Ok(false) };
    let result = match version {
        Version::V2 => is_frozen_v2(dir),
        _ => is_frozen_v1(dir),
    };
    match result {
        Err(error) if error.is_gone() => Ok(false),
        result => result,
    }
}

/// Thaws a cgroup of v1 and those in it. Whether it was frozen itself, or by one above it.
fn thaw_tree(dir: &Path) -> Result<bool> {
    let frozen = knob::read(dir, STATE)?.trim() != "THAWED";
    if frozen {
        knob::write(dir, STATE, "THAWED")?;
    }
    for child in sub_cgroups(dir)? {
        match thaw_tree(&child) {
            // Removed while we looked.
            Err(error) if error.is_gone() => {}
            result => drop(result?),
        }
    }
    Ok(frozen)
}

/// A cgroup above is frozen, which is somebody else's to thaw. The killed processes go to the root, which never is.
fn leave_frozen_ancestor(dir: &Path, mount: &Path) -> Result<()> {
    if knob::read_optional_u64(dir, PARENT_FREEZING)?.unwrap_or(0) == 0 {
        return Ok(());
    }
    for pid in pids_in(dir, true)? {
        match knob::write(mount, "cgroup.procs", &pid.to_string()) {
            // It ended.
            Err(error) if error.errno() == Some(Errno::ESRCH) => {}
            moved => moved?,
        }
    }
    Ok(())
}

/// The v1 freezer cannot be relied on while processes keep appearing: it stays at FREEZING and has to be asked
/// again, now and then after a thaw. The numbers are the ones that runc found to work.
fn freeze_v1(dir: &Path) -> Result<()> {
    for attempt in 0..1000_u32 {
        if attempt % 50 == 49 {
            let _ = knob::write(dir, STATE, "THAWED");
            sleep(Duration::from_millis(10));
        }
        knob::write(dir, STATE, "FROZEN")?;
        if attempt % 25 == 24 {
            sleep(Duration::from_micros(10));
        }
        let state = knob::read(dir, STATE)?;
        match state.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            _ => return Err(CgroupError::parse(&dir.join(STATE), &state)),
        }
    }
    Err(CgroupError::UnableToFreeze)
}

fn is_frozen_v1(dir: &Path) -> Result<bool> {
    // Kernels without the file cannot tell an ancestor's freezing from the cgroup's own.
    if knob::read_optional_u64(dir, SELF_FREEZING)? == Some(0) {
        return Ok(false);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = knob::read(dir, STATE)?;
        match state.trim() {
            "THAWED" => return Ok(false),
            "FREEZING" if Instant::now() > deadline => return Err(CgroupError::UnableToFreeze),
            "FREEZING" => sleep(Duration::from_millis(1)),
            "FROZEN" => return Ok(true),
            _ => return Err(CgroupError::parse(&dir.join(STATE), &state)),
        }
    }
}

fn freeze_v2(dir: &Path) -> Result<()> {
    match knob::write(dir, FREEZE, "1") {
        Ok(()) if wait_frozen(dir)? => Ok(()),
        Ok(()) => Err(CgroupError::UnableToFreeze),
        Err(error @ CgroupError::Open { .. }) => Err(CgroupError::FreezerUnsupported(Box::new(error))),
        Err(error) => Err(error),
    }
}

fn is_frozen_v2(dir: &Path) -> Result<bool> {
    match knob::read_u64(dir, FREEZE)? {
        0 => Ok(false),
        _ => wait_frozen(dir),
    }
}

/// Waits for `frozen 1` in cgroup.events, whose changes the kernel announces (POLLPRI).
fn wait_frozen(dir: &Path) -> Result<bool> {
    let path = dir.join("cgroup.events");
    let file = File::open(&path).map_err(|error| CgroupError::Open { path: path.clone(), error })?;
    let deadline = after(PATIENCE);
    let mut text = [0_u8; 256];
    loop {
        let length =
            file.read_at(&mut text, 0).map_err(|error| CgroupError::Read { path: path.clone(), error })?;
        let mut lines = text[..length].split(|byte| *byte == b'\n');
        match lines.find_map(|line| line.strip_prefix(b"frozen ")) {
            Some(b"1") => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CgroupError::UnableToFreeze);
        }
        // An interrupted or failing wait only reads again.
        let timeout =
            PollTimeout::try_from(left.min(Duration::from_millis(100))).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_state_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(STATE, "THAWED\n");
        assert!(!is_frozen_v1(dir.path()).unwrap());
        write(STATE, "FROZEN\n");
        assert!(is_frozen_v1(dir.path()).unwrap());
        write("freezer.self_freezing", "0\n");
        assert!(!is_frozen_v1(dir.path()).unwrap());
        write("freezer.self_freezing", "1\n");
        assert!(is_frozen_v1(dir.path()).unwrap());
        write(STATE, "odd\n");
        assert!(is_frozen_v1(dir.path()).is_err());
    }

    #[test]
    fn v2_state_is_frozen_once_events_say_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.freeze"), "1\n").unwrap();
        std::fs::write(dir.path().join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert!(is_frozen_v2(dir.path()).unwrap());
        std::fs::write(dir.path().join("cgroup.freeze"), "0\n").unwrap();
        assert!(!is_frozen_v2(dir.path()).unwrap());
    }
}
