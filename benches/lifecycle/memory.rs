//! What memory a runtime itself needs: the peak of create, and the smallest limit in which a container starts.

use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

use crate::lives;
use crate::setting::{Runtime, Setting};

/// The hidden first argument: run what follows, print the highest resident set of it in KiB.
pub const PEAK_OF: &str = "--peak-of";

const STEP: u64 = 64 << 10;
const HIGHEST: u64 = 32 << 20;
/// A limit counts only if it holds for so many lives in a row.
const TRIES: usize = 5;

/// For `--peak-of`: the resident set of a child is counted from its fork, so this process must stay small.
pub fn print_peak_of(command: &[String]) {
    let status =
        Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|s| s.success()), "{command:?} failed");
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss());
}

/// KiB, the median of seven creates of the plain bundle.
pub fn peak_of_create(setting: &Setting, runtime: &Runtime) -> i64 {
    let id = format!("rt-bench-{}", std::process::id());
    let bundle = setting.bundles()[0].path.display().to_string();
    let mut peaks: Vec<i64> = (0..7)
        .map(|_| {
            let create = setting.command(runtime, &["create", "--bundle", &bundle, &id]);
            let mut helper = Command::new(std::env::current_exe().unwrap());
            helper.arg(PEAK_OF).arg(create.get_program()).args(create.get_args());
            // The container keeps what it inherits, so its output must not be the pipe that is read here.
            let output = helper.stdin(Stdio::null()).stderr(Stdio::null()).output().expect("the helper");
            let _ = setting.command(runtime, &["delete", "--force", &id]).status();
            String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of KiB")
        })
        .collect();
    peaks.sort_unstable();
    peaks[peaks.len() / 2]
}

/// Bytes of the smallest memory limit in which `true` runs to its end, to a step of 64 KiB.
pub fn smallest_limit(setting: &Setting, runtime: &Runtime) -> u64 {
    let bundle = &setting.bundles()[0];
    let runs = |limit| {
        bundle.set_memory_limit(Some(limit));
        (0..TRIES).all(|_| lives::live(setting, bundle, runtime).is_ok())
    };
    let (mut low, mut high) = (0, HIGHEST);
    while high - low > STEP {
        let middle = low.midpoint(high) / STEP * STEP;
        if runs(middle) { high = middle } else { low = middle }
    }
    bundle.set_memory_limit(None);
    high
}
