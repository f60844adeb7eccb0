//! The checklist itself, tried on runc: it finds a good runtime good, and names what a bad one does.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rt::verify::{self, Mark, Report, Runtime};

/// runc, or `None` (and a line that says so) where it or root is missing.
fn runc() -> Option<PathBuf> {
    let found = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"];
    let runc = found.into_iter().map(PathBuf::from).find(|path| path.exists());
    if runc.is_none() || !nix::unistd::Uid::effective().is_root() {
        needs("root and runc");
        return None;
    }
    runc
}

/// Says past the test harness, which hides what passing tests print, that this test was not made.
fn needs(what: &str) {
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("SKIP: needs {what} (verify)\n").as_bytes(),
    );
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
    assert_eq!(report.passed, !report.checks.iter().any(|check| check.mark == Mark::Fail));
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
    // On a busy host the process may get less than the limit by itself, which tells nothing.
    assert!(failed == ["cpu-limit", "cpu-throttles"] || failed == ["cpu-limit"], "{failed:?}");
}

#[test]
fn a_runtime_that_forgets_the_pids_limit_is_found() {
    let Some(failed) = failed_by(&edits(r#"s/"pids":{"limit":99}/"pids":{"limit":-1}/"#), "") else { return };
    assert_eq!(failed, ["pids-limit"]);
}

#[test]
fn a_limit_that_is_a_page_less_or_much_more_is_found() {
    for limit in [(128 << 20) - 4096_u64, 4 << 30] {
        let edit = edits(&format!(r#"s/"limit":134217728/"limit":{limit}/"#));
        let Some(failed) = failed_by(&edit, "") else { return };
        assert!(failed.contains(&"memory-limit"), "{limit}: {failed:?}");
    }
}

#[test]
fn a_limit_that_is_relaxed_after_start_is_found() {
    let relax = r#"file="$cgroup/memory.max"; [ -e "$file" ] || file="$cgroup/memory.limit_in_bytes"
        [ "$verb" != start ] || { echo -1 >"$cgroup/memory.memsw.limit_in_bytes"; echo 1073741824 >"$file"; } 2>/dev/null"#;
    let Some(failed) = failed_by("", relax) else { return };
    assert!(failed.contains(&"percentages"), "{failed:?}");
}

#[test]
fn a_runtime_that_leaves_a_helpers_cgroup_is_found() {
    let leave = r#"[[ "$verb" != delete || "$id" != *-swap ]] || mkdir "$cgroup-left""#;
    let Some(failed) = failed_by("", leave) else { return };
    assert_eq!(failed, ["nothing-left"]);
    let left = format!("rt-verify-{}-*-swap-left", std::process::id());
    let removed = Command::new("find")
        .args(["/sys/fs/cgroup", "-depth", "-type", "d", "-name", &left, "-exec", "rmdir", "{}", ";"])
        .status();
    assert!(removed.unwrap().success());
}

#[test]
fn a_pid_that_is_not_the_containers_is_named() {
    let other = r#"[ "$verb" != state ] || { runc=1; exec sed "s/\"pid\": [0-9]*/\"pid\": $PPID/" <("$RUNC" "$@"); }"#;
    let other = other.replace("$RUNC", &runc().map(|path| path.display().to_string()).unwrap_or_default());
    let Some(failed) = failed_by(&other, "") else { return };
    assert_eq!(failed.first(), Some(&"create"), "{failed:?}");
}

#[test]
fn a_create_that_did_nothing_is_named() {
    let Some(failed) = failed_by(r#"[ "$verb" != create ] || exit 0"#, "") else { return };
    assert_eq!(failed.first(), Some(&"create"), "{failed:?}");
}

#[test]
fn a_runtime_that_ignores_the_swap_limit_is_found() {
    let Some(failed) = failed_by(&edits(r#"s/"swap":134217728/"swap":-1/"#), "") else { return };
    if failed.is_empty() && !Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists() {
        return needs("swap accounting");
    }
    assert_eq!(failed, ["swap-limit"]);
}

#[test]
fn a_runtime_that_applies_the_limit_only_after_start_is_found() {
    let drop = edits(r#"s/"limit":134217728/"limit":-1/"#);
    let apply = r#"[ "$verb" != start ] || echo 134217728 > "$cgroup/memory.limit_in_bytes""#;
    let Some(failed) = failed_by(&drop, apply) else { return };
    for name in ["memory-limit", "above"] {
        assert!(failed.contains(&name), "{name} in {failed:?}");
    }
    assert!(!failed.contains(&"tracking"), "after start it holds: {failed:?}");
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

/// `rt verify` with these arguments: its exit code and what it printed.
fn verify(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rt")).arg("verify").args(args).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), text)
}

#[test]
fn every_format_names_the_check_that_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("wrapper");
    fs::write(&wrapper, "#!/bin/sh\necho broken >&2; exit 1\n").unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    for (format, named) in [
        ("text", "✗ create: wrapper create failed"),
        ("json", r#""name":"create","mark":"fail""#),
        ("junit", r#"name="create" time="#),
        ("html", r#"<li class="bad"><b>✗</b><code>create</code>"#),
    ] {
        let (code, text) = verify(&["--runtime", &wrapper.to_string_lossy(), "--format", format]);
        assert_eq!(code, Some(1), "{format}: {text}");
        assert!(text.contains(named) && text.contains("broken"), "{format}: {text}");
    }
}

#[test]
fn what_cannot_be_judged_is_wrong_usage() {
    for (args, why) in [
        (["--runtime", "no-such-runtime"], "bad --runtime"),
        (["--runtime", "/etc/passwd"], "bad --runtime"),
        (["--format", "yaml"], "yaml"),
    ] {
        let (code, text) = verify(&args);
        assert!(matches!(code, Some(1..=3)), "{args:?}: {code:?}");
        assert!(text.contains(why), "{args:?}: {text}");
    }
}

#[test]
fn what_a_killed_checklist_left_is_taken_away_by_the_next() {
    if runc().is_none() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rt"));
        command.arg("verify").env("TMPDIR", temp.path()).stdout(Stdio::null());
        command
    };
    let left = || fs::read_dir(temp.path()).unwrap().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let container =
        || left().iter().any(|dir| dir.join("root").read_dir().is_ok_and(|mut d| d.next().is_some()));
    let mut killed = command().spawn().unwrap();
    let began = Instant::now();
    while !container() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(left().len(), 1, "the killed one left its folder");
    assert!(command().status().unwrap().success());
    assert!(left().is_empty(), "{:?}", left());
}
