//! How fast memory is filled up to a limit of 1 GiB: a proof, the fastest plain loop, and stress-ng.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use rt::cgroup::Meter;
use rt::proof::{Strategy, Verdict};
use rt::sys::memory::Region;

use crate::cgroup::{MIB, TestCgroup, proved};
use crate::document::median;

pub const PLAIN_LOOP: &str = "--plain-loop";
const PRIVATE: &str = "private";
const SHARED: &str = "shared";
const LIMIT_MIB: u64 = 1024;
const ROUNDS: usize = 7;

/// Writes almost the limit in steps of 1 MiB, and prints the bytes a second. A process of its own in the cgroup `dir`,
/// on `kind` of memory: private or shared.
pub fn plain_loop(dir: &str, kind: &str) {
    std::fs::write(format!("{dir}/cgroup.procs"), std::process::id().to_string()).unwrap();
    prctl::set_thp_disable(true).unwrap();
    let (step, bytes) = (1 << 20, usize::try_from((LIMIT_MIB - 16) * MIB).unwrap());
    let mut region = if kind == SHARED { Region::shared(bytes) } else { Region::new(bytes) }.unwrap();
    let began = Instant::now();
    for start in (0..bytes).step_by(step) {
        region.populate(start, start + step).unwrap();
        region.bytes()[start..start + step].fill(0xa5);
    }
    println!("{}", bytes as f64 / began.elapsed().as_secs_f64());
}

fn plain(kind: &str) -> f64 {
    let cgroup = TestCgroup::limited(LIMIT_MIB).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(PLAIN_LOOP)
        .arg(&cgroup.dir)
        .arg(kind)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Bytes a second of a proof, by its last sample before the kill.
fn proof(strategy: Strategy) -> f64 {
    let mut cgroup = TestCgroup::limited(LIMIT_MIB).unwrap();
    let init = cgroup.sleeper();
    let mut request = cgroup.request(init);
    request.strategy = strategy;
    request.file_dir = Some("/dev/shm".into());
    let outcome = proved(&request);
    assert_eq!(outcome.decision.verdict, Verdict::Enforced, "{:?}", outcome.decision);
    let end = outcome.record.touched_bytes;
    let last = outcome.record.samples.iter().rev().find(|sample| sample.touched_bytes < end).unwrap();
    last.touched_bytes as f64 / Duration::from_micros(last.at_us).as_secs_f64()
}

/// Time until the kernel counts an OOM kill in a fresh cgroup in which `start` starts a process.
fn until_killed(start: impl FnOnce(&TestCgroup) -> std::process::Child) -> Duration {
    let mut cgroup = TestCgroup::limited(LIMIT_MIB).unwrap();
    cgroup.sleeper();
    let meter = Meter::open(&cgroup.cgroup()).unwrap();
    let began = Instant::now();
    let mut child = start(&cgroup);
    while meter.oom_kill().unwrap() == 0 {
        assert!(began.elapsed().as_secs() < 60, "nobody was killed");
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = began.elapsed();
    let _ = child.kill();
    child.wait().unwrap();
    took
}

fn rt(cgroup: &TestCgroup) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_rt"))
        .args(["test-memory", "--strategy", "sequential", "--cgroup"])
        .arg(&cgroup.dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// stress-ng with these options beside; with `--vm-populate` one call has the kernel zero all pages, and nothing is
/// written before the limit.
fn stress_ng(cgroup: &TestCgroup, options: &str) -> std::process::Child {
    let script = format!(
        "echo $$ > '{}/cgroup.procs'; exec stress-ng --vm 1 --vm-bytes {}M --vm-method write64 {options} --oomable --no-madvise --timeout 50",
        cgroup.dir.display(),
        LIMIT_MIB + 128
    );
    Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub fn table() -> String {
    let (mut plains, mut shared) = (Vec::new(), Vec::new());
    let mut proofs = vec![Vec::new(); Strategy::ALL.len()];
    let (mut ours, mut theirs, mut populated) = (Vec::new(), Vec::new(), Vec::new());
    let has_stress_ng = Command::new("stress-ng").arg("--version").stdout(Stdio::null()).status().is_ok();
    for _ in 0..ROUNDS {
        plains.push(plain(PRIVATE));
        shared.push(plain(SHARED));
        for (rates, strategy) in proofs.iter_mut().zip(Strategy::ALL) {
            rates.push(proof(strategy));
        }
        ours.push(until_killed(rt).as_secs_f64());
        if has_stress_ng {
            theirs.push(until_killed(|cgroup| stress_ng(cgroup, "")).as_secs_f64());
            populated.push(until_killed(|cgroup| stress_ng(cgroup, "--vm-populate")).as_secs_f64());
        }
    }
    let (plain, shared) = (median(&plains), median(&shared));
    let mut text = format!(
        "Fill rate up to a limit of 1 GiB, {ROUNDS} rounds in turn; the plain loop populates and writes 1 MiB at a time.\n\n\
         | who | GiB/s | of the plain loop on such memory |\n|---|---:|---:|\n| plain loop, private | {:.2} | 1.00 |\n\
         | plain loop, shared | {:.2} | 1.00 |\n",
        plain / (1024 * MIB) as f64,
        shared / (1024 * MIB) as f64
    );
    for (rates, strategy) in proofs.iter().zip(&Strategy::ALL) {
        let rate = median(rates);
        let reference = if *strategy == Strategy::Shm { shared } else { plain };
        writeln!(text, "| {strategy} | {:.2} | {:.2} |", rate / (1024 * MIB) as f64, rate / reference)
            .unwrap();
    }
    let ours = median(&ours);
    write!(
        text,
        "\nFrom the start of the command to the kernel's OOM kill at 1 GiB: rt {:.0} ms",
        ours * 1000.0
    )
    .unwrap();
    if has_stress_ng {
        let (theirs, populated) = (median(&theirs), median(&populated));
        write!(
            text,
            ", stress-ng {:.0} ms (rt: {:.2} of it), stress-ng with --vm-populate, which has the kernel zero all pages in one \
             call and writes nothing before the limit, {:.0} ms ({:.2})",
            theirs * 1000.0,
            ours / theirs,
            populated * 1000.0,
            ours / populated
        )
        .unwrap();
    }
    text + ".\n"
}
