//! The way into a cgroup that waits for nobody. To move another process, or a whole one by `cgroup.procs`, the kernel takes
//! a lock that stops every fork and exec of the machine, and waits for a grace period of RCU first: 3 to 15 ms, most of
//! what `create` would take (docs/performance.md). It takes none where a thread moves itself by `tasks` of v1 (Linux 5.4),
//! and where a process is born in a cgroup of v2 (clone3, Linux 5.7). What is not entered so is entered by
//! [`Cgroup::join`] in the old way, which also has the words for what goes wrong.

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{Cgroup, Hierarchy, SubCgroups};
use crate::sys::process::close_number;

/// The hierarchies that a process has entered by itself, a bit each in the order of the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entered(pub u64);

impl Entered {
    fn add(&mut self, index: usize) {
        self.0 |= 1_u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
    }

    pub(super) fn has(self, index: usize) -> bool {
        self.0.checked_shr(u32::try_from(index).unwrap_or(u32::MAX)).is_some_and(|bits| bits & 1 == 1)
    }
}

/// Where a child of ours may be born: the folder of cgroup v2.
#[derive(Debug)]
pub struct Cradle {
    index: usize,
    folder: OwnedFd,
}

impl Cradle {
    /// In a forked child, once it is where it belongs: closes the copy of the descriptor, which is of the host. Nothing of it
    /// is used in the child any more.
    pub fn close_in_child(&self) {
        let _ = close_number(self.folder.as_raw_fd());
    }
}

impl AsFd for Cradle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// The `tasks` files of v1, open, to be written to by the process that enters. Opened before a user namespace takes the
/// right to.
#[derive(Debug, Default)]
pub struct Doors(Vec<(usize, File)>);

impl Cgroup {
    /// The folder of v2 for processes that `sub` names; `None` where there is none (yet).
    #[must_use]
    pub fn cradle(&self, sub: &SubCgroups) -> Option<Cradle> {
        let targets = self.entrances(sub)?;
        let (index, dir) = targets
            .iter()
            .enumerate()
            .find_map(|(index, (hierarchy, dir))| hierarchy.is_cgroup2().then_some((index, dir)))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(dir.as_ref(), flags, Mode::empty()).ok()?;
        Some(Cradle { index, folder })
    }

    /// Opens the files by which the calling process, or a child of it, can enter.
    #[must_use]
    pub fn doors(&self, sub: &SubCgroups) -> Doors {
        let Some(targets) = self.entrances(sub) else { return Doors::default() };
        let v1 = targets.iter().enumerate().filter(|(_, (hierarchy, _))| !hierarchy.is_cgroup2());
        let open = |dir: &Path| File::options().write(true).open(dir.join("tasks"));
        Doors(v1.filter_map(|(index, (_, dir))| Some((index, open(dir).ok()?))).collect())
    }

    /// The directory of each hierarchy; `None` where systemd is still to make the unit, with its first process, and where
    /// `sub` is wrong, which [`Cgroup::join_sub`] has the words for.
    fn entrances<'a>(&'a self, sub: &SubCgroups) -> Option<Vec<(&'a Hierarchy, Cow<'a, Path>)>> {
        sub.targets(self).ok().filter(|_| self.pending.is_none())
    }
}

impl Doors {
    /// Moves the calling process, which has one thread. `born_in` is where it has been all its life.
    #[must_use]
    pub fn enter(self, born_in: Option<&Cradle>) -> Entered {
        let mut entered = Entered::default();
        if let Some(cradle) = born_in {
            entered.add(cradle.index);
        }
        for (index, mut tasks) in self.0 {
            if tasks.write_all(b"0").is_ok() {
                entered.add(index);
            }
        }
        entered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_apart() {
        let mut entered = Entered::default();
        entered.add(0);
        entered.add(9);
        entered.add(64);
        let known: Vec<_> = (0..70).filter(|index| entered.has(*index)).collect();
        assert_eq!(known, [0, 9]);
    }
}
