//! Cgroups for tests: folders that look like one, and real ones that vanish at the end.

use std::path::Path;

use tempfile::TempDir;

use super::{Cgroup, Hierarchy, Version};

/// A folder that stands for a cgroup2 mount, with the files given in its sub-folder `box`.
pub(super) fn v2_fixture(files: &[(&str, &str)]) -> (TempDir, Cgroup) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("box");
    std::fs::create_dir(&dir).unwrap();
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let cgroup = fixture(Version::V2, vec![hierarchy(&[], root.path())]);
    (root, cgroup)
}

pub(super) fn fixture(version: Version, hierarchies: Vec<Hierarchy>) -> Cgroup {
    Cgroup {
        version,
        hierarchies,
        unit: None,
        rootless: false,
        explicit: true,
        preexisting: false,
        limited: false,
        made: Vec::new(),
        pending: None,
    }
}

pub(super) fn hierarchy(controllers: &[&str], mount: &Path) -> Hierarchy {
    Hierarchy {
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        mount: mount.to_path_buf(),
        dir: mount.join("box"),
    }
}
