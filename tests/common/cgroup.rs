//! The kernel's own files of a process's cgroup: what a limit really is.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one controller (`memory`, `cpu`, `pids`, …) for one process.
#[derive(Debug)]
pub struct Cgroup {
    pub path: PathBuf,
    pub v2: bool,
}

impl Cgroup {
    /// None if the controller is mounted nowhere or the process is gone.
    pub fn of(pid: i64, controller: &str) -> Option<Self> {
        let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let v1 = lines.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            names.split(',').any(|n| n == controller).then(|| path.to_owned())
        });
        let (mount, inside, v2) = match v1 {
            Some(path) => (
                mount_of(|kind, options| kind == "cgroup" && options.split(',').any(|o| o == controller))?,
                path,
                false,
            ),
            None => {
                let path = lines.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
                (mount_of(|kind, _| kind == "cgroup2")?, path, true)
            }
        };
        Some(Self { path: mount.join(inside.trim_start_matches('/')), v2 })
    }

    /// The content of `v2_name` or `v1_name`, whichever this version has, trimmed.
    #[track_caller]
    pub fn read(&self, v1_name: &str, v2_name: &str) -> String {
        let file = self.path.join(if self.v2 { v2_name } else { v1_name });
        fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().to_owned()
    }

    pub fn memory_limit(&self) -> String {
        self.read("memory.limit_in_bytes", "memory.max")
    }
}

/// All cgroup folders whose name contains `word`, deepest first.
pub fn folders_named(word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(Path::new("/sys/fs/cgroup"), word, false, 0, &mut found);
    found.reverse();
    found
}

fn collect(folder: &Path, word: &str, inside: bool, depth: u32, found: &mut Vec<PathBuf>) {
    if depth > 8 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let named = inside || entry.file_name().to_string_lossy().contains(word);
        if named {
            found.push(entry.path());
        }
        collect(&entry.path(), word, named, depth + 1, found);
    }
}

/// The mount point for which `wanted(type, super options)` holds.
fn mount_of(wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        wanted(kind, options).then(|| PathBuf::from(left.split(' ').nth(4).unwrap_or_default()))
    })
}
