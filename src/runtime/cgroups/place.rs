//! Where a process of a container has to be, and whether the kernel says that it is there: a write that succeeded was about
//! some process, and only /proc/PID/cgroup says about which.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::layout::{Own, mount_root};
use super::{CgroupError, Hierarchy, Result};
use crate::small_file;

/// A directory in each hierarchy that a process must not be outside of: those that carry limits, but for what a user
/// without permission does without.
#[derive(Debug, Default)]
#[must_use]
pub struct Place(Vec<Expected>);

#[derive(Debug)]
struct Expected {
    /// A controller of the hierarchy; empty for cgroup2.
    controller: String,
    mount: PathBuf,
    dir: PathBuf,
}

impl Place {
    pub(super) fn add(&mut self, hierarchy: &Hierarchy, dir: &Path) {
        self.0.push(Expected {
            controller: hierarchy.controllers.first().cloned().unwrap_or_default(),
            mount: hierarchy.mount.clone(),
            dir: dir.to_path_buf(),
        });
    }

    /// Asks the kernel where `pid`, a child that nobody has waited for, is. A sub-cgroup is inside. A zombie is nowhere.
    ///
    /// # Errors
    /// [`CgroupError::Outside`], or it cannot be known.
    pub fn verify(&self, pid: Pid) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let own = Own::of(pid)?;
        match self.0.iter().find(|expected| !expected.holds(&own)) {
            None => Ok(()),
            Some(expected) => Err(CgroupError::Outside {
                pid,
                dir: expected.dir.clone(),
                found: own.path(&expected.controller).map(Path::to_path_buf).unwrap_or_default(),
            }),
        }
    }
}

impl Expected {
    fn holds(&self, own: &Own) -> bool {
        let (Some(found), Ok(inside)) = (own.path(&self.controller), self.dir.strip_prefix(&self.mount))
        else {
            return false;
        };
        let is_below = |root: &Path| found.starts_with(root.join(inside));
        // /proc has the path in the hierarchy. A mount may show a part of that, in a container without a cgroup namespace.
        is_below(Path::new("/")) || mount_root(&self.mount).is_some_and(|root| is_below(&root))
    }
}

impl Own {
    /// Of another process.
    fn of(pid: Pid) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        super::knob::read_by(small_file::all, &path).map(|text| Self::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(dir: &str) -> Expected {
        Expected { controller: "memory".to_owned(), mount: "/nonexistent/memory".into(), dir: dir.into() }
    }

    #[test]
    fn a_process_is_in_its_cgroup_or_below_and_nowhere_else() {
        let inside =
            |line: &str| expected("/nonexistent/memory/pods/box").holds(&Own::parse(line.as_bytes()));
        assert!(inside("4:memory:/pods/box\n"));
        assert!(inside("4:cpu,memory:/pods/box/inner\n"));
        for outside in ["4:memory:/pods/boxer\n", "4:memory:/pods\n", "4:memory:/\n", "0::/pods/box\n", ""] {
            assert!(!inside(outside), "{outside}");
        }
    }

    #[test]
    fn a_process_outside_is_told_with_both_places() {
        let place =
            Place(vec![Expected { controller: String::new(), mount: "/m".into(), dir: "/m/box".into() }]);
        let own = Pid::this();
        let error = place.verify(own).unwrap_err().to_string();
        let start = format!("process {own} is not in the container's cgroup /m/box, but in ");
        assert!(error.starts_with(&start), "{error}");
        Place::default().verify(own).unwrap();
    }

    #[test]
    fn a_process_that_is_gone_is_not_in_its_cgroup() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        child.wait().unwrap();
        let place = Place(vec![expected("/nonexistent/memory/box")]);
        assert!(place.verify(pid).is_err());
    }
}
