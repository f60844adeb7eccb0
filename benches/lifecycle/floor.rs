//! What no runtime can be below on this machine: a process, and one with a container's namespaces and /proc.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use rt::sys::clone::{CloneOptions, clone_process};

use crate::document::median;
use crate::runtimes::Runtime;
use crate::setting::Setting;
use crate::table::Row;

pub fn rows(setting: &Setting, runtimes: &[Runtime], rounds: usize) -> Vec<Row> {
    let rootfs = &setting.bundles.rootfs;
    let busybox = rootfs.join("bin/busybox");
    let (mut process, mut isolated) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        let status = Command::new(&busybox).arg("true").stdin(Stdio::null()).status();
        process.push(begin.elapsed().as_secs_f64() * 1000.0);
        assert!(status.is_ok_and(|s| s.success()), "busybox runs");
        let begin = Instant::now();
        let child = clone_process(
            CloneOptions { namespaces: CloneFlags::CLONE_NEWPID, ..CloneOptions::default() },
            |_| {
                isolate(&rootfs.join("proc")).map_or(100, |()| {
                    let _ = Command::new(&busybox).arg("true").exec();
                    101
                })
            },
        );
        let ended = waitpid(child.expect("a process"), None);
        isolated.push(begin.elapsed().as_secs_f64() * 1000.0);
        assert!(matches!(ended, Ok(WaitStatus::Exited(_, 0))), "the floor: {ended:?}");
    }
    let row = |what, times: &[f64]| {
        let of = |n| (n == 0).then(|| median(times));
        Row::of_some(what, "ms", (0..runtimes.len()).map(of).collect())
    };
    vec![
        row("floor: a static `true`, started and waited for", &process),
        row("floor: the same in new namespaces with /proc", &isolated),
    ]
}

/// The namespaces of the plain bundle; the child is the first of its pid namespace already.
fn isolate(proc: &Path) -> nix::Result<()> {
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("proc"), proc, Some("proc"), MsFlags::empty(), None::<&str>)
}
