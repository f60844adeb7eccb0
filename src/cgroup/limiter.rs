//! The limiter: of a cgroup and its ancestors the one whose limit is the tightest, and so binds.

use super::error::CgroupError;
use super::memory::MemoryCgroup;

/// The cgroup whose limit binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limiter {
    pub cgroup: MemoryCgroup,
    /// The limit in bytes.
    pub limit_bytes: u64,
    /// True where it is the cgroup asked about, false where an ancestor binds tighter.
    pub own: bool,
}

/// The limiter of `cgroup`; `None` where nothing on the way up has a limit. Of equal limits the nearest counts.
pub fn limiter(cgroup: &MemoryCgroup) -> Result<Option<Limiter>, CgroupError> {
    Ok(limits_upwards(cgroup)?
        .into_iter()
        .reduce(|best, next| if next.limit_bytes < best.limit_bytes { next } else { best }))
}

/// Every limit on the way up, nearest first.
pub fn limits_upwards(cgroup: &MemoryCgroup) -> Result<Vec<Limiter>, CgroupError> {
    let mut limits = Vec::new();
    for at in cgroup.upwards() {
        let own = at.dir == cgroup.dir;
        if !own && !at.binds_descendants()? {
            continue;
        }
        match at.limit() {
            Ok(Some(limit_bytes)) => limits.push(Limiter { cgroup: at, limit_bytes, own }),
            Ok(None) => {}
            // A mount point that is no cgroup of the controller (v2's root, a test's folder).
            Err(e) if e.is_missing() && !own => {}
            Err(e) => return Err(e),
        }
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::super::locate::Version;
    use super::super::memory::fixture;
    use super::super::{v1, v2};
    use super::*;
    use std::fs;

    #[test]
    fn the_tightest_ancestor_binds() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V2, tmp.path(), "pod/container/leaf");
        fs::create_dir_all(&cgroup.dir).unwrap();
        fs::write(cgroup.dir.join(v2::LIMIT), "max\n").unwrap();
        fs::write(tmp.path().join("pod/container").join(v2::LIMIT), "104857600\n").unwrap();
        fs::write(tmp.path().join("pod").join(v2::LIMIT), "67108864\n").unwrap();
        let found = limiter(&cgroup).unwrap().unwrap();
        assert_eq!((found.limit_bytes, found.own), (67_108_864, false));
        assert_eq!(found.cgroup.name(), "/pod");
        fs::write(cgroup.dir.join(v2::LIMIT), "67108864\n").unwrap();
        let found = limiter(&cgroup).unwrap().unwrap();
        assert!(found.own, "of equal limits the nearest counts");
    }

    #[test]
    fn nothing_limits_where_all_say_max() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V2, tmp.path(), "c");
        fs::create_dir_all(&cgroup.dir).unwrap();
        fs::write(cgroup.dir.join(v2::LIMIT), "max\n").unwrap();
        assert_eq!(limiter(&cgroup).unwrap(), None);
    }

    #[test]
    fn a_v1_ancestor_without_hierarchy_does_not_count() {
        let tmp = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V1, tmp.path(), "a/b");
        fs::create_dir_all(&cgroup.dir).unwrap();
        fs::write(cgroup.dir.join(v1::LIMIT), "67108864\n").unwrap();
        fs::write(tmp.path().join("a").join(v1::LIMIT), "1048576\n").unwrap();
        fs::write(tmp.path().join("a").join(v1::USE_HIERARCHY), "0\n").unwrap();
        assert_eq!(limiter(&cgroup).unwrap().unwrap().limit_bytes, 67_108_864);
    }
}
