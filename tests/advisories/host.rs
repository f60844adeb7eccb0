//! A folder of the host that no container may see or change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::common::{Outcome, Sandbox};

pub const SECRET: &str = "text of the host that no container may see or change";

#[derive(Debug)]
pub struct HostFolder {
    pub path: PathBuf,
    before: Vec<String>,
}

impl HostFolder {
    /// With a secret, and files of names that a runtime removes or writes to in a container's /dev.
    pub fn new(sandbox: &Sandbox) -> Self {
        let path = sandbox.path("outside");
        fs::create_dir(&path).expect("a folder");
        for name in ["secret", "ptmx", "null", "console"] {
            fs::write(path.join(name), SECRET).expect("a file");
        }
        let before = listing(&path);
        Self { path, before }
    }

    /// Targets of links that lead to it where the host's root is taken for the container's.
    pub fn links(&self) -> [String; 2] {
        [self.path.display().to_string(), format!("../../../../../../../../../..{}", self.path.display())]
    }

    #[track_caller]
    pub fn assert_untouched(&self, outcome: &Outcome) {
        assert_eq!(listing(&self.path), self.before, "a folder of the host was changed: {outcome}");
        assert!(!outcome.text().contains(SECRET), "a file of the host was read: {outcome}");
    }
}

/// Names, owners, modes and contents.
fn listing(folder: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|entry| {
            let found = entry.metadata().expect("metadata");
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            format!("{:?} {} {} {:o} {text}", entry.file_name(), found.uid(), found.gid(), found.mode())
        })
        .collect();
    lines.sort();
    lines
}
