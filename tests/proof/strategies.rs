//! Every strategy against a real limit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Pid;
use rt::proof::{Outcome, Reason, Strategy, Verdict, prove};

use crate::cgroup::{MIB, TestCgroup, alive, needs, wait_until};
use crate::schema::proved;

fn proved_by(cgroup: &TestCgroup, init: Pid, strategy: Strategy, file_dir: &Path) -> Outcome {
    let mut request = cgroup.request(init);
    request.strategy = strategy;
    request.file_dir = Some(file_dir.to_owned());
    proved(&request)
}

/// A folder on a disk; /tmp may be in memory.
fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

#[test]
fn every_strategy_is_killed_where_it_is_predicted_and_leaves_nothing() {
    for strategy in Strategy::ALL {
        let Some(mut cgroup) = TestCgroup::limited(64) else { return };
        let init = cgroup.sleeper();
        let outcome = proved_by(&cgroup, init, strategy, Path::new("/dev/shm"));
        assert_eq!(outcome.decision.verdict, Verdict::Enforced, "{strategy}: {:?}", outcome.decision);
        let record = &outcome.record;
        let off = record.touched_bytes.abs_diff(record.predicted_bytes.unwrap());
        let tolerance = if strategy == Strategy::Fork { 64 * MIB / 50 } else { 64 * MIB / 400 + 64 * 4096 };
        assert!(off <= tolerance, "{strategy}: {off} bytes off");
        assert_eq!(record.strategy, strategy);
        assert!(alive(init));
        assert_eq!(cgroup.processes(), [init.as_raw()], "{strategy} leaves nobody");
        let left = cgroup.cgroup().usage().unwrap();
        assert!(left < 4 * MIB, "{strategy} leaves {left} bytes");
    }
}

#[test]
fn every_strategy_fits_below_the_limit() {
    for strategy in Strategy::ALL {
        let Some(mut cgroup) = TestCgroup::limited(64) else { return };
        let init = cgroup.sleeper();
        let mut request = cgroup.request(init);
        request.strategy = strategy;
        request.file_dir = Some("/dev/shm".into());
        request.target_bytes = Some(40 * MIB);
        let outcome = proved(&request);
        assert_eq!(outcome.decision.verdict, Verdict::WithinLimit, "{strategy}: {:?}", outcome.decision);
        assert_eq!(outcome.record.touched_bytes, 40 * MIB);
        assert_eq!(cgroup.processes(), [init.as_raw()], "{strategy} leaves nobody");
    }
}

#[test]
fn page_cache_on_a_disk_is_held_by_reclaim() {
    let Some(mut cgroup) = TestCgroup::limited(32) else { return };
    let init = cgroup.sleeper();
    let dir = on_disk();
    let outcome = proved_by(&cgroup, init, Strategy::File, dir.path());
    assert_eq!(outcome.decision.verdict, Verdict::HeldByReclaim, "{:?}", outcome.decision);
    assert_eq!(outcome.record.exit_code, Some(0));
    let record = &outcome.record;
    assert_eq!(record.touched_bytes, 48 * MIB);
    let (before, after) = (record.counters_before.unwrap(), record.counters_after.unwrap());
    assert_eq!(after.oom_kill, before.oom_kill);
    assert!(after.limit_hits > before.limit_hits);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file is left");
}

#[test]
fn the_folder_is_resolved_inside_the_root_of_the_container() {
    let Some(mut cgroup) = TestCgroup::limited(32) else { return };
    // Where the shell's root is, /scratch is a link out of it.
    let root = on_disk();
    std::fs::create_dir_all(root.path().join("inside")).unwrap();
    std::os::unix::fs::symlink("/inside", root.path().join("scratch")).unwrap();
    std::os::unix::fs::symlink("/dev/shm", root.path().join("outside")).unwrap();
    let busybox = PathBuf::from("/bin/busybox");
    if !busybox.exists() {
        return needs("/bin/busybox");
    }
    std::fs::copy(&busybox, root.path().join("busybox")).unwrap();
    let init = cgroup.start(&format!("exec chroot '{}' /busybox sleep 1000", root.path().display()));
    let rooted = || std::fs::read_link(format!("/proc/{init}/root")).is_ok_and(|at| at == root.path());
    wait_until("the process to change its root", rooted);
    let outcome = proved_by(&cgroup, init, Strategy::File, Path::new("/scratch"));
    assert_eq!(outcome.decision.verdict, Verdict::HeldByReclaim, "{:?}", outcome.decision);
    assert_eq!(outcome.record.file_dir.as_deref(), Some(Path::new("/scratch")));
    let outcome = proved_by(&cgroup, init, Strategy::File, Path::new("/outside"));
    assert_eq!(outcome.decision.reason, Some(Reason::NoFolder.name()), "{:?}", outcome.decision);
    assert_eq!(outcome.record.exit_code, Some(3));
}

#[test]
fn mlock_limit() {
    let Some(mut cgroup) = TestCgroup::limited(64) else { return };
    let init = cgroup.sleeper();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "prlimit", "--memlock=1048576:1048576"])
        .arg(env!("CARGO_BIN_EXE_rt"))
        .args(["test-memory", "--strategy", "mlock", "--pid", &init.to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("refused (mlock-limit)") && told.contains("1 MiB"), "{told}");
}

#[test]
fn a_family_that_is_stopped_half_way_is_gone_when_the_proof_ends() {
    let Some(mut cgroup) = TestCgroup::limited(400) else { return };
    let init = cgroup.sleeper();
    let mut request = cgroup.request(init);
    request.strategy = Strategy::Fork;
    request.timeout = Some(Duration::from_millis(1));
    let mut most = 0;
    let outcome = prove(&request, &mut |_| most = most.max(cgroup.processes().len())).unwrap();
    assert_eq!(outcome.decision.verdict, Verdict::TimedOut, "{:?}", outcome.decision);
    assert_eq!(cgroup.processes(), [init.as_raw()]);
    request.timeout = None;
    let outcome = prove(&request, &mut |_| most = most.max(cgroup.processes().len())).unwrap();
    assert_eq!(outcome.decision.verdict, Verdict::Enforced, "{:?}", outcome.decision);
    assert!(most > 10, "{most} processes at most");
    assert_eq!(cgroup.processes(), [init.as_raw()]);
}
