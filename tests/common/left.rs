//! What a container may leave on the machine: processes, cgroups, mounts.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup;

/// Pids of all live processes, but for this one, that have `mark` in their environment.
pub fn processes_marked(mark: &str) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let marked = environment.split(|b| *b == 0).any(|line| line == mark.as_bytes());
        if marked && pid != own {
            pids.push(pid);
        }
    }
    pids
}

/// Mount points of this namespace at or below `folder`, deepest first.
pub fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let mut below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(folder))
        .collect();
    below.reverse();
    below
}

pub fn kill_marked(mark: &str) {
    for pid in processes_marked(mark) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Kills what is in the cgroups named with `word`, and removes them.
pub fn remove_cgroups(word: &str) {
    for _ in 0..50 {
        let folders = cgroup::folders_named(word);
        if folders.is_empty() {
            return;
        }
        for folder in folders {
            let _ = fs::write(folder.join("freezer.state"), "THAWED");
            let _ = fs::write(folder.join("cgroup.freeze"), "0");
            for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Ok(pid @ 2..) = pid.parse::<i32>() {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            let _ = fs::remove_dir(&folder);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

pub fn unmount_below(folder: &Path) {
    for mount in mounts_below(folder) {
        let _ = umount2(&mount, MntFlags::MNT_DETACH);
    }
}
