//! How fast memory is filled up to a limit of 1 GiB: a proof, the fastest loop in C, and stress-ng.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rt::cgroup::Meter;
use rt::proof::{Strategy, Verdict};

use crate::cgroup::{MIB, TestCgroup, proved};
use crate::document::median;

const LIMIT_MIB: u64 = 1024;
const ROUNDS: usize = 9;
/// Of the rate of the fastest loop.
const MARK: f64 = 0.95;

/// The loops of fill.c, built for this processor.
struct Loops {
    folder: tempfile::TempDir,
}

impl Loops {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/prover/fill.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O3", "-march=native", "-o"]).arg(folder.path().join("fill")).arg(source);
        assert!(compiler.status().unwrap().success());
        Self { folder }
    }

    /// Bytes a second of the loop that does the work of `strategy`, almost up to the limit.
    fn rate(&self, strategy: Strategy) -> f64 {
        let cgroup = TestCgroup::limited(LIMIT_MIB).unwrap();
        let door =
            ["tasks", "cgroup.procs"].map(|name| cgroup.dir.join(name)).into_iter().find(|f| f.exists());
        let output = Command::new(self.folder.path().join("fill"))
            .arg(door.unwrap())
            .arg(strategy.name())
            .arg(((LIMIT_MIB - 16) * MIB).to_string())
            .output()
            .unwrap();
        let rate = String::from_utf8(output.stdout).unwrap().trim().parse();
        rate.unwrap_or_else(|_| panic!("{strategy}: {}", String::from_utf8_lossy(&output.stderr)))
    }
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
    let loops = Loops::build();
    let mut proofs = vec![Vec::new(); Strategy::ALL.len()];
    let mut plain = proofs.clone();
    let (mut ours, mut theirs, mut populated) = (Vec::new(), Vec::new(), Vec::new());
    let has_stress_ng = Command::new("stress-ng").arg("--version").stdout(Stdio::null()).status().is_ok();
    for round in 0..ROUNDS {
        for (index, strategy) in Strategy::ALL.into_iter().enumerate() {
            // Now one goes first, now the other.
            for turn in [round, round + 1] {
                match turn % 2 {
                    0 => proofs[index].push(proof(strategy)),
                    _ => plain[index].push(loops.rate(strategy)),
                }
            }
        }
        ours.push(until_killed(rt).as_secs_f64());
        if has_stress_ng {
            theirs.push(until_killed(|cgroup| stress_ng(cgroup, "")).as_secs_f64());
            populated.push(until_killed(|cgroup| stress_ng(cgroup, "--vm-populate")).as_secs_f64());
        }
    }
    let mut text = format!(
        "Fill rate up to a limit of 1 GiB, GiB/s, {ROUNDS} rounds in turn; ✓ from {MARK} of the loop on. The loops are those of \
         benches/prover/fill.c, the fastest known that do the same work with the same kind of memory: 256 KiB made present in \
         one call, then written from the cache, by instructions of this very processor. That of `pattern` reads half back \
         half way, that of `fork` has 32 processes.\n\n| strategy | a proof | the loop in C | ratio |\n|---|---:|---:|---:|\n"
    );
    for ((proofs, plain), strategy) in proofs.iter().zip(&plain).zip(Strategy::ALL) {
        let [rate, loops] = [proofs, plain].map(|rates| median(rates) / (1024 * MIB) as f64);
        let ratio = rate / loops;
        let met = if ratio >= MARK { "✓" } else { "✗" };
        writeln!(text, "| {strategy} | {rate:.2} | {loops:.2} | {ratio:.2} {met} |").unwrap();
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
