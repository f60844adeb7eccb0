//! What memory a runtime itself needs: the peak of each command, and the smallest limit in which a container starts.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::waitpid;

use crate::document::median;
use crate::lives;
use crate::rounds::shuffled;
use crate::runtimes::Runtime;
use crate::setting::{self, Bundle, Setting};
use crate::table::{Mark, Row};

/// The hidden first argument: run what follows, print the highest resident set of it in KiB.
pub const PEAK_OF: &str = "--peak-of";

const ROUNDS: usize = 7;
const STEP: u64 = 64 << 10;
const HIGHEST: u64 = 32 << 20;
/// A limit counts only if it holds for so many lives in a row,
const LIVES: usize = 5;
/// at one of these tries: a life that fails for another reason sends the search far up.
const TRIES: usize = 2;

/// In the order in which a container can have them; ID stands for its name.
const COMMANDS: [&[&str]; 10] = [
    &["start", "ID"],
    &["state", "ID"],
    &["list"],
    &["ps", "--format", "json", "ID"],
    &["exec", "ID", "true"],
    &["pause", "ID"],
    &["resume", "ID"],
    &["update", "--memory", "67108864", "ID"],
    &["kill", "ID", "KILL"],
    &["delete", "ID"],
];

/// For `--peak-of`. The kernel counts for a command what the process was before it, too: a fork has little of
/// this one's memory resident, a vfork, which the standard library prefers where it may, all of it.
pub fn print_peak_of(command: &[String]) {
    let mut process = Command::new(&command[0]);
    // To be told a user is what makes it fork. The container keeps what it inherits, so that must not be the pipe that is read.
    process.args(&command[1..]).uid(0).stdout(Stdio::null());
    assert!(process.status().is_ok_and(|s| s.success()), "{command:?} failed");
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss());
}

/// The median of each command, in MiB.
pub fn peaks(setting: &Setting, runtimes: &[Runtime]) -> Vec<Row> {
    let bundles = &setting.bundles;
    let plain =
        shuffled(ROUNDS, runtimes.len(), |i| peaks_of_life(setting, &bundles.plain_sleeping, &runtimes[i]));
    let full =
        shuffled(ROUNDS, runtimes.len(), |i| peaks_of_life(setting, &bundles.full_sleeping, &runtimes[i]));
    let row = |name: &str, at: usize, lives: &[Vec<Vec<f64>>]| {
        let of = |all: &Vec<Vec<f64>>| median(&all.iter().map(|life| life[at]).collect::<Vec<_>>());
        Row::new(format!("peak memory of {name}"), "MiB", lives.iter().map(of).collect())
            .mark(Mark::RatioAtMost(1.00))
    };
    let mut rows = vec![row("create, plain", 0, &plain), row("create, seccomp and limits", 0, &full)];
    rows.extend(COMMANDS.iter().enumerate().map(|(n, command)| row(command[0], n + 1, &full)));
    rows
}

/// Create, then all of [`COMMANDS`].
fn peaks_of_life(setting: &Setting, bundle: &Bundle, runtime: &Runtime) -> Vec<f64> {
    let id = setting.id(runtime, "peak");
    let pid_file = setting.file("pid-peak");
    let (path, pid_text) = (bundle.path.display().to_string(), pid_file.display().to_string());
    let mut all = vec![peak(setting, runtime, &["create", "--bundle", &path, "--pid-file", &pid_text, &id])];
    for command in COMMANDS {
        let args: Vec<&str> = command.iter().map(|arg| if *arg == "ID" { &id } else { *arg }).collect();
        all.push(peak(setting, runtime, &args));
        if command[0] == "kill" {
            let _ = waitpid(lives::read_pid(&pid_file).expect("a pid"), None);
        }
    }
    setting::reap();
    all
}

fn peak(setting: &Setting, runtime: &Runtime, args: &[&str]) -> f64 {
    let command = setting.command(runtime, args);
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.arg(PEAK_OF).arg(command.get_program()).args(command.get_args());
    let output = helper.stdin(Stdio::null()).stderr(Stdio::null()).output().expect("the helper");
    let text = String::from_utf8_lossy(&output.stdout);
    let kibibytes: f64 =
        text.trim().parse().unwrap_or_else(|_| panic!("{} {}", runtime.label, args.join(" ")));
    kibibytes / 1024.0
}

/// The smallest memory limit in which `true` runs to its end, in KiB, to a step of 64.
pub fn smallest_limits(setting: &Setting, runtimes: &[Runtime]) -> Vec<Row> {
    let smallest = runtimes.iter().map(|r| smallest_limit(setting, r) as f64 / 1024.0).collect();
    vec![Row::new("smallest memory limit that starts", "KiB", smallest).mark(Mark::RatioAtMost(1.00))]
}

fn smallest_limit(setting: &Setting, runtime: &Runtime) -> u64 {
    let bundle = &setting.bundles.plain;
    let lives = || {
        let lived = lives::live(setting, bundle, runtime, &setting.id(runtime, "small"));
        setting::reap();
        lived.is_ok()
    };
    let runs = |limit| {
        bundle.set_memory_limit(Some(limit));
        (0..TRIES).any(|_| (0..LIVES).all(|_| lives()))
    };
    let (mut low, mut high) = (0, HIGHEST);
    while high - low > STEP {
        let middle = low.midpoint(high) / STEP * STEP;
        if runs(middle) { high = middle } else { low = middle }
    }
    bundle.set_memory_limit(None);
    high
}
