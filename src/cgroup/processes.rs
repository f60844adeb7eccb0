//! The processes of a cgroup's subtree.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::CgroupError;
use super::{read, v2};

/// False where there is surely none. cgroupfs tells it by the number of links, without a look into the folder; file systems
/// that count no links of folders (a test's) have 1 there.
pub fn has_sub_cgroups(dir: &Path) -> bool {
    std::fs::metadata(dir).is_ok_and(|metadata| metadata.nlink() != 2)
}

/// Folders of a cgroup's subtree, itself first. Folders that go meanwhile are left out.
pub fn subtree(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(at) = found.get(next) {
        next += 1;
        let Ok(entries) = std::fs::read_dir(at) else { continue };
        let below: Vec<_> =
            entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect();
        found.extend(below);
    }
    found
}

/// The processes of one cgroup folder (the file has one name in both versions).
pub fn of_dir(dir: &Path) -> Result<Vec<i32>, CgroupError> {
    let path = dir.join(v2::PROCS);
    let text = read::text(&path)?;
    // A pid of 0 is a process outside this pid namespace.
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

/// The processes of a folder and of all folders below it.
pub fn of_subtree(dir: &Path) -> Result<Vec<i32>, CgroupError> {
    let mut all = of_dir(dir).or_else(|e| match &e {
        // A threaded v2 cgroup refuses the read; its processes are told by the domain above.
        CgroupError::Read { source, .. } if source.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
            Ok(vec![])
        }
        _ => Err(e),
    })?;
    for below in subtree(dir).into_iter().skip(1) {
        all.extend(of_dir(&below).unwrap_or_default());
    }
    Ok(all)
}
