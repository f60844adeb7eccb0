//! The life of a container, timed: create, start, the end of `true`, delete.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::setting::{Bundle, Runtime, Setting};

/// Times of one life; `whole` includes waiting for the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Life {
    pub create: Duration,
    pub start: Duration,
    pub delete: Duration,
    pub whole: Duration,
}

/// The medians of each runtime over `rounds` rounds; in each round the order is shuffled.
pub fn measure(setting: &Setting, bundle: &Bundle, runtimes: &[Runtime], rounds: usize) -> Vec<Life> {
    // The container's process becomes our child, and its end is seen without polling.
    set_child_subreaper(true).expect("to be a subreaper");
    let mut lives = vec![Vec::new(); runtimes.len()];
    let mut order: Vec<usize> = (0..runtimes.len()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..=rounds {
        random.shuffle(&mut order);
        for &index in &order {
            let life = live(setting, bundle, &runtimes[index])
                .unwrap_or_else(|e| panic!("{}: {e}", runtimes[index].name));
            // The first round warms the caches.
            if round > 0 {
                lives[index].push(life);
            }
        }
    }
    lives.iter().map(|all| median(all)).collect()
}

/// One life. An error names the step that failed; the container is deleted then too.
pub fn live(setting: &Setting, bundle: &Bundle, runtime: &Runtime) -> Result<Life, String> {
    let id = format!("rt-bench-{}", std::process::id());
    let pid_file = setting.file("pid");
    let (path, pid_text) = (bundle.path.display().to_string(), pid_file.display().to_string());
    let step = |args: &[&str]| {
        let begin = Instant::now();
        // Its words would fill the screen in the search for the smallest limit.
        let status =
            setting.command(runtime, args).stderr(std::process::Stdio::null()).status().expect("a runtime");
        if status.success() { Ok(begin.elapsed()) } else { Err(format!("{} failed: {status}", args[0])) }
    };
    let begin = Instant::now();
    let lived = (|| {
        let create = step(&["create", "--bundle", &path, "--pid-file", &pid_text, &id])?;
        let pid =
            fs::read_to_string(&pid_file).ok().and_then(|t| t.trim().parse().ok()).ok_or("no pid file")?;
        let start = step(&["start", &id])?;
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, 0)) => {}
            other => return Err(format!("the process ended as {other:?}")),
        }
        let delete = step(&["delete", &id])?;
        Ok(Life { create, start, delete, whole: begin.elapsed() })
    })();
    if lived.is_err() {
        let _ = step(&["delete", "--force", &id]);
    }
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
    {}
    lived
}

fn median(lives: &[Life]) -> Life {
    let of = |part: fn(&Life) -> Duration| {
        let mut all: Vec<Duration> = lives.iter().map(part).collect();
        all.sort();
        all[all.len() / 2]
    };
    Life {
        create: of(|l| l.create),
        start: of(|l| l.start),
        delete: of(|l| l.delete),
        whole: of(|l| l.whole),
    }
}

/// xorshift: the same order in every run, so that runs can be compared.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn shuffle(&mut self, list: &mut [usize]) {
        for last in (1..list.len()).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).unwrap();
            list.swap(last, other);
        }
    }
}
