//! Proofs in a row: 300, or as many as `RT_PROOFS` says. A binary of its own, because descriptors and children are the
//! whole process's.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rt::proof::{Strategy, Verdict};

use crate::cgroup::{MIB, TestCgroup, alive, proved, read};

#[path = "proof/cgroup.rs"]
#[allow(dead_code, reason = "a part of it is needed here")]
mod cgroup;

const PROOFS: usize = 300;

/// Everything a proof could leave behind or change.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    /// What each open descriptor of this process is.
    descriptors: BTreeMap<String, PathBuf>,
    children: BTreeSet<String>,
    /// The prover's own cgroups and its likeliness to be killed.
    own: [String; 2],
    /// Processes of the container, and theirs.
    processes: Vec<(i32, String)>,
    /// Cgroups below the container's, and its settings.
    folders: Vec<PathBuf>,
    settings: BTreeMap<String, String>,
    files: BTreeSet<PathBuf>,
}

impl Left {
    fn now(cgroup: &TestCgroup, dirs: &[&Path]) -> Self {
        let adj = |pid: &str| read(Path::new(&format!("/proc/{pid}/oom_score_adj")));
        Self {
            descriptors: descriptors(),
            children: children(),
            own: [read(Path::new("/proc/self/cgroup")), adj("self")],
            processes: cgroup.processes().into_iter().map(|pid| (pid, adj(&pid.to_string()))).collect(),
            folders: rt::cgroup::processes::subtree(&cgroup.dir),
            settings: settings(&cgroup.dir),
            files: dirs.iter().flat_map(|dir| files(dir)).collect(),
        }
    }
}

fn descriptors() -> BTreeMap<String, PathBuf> {
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let named = all.filter_map(|fd| {
        Some((fd.file_name().to_string_lossy().into_owned(), fs::read_link(fd.path()).ok()?))
    });
    // But for the one that reads the folder.
    named.filter(|(_, to)| !to.ends_with("fd")).collect()
}

fn children() -> BTreeSet<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.flat_map(|task| of(task).split_whitespace().map(String::from).collect::<Vec<_>>()).collect()
}

/// Files of the cgroup that say what it is set to.
fn settings(dir: &Path) -> BTreeMap<String, String> {
    let names = [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.soft_limit_in_bytes",
        "memory.swappiness",
        "memory.oom_control",
        "memory.max",
        "memory.high",
        "memory.low",
        "memory.min",
        "memory.swap.max",
        "memory.oom.group",
        "cgroup.subtree_control",
    ];
    // `oom_kill` is the count of kills, which rises.
    let setting =
        |name: &str| read(&dir.join(name)).lines().filter(|l| !l.starts_with("oom_kill ")).collect();
    names.into_iter().map(|name| (name.to_owned(), setting(name))).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()).collect()
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn many_proofs_in_a_row_leave_nothing_behind() {
    let Some(mut cgroup) = TestCgroup::limited(16) else { return };
    let init = cgroup.sleeper();
    let (locks, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let mut request = cgroup.request(init);
    request.lock_dir = Some(locks.path().to_owned());
    request.file_dir = Some(scratch.path().to_owned());
    let proofs = std::env::var("RT_PROOFS").map_or(PROOFS, |text| text.parse().unwrap());
    let dirs = [cgroup.records.path(), locks.path(), scratch.path()].map(Path::to_owned);
    let dirs = dirs.each_ref().map(PathBuf::as_path);

    // One of each way first: the lock of the folder, the journal and buffers stay.
    let mut before = None;
    for round in 0..proofs + Strategy::ALL.len() {
        request.strategy = Strategy::ALL[round % Strategy::ALL.len()];
        let outcome = proved(&request);
        let decision = &outcome.decision;
        assert_eq!(
            decision.verdict,
            Verdict::Enforced,
            "{} in round {round}: {decision:?}",
            request.strategy
        );
        if round + 1 == Strategy::ALL.len() {
            before = Some((Left::now(&cgroup, &dirs), resident()));
        }
    }
    let (before, resident_before) = before.unwrap();
    assert_eq!(Left::now(&cgroup, &dirs), before);
    assert_eq!(before.processes.len(), 1);
    assert!(before.children.len() == 1 && alive(init), "init is the only child: {:?}", before.children);
    assert!(files(scratch.path()).is_empty());
    assert_eq!(files(locks.path()), [locks.path().join("lock")]);
    let journal = cgroup.records.path().join(rt::proof::journal::FILE);
    assert!(fs::metadata(journal).unwrap().len() <= rt::proof::journal::MAX_BYTES);
    let grown = resident().saturating_sub(resident_before);
    assert!(grown < 8 * MIB, "the prover grew by {grown} bytes");
    let usage = cgroup.cgroup().usage().unwrap();
    assert!(usage < 4 * MIB, "{usage} bytes are left in the cgroup");
}
