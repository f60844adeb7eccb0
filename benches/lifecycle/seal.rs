//! What the protection of rt's binary costs: a create that ends right after it, beside a command that goes without.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::runtimes::Runtime;
use crate::setting::Setting;

/// The difference of the medians; both commands fail, for want of a config.json and of a container.
pub fn cost(setting: &Setting, rt: &Runtime, rounds: usize) -> Duration {
    let empty = setting.file("empty");
    std::fs::create_dir_all(&empty).expect("an empty folder");
    let empty = empty.display().to_string();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        with.push(time(setting.command(rt, &["create", "--bundle", &empty, "rt-bench-seal"])));
        without.push(time(setting.command(rt, &["start", "rt-bench-seal"])));
    }
    median(with).saturating_sub(median(without))
}

fn time(mut command: Command) -> Duration {
    let begin = Instant::now();
    let status = command.stderr(Stdio::null()).status().expect("rt runs");
    let took = begin.elapsed();
    assert!(!status.success(), "there is neither a bundle nor a container");
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
