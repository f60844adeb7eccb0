//! What one sample, one proof and one verdict cost.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rt::cgroup::Meter;
use rt::proof::Verdict;

use crate::cgroup::{TestCgroup, proved};
use crate::document::median;

const SAMPLES: usize = 10_000;
const ROUNDS: usize = 25;

/// Usage and OOM counter on kept descriptors, in microseconds.
fn sample() -> f64 {
    let mut cgroup = TestCgroup::limited(64).unwrap();
    cgroup.sleeper();
    let meter = Meter::open(&cgroup.cgroup()).unwrap();
    let times: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box((meter.usage().unwrap(), meter.oom_kill().unwrap()));
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    median(&times)
}

/// The whole command, for a limit of 64 MiB.
fn command() -> Duration {
    let mut cgroup = TestCgroup::limited(64).unwrap();
    let init = cgroup.sleeper();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rt"));
    command
        .args(["test-memory", "--strategy", "sequential", "--pid", &init.to_string()])
        .stdout(Stdio::null());
    let began = Instant::now();
    assert!(command.status().unwrap().success());
    began.elapsed()
}

/// From the worker's exit to the verdict.
fn verdict() -> Duration {
    let mut cgroup = TestCgroup::limited(64).unwrap();
    let init = cgroup.sleeper();
    let outcome = proved(&cgroup.request(init));
    assert_eq!(outcome.decision.verdict, Verdict::Enforced, "{:?}", outcome.decision);
    outcome.decided_within.unwrap()
}

pub fn table() -> String {
    let commands: Vec<f64> = (0..ROUNDS).map(|_| command().as_secs_f64() * 1000.0).collect();
    let verdicts: Vec<f64> = (0..ROUNDS).map(|_| verdict().as_secs_f64() * 1000.0).collect();
    format!(
        "| what | median | mark |\n|---|---:|---:|\n\
         | a sample of usage and OOM counter | {:.2} µs | 2 µs |\n\
         | `rt test-memory --strategy sequential`, limit of 64 MiB, the whole command | {:.0} ms | 80 ms |\n\
         | from the worker's exit to the verdict | {:.2} ms | 1 ms |\n",
        sample(),
        median(&commands),
        median(&verdicts)
    )
}
