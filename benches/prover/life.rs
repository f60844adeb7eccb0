//! Where the time of `test-memory` and `stress-memory` goes, by what shorter runs of the same commands take.

use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::cgroup::TestCgroup;
use crate::document::median;

const ROUNDS: usize = 25;

/// Each does what the one before does, and more.
const STEPS: [(&str, &[&str]); 5] = [
    ("start of the program", &["--version"]),
    ("looking at the cgroup and the host, the plan", &["test-memory", "--dry-run"]),
    ("the worker's start, entry and end, records, the verdict", &["test-memory", "1"]),
    ("59 MiB more: filling, and giving back", &["test-memory", "60"]),
    ("the last MiBs page by page, reclaim, the OOM kill", &["test-memory"]),
];

fn rt(words: &[&str], init: Pid) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rt"));
    command.args(words).stdout(Stdio::null());
    if words[0] == "test-memory" {
        command.args(["--strategy", "sequential", "--pid", &init.to_string()]);
    }
    command
}

/// Milliseconds of the whole command in a fresh cgroup of 64 MiB.
fn took(words: &[&str]) -> f64 {
    let mut cgroup = TestCgroup::limited(64).unwrap();
    let mut command = rt(words, cgroup.sleeper());
    let began = Instant::now();
    assert!(command.status().unwrap().success(), "{words:?}");
    began.elapsed().as_secs_f64() * 1000.0
}

/// System calls of the command and of its worker.
fn calls() -> Option<[usize; 2]> {
    let mut cgroup = TestCgroup::limited(64).unwrap();
    let plain = rt(&["test-memory"], cgroup.sleeper());
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o"]).arg(trace.path()).arg(plain.get_program()).args(plain.get_args());
    strace.stdout(Stdio::null()).status().ok().filter(|status| status.success())?;
    let text = fs::read_to_string(trace.path()).unwrap();
    let own = text.split_whitespace().next()?;
    // The other half of a call that was interrupted is not another one.
    let called = text.lines().filter(|line| line.contains('(') && !line.contains(" resumed>"));
    let (ours, workers): (Vec<_>, Vec<_>) =
        called.partition(|line| line.split_whitespace().next() == Some(own));
    Some([ours.len(), workers.len()])
}

/// Of a stress of four workers: milliseconds until all are there, and the supervisor's share of a CPU in percent.
fn stress() -> [f64; 2] {
    let mut cgroup = TestCgroup::limited(256).unwrap();
    let init = cgroup.sleeper();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rt"));
    command.args(["stress-memory", "200", "2", "--file-dir", "/dev/shm", "--pid", &init.to_string()]);
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    while cgroup.processes().len() < 5 {
        assert!(began.elapsed().as_secs() < 5, "the workers did not come");
    }
    let there = began.elapsed().as_secs_f64() * 1000.0;
    let on_cpu = || {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap();
        Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
    };
    let (before, from) = (on_cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let share = (on_cpu() - before).as_secs_f64() / from.elapsed().as_secs_f64();
    assert!(child.wait().unwrap().success());
    [there, share * 100.0]
}

pub fn table() -> String {
    let mut times = STEPS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, words), times) in STEPS.iter().zip(&mut times) {
            times.push(took(words));
        }
    }
    let medians = times.map(|times| median(&times));
    let mut text = String::from(
        "Where the time of `rt test-memory --strategy sequential` goes, limit of 64 MiB: what each step adds, by medians of commands \
         that end after it.\n\n| step | ms |\n|---|---:|\n",
    );
    let mut before = 0.0;
    for ((step, _), until) in STEPS.iter().zip(medians) {
        writeln!(text, "| {step} | {:.1} |", until - before).unwrap();
        before = until;
    }
    writeln!(text, "| all | {before:.1} |\n").unwrap();
    if let Some([ours, workers]) = calls() {
        writeln!(text, "It makes {ours} system calls, its worker {workers}.").unwrap();
    }
    let stresses: Vec<_> = (0..5).map(|_| stress()).collect();
    let of = |index: usize| median(&stresses.iter().map(|measured| measured[index]).collect::<Vec<_>>());
    writeln!(
        text,
        "`rt stress-memory` has its four workers in the cgroup after {:.0} ms; from then on all time is theirs but for {:.2} % of a \
         CPU, which looking at them takes.",
        of(0),
        of(1)
    )
    .unwrap();
    text
}
