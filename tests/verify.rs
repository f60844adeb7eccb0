//! The checklist itself, tried on runc: it finds a good runtime good, and names what a bad one does.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rt::verify::{self, Mark, Report, Runtime};

/// runc, or `None` (and a line that says so) where it or root is missing.
fn runc() -> Option<PathBuf> {
    let found = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"];
    let runc = found.into_iter().map(PathBuf::from).find(|path| path.exists());
    if runc.is_none() || !nix::unistd::Uid::effective().is_root() {
        let line = "SKIP: needs root and runc (verify)\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return None;
    }
    runc
}

fn judged(program: &Path) -> Report {
    let host = verify::detect().unwrap();
    let runtime = Runtime::other(program.to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_rt")));
    verify::run(&runtime, host, &mut |_| {}).unwrap()
}

/// The names of the checks that a wrapper of runc fails, which does `before` and `after` each of its commands; they
/// find the command in `$verb`, the bundle in `$bundle` and the container in `$id`.
fn failed_by(before: &str, after: &str) -> Option<Vec<&'static str>> {
    let runc = runc()?;
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("wrapper");
    let script = format!(
        r#"#!/bin/bash
verb=$3; id="${{!#}}"; bundle=; [ "$verb" != create ] || bundle=$5; [ "$verb" != kill ] || id=$4
cgroup=$(ls -d /sys/fs/cgroup/memory/"$id" /sys/fs/cgroup/memory/*/*/"$id" /sys/fs/cgroup/"$id" 2>/dev/null | head -n 1)
{before}
{} "$@"; status=$?
{after}
exit $status
"#,
        runc.display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let report = judged(&wrapper);
    assert_eq!(report.passed, report.checks.iter().all(|check| check.mark == Mark::Pass));
    let failed = report.checks.iter().filter(|check| check.mark == Mark::Fail);
    Some(failed.map(|check| check.name).collect())
}

fn edits(program: &str) -> String {
    format!(r#"[ "$verb" != create ] || sed -i '{program}' "$bundle/config.json""#)
}

#[test]
fn a_good_runtime_holds_every_check() {
    let Some(failed) = failed_by("", "") else { return };
    assert_eq!(failed, [""; 0]);
}

#[test]
fn a_runtime_that_drops_the_limit_is_found() {
    let Some(failed) = failed_by(&edits(r#"s/"limit":134217728/"limit":-1/"#), "") else { return };
    for name in ["memory-limit", "limiter", "monitoring", "within", "above"] {
        assert!(failed.contains(&name), "{name} in {failed:?}");
    }
}

#[test]
fn a_runtime_that_doubles_the_limit_is_found() {
    let Some(failed) = failed_by(&edits(r#"s/"limit":134217728/"limit":268435456/"#), "") else { return };
    for name in ["memory-limit", "above"] {
        assert!(failed.contains(&name), "{name} in {failed:?}");
    }
}

#[test]
fn a_runtime_that_ignores_the_cpu_limit_is_found() {
    let Some(failed) = failed_by(&edits(r#"s/"quota":25000/"quota":-1/"#), "") else { return };
    assert_eq!(failed, ["cpu-limit"]);
}

#[test]
fn a_runtime_that_does_not_create_is_found() {
    let Some(failed) = failed_by(r#"[ "$verb" != create ] || { echo broken >&2; exit 1; }"#, "") else {
        return;
    };
    assert_eq!(failed, ["create"]);
}

#[test]
fn a_runtime_that_leaks_the_cgroup_is_found() {
    let note = tempfile::NamedTempFile::new().unwrap();
    let leak = format!(
        r#"[ "$verb" != delete ] || {{ mkdir -p "$cgroup"; echo "$cgroup" >> '{}'; }}"#,
        note.path().display()
    );
    let Some(failed) = failed_by("", &leak) else { return };
    for dir in fs::read_to_string(note.path()).unwrap().lines() {
        fs::remove_dir(dir).unwrap();
    }
    assert_eq!(failed, ["nothing-left"]);
}

#[test]
fn a_runtime_that_kills_on_start_is_found() {
    let Some(failed) = failed_by(
        "",
        r#"[ "$verb" != start ] || "${@:1:2}" true 2>/dev/null; [ "$verb" != start ] || kill -9 "$(cat "$cgroup/cgroup.procs")""#,
    ) else {
        return;
    };
    assert!(failed.contains(&"start"), "{failed:?}");
}
