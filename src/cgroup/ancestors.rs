//! Limits above many cgroups: what several of them have above them is kept open once, and read once a look.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Instant;

use super::error::CgroupError;
use super::gauge::limit_in;
use super::locate::Version;
use super::memory::MemoryCgroup;
use super::read::Kept;
use super::{v1, v2};

/// A limit in bytes, and the name of the cgroup that it belongs to.
pub type Tightest = Option<(u64, Rc<str>)>;

/// A cgroup above others.
#[derive(Debug)]
pub struct Ancestor {
    version: Version,
    name: Rc<str>,
    /// `None` where it has no limit that could bind what is below.
    limit: Option<Kept>,
    above: Option<Rc<Ancestor>>,
    /// What was found last, and when.
    seen: RefCell<Option<(Instant, Tightest)>>,
}

/// Those in use, by their folders.
#[derive(Debug, Default)]
pub struct Ancestors(HashMap<PathBuf, Weak<Ancestor>>);

impl Ancestors {
    /// What is above `cgroup`; `None` for a cgroup at the mount point.
    ///
    /// # Errors
    /// A file of one above cannot be read.
    pub fn above(&mut self, cgroup: &MemoryCgroup) -> Result<Option<Rc<Ancestor>>, CgroupError> {
        let Some(parent) = cgroup.parent() else { return Ok(None) };
        if let Some(known) = self.0.get(&parent.dir).and_then(Weak::upgrade) {
            return Ok(Some(known));
        }
        let above = self.above(&parent)?;
        let limit = if parent.binds_descendants()? {
            // A mount point that is no cgroup of the controller (v2's root, a test's folder) has no such file.
            Kept::open_if_there(parent.file(match parent.version {
                Version::V1 => v1::LIMIT,
                Version::V2 => v2::LIMIT,
            }))?
        } else {
            None
        };
        let name = parent.name().into();
        let found =
            Rc::new(Ancestor { version: parent.version, name, limit, above, seen: RefCell::new(None) });
        // Now and then, so that what is gone is forgotten without a walk for each that comes.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|_, known| known.strong_count() > 0);
        }
        self.0.insert(parent.dir, Rc::downgrade(&found));
        Ok(Some(found))
    }
}

impl Ancestor {
    /// The tightest limit of this cgroup and those above it; of equal limits the nearest counts. At the same `now` it is
    /// read once, however many ask.
    ///
    /// # Errors
    /// A limit cannot be understood.
    pub fn tightest(&self, now: Instant) -> Result<Tightest, CgroupError> {
        if let Some((at, found)) = &*self.seen.borrow()
            && *at == now
        {
            return Ok(found.clone());
        }
        let own = match self.limit.as_ref().map_or(Ok(None), |file| limit_in(file, self.version)) {
            // Gone with all below it, which will be noticed there.
            Err(e) if e.is_missing() => None,
            own => own?,
        };
        let above = self.above.as_ref().map_or(Ok(None), |above| above.tightest(now))?;
        let found = tighter(own.map(|bytes| (bytes, self.name.clone())), above);
        *self.seen.borrow_mut() = Some((now, found.clone()));
        Ok(found)
    }
}

/// Of two limits the smaller; of equal ones the nearer.
fn tighter(near: Tightest, far: Tightest) -> Tightest {
    match (near, far) {
        (Some(near), Some(far)) => Some(if far.0 < near.0 { far } else { near }),
        (near, far) => near.or(far),
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::fixture;
    use super::*;
    use std::fs;
    use std::path::Path;

    fn pod(version: Version, mount: &Path, limits: [&str; 3]) -> [MemoryCgroup; 2] {
        let file = if version == Version::V1 { v1::LIMIT } else { v2::LIMIT };
        for (below, limit) in ["pods", "pods/one", "pods/one/a"].into_iter().zip(limits) {
            fs::create_dir_all(mount.join(below)).unwrap();
            fs::write(mount.join(below).join(file), limit).unwrap();
        }
        [fixture(version, mount, "pods/one/a"), fixture(version, mount, "pods/one/b")]
    }

    #[test]
    fn the_tightest_above_binds_and_is_shared() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroups = pod(Version::V2, tmp.path(), ["1000\n", "max\n", "5\n"]);
        let mut ancestors = Ancestors::default();
        let [a, b] = cgroups.each_ref().map(|cgroup| ancestors.above(cgroup).unwrap().unwrap());
        assert!(Rc::ptr_eq(&a, &b));
        let now = Instant::now();
        assert_eq!(a.tightest(now).unwrap(), Some((1000, "/pods".into())));
        fs::write(tmp.path().join("pods/one").join(v2::LIMIT), "1000\n").unwrap();
        assert_eq!(b.tightest(now).unwrap().unwrap().1, "/pods".into(), "once a look");
        let later = now + std::time::Duration::from_nanos(1);
        assert_eq!(b.tightest(later).unwrap(), Some((1000, "/pods/one".into())), "of equal ones the nearest");
        drop((a, b));
        assert!(ancestors.0.values().all(|known| known.strong_count() == 0), "gone with the last below");
    }

    #[test]
    fn a_v1_ancestor_without_hierarchy_binds_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let [cgroup, _] = pod(Version::V1, tmp.path(), ["1000\n", "2000\n", "5000\n"]);
        fs::write(tmp.path().join("pods").join(v1::USE_HIERARCHY), "0\n").unwrap();
        let above = Ancestors::default().above(&cgroup).unwrap().unwrap();
        assert_eq!(above.tightest(Instant::now()).unwrap(), Some((2000, "/pods/one".into())));
        fs::remove_dir_all(tmp.path().join("pods/one")).unwrap();
        let root = fixture(Version::V1, tmp.path(), "");
        let root = MemoryCgroup { dir: root.mount.clone(), ..root };
        assert!(Ancestors::default().above(&root).unwrap().is_none());
    }
}
