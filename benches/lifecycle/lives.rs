//! The life of a container, timed: create, start, the end of `true`, delete.

use std::fs;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::document::median;
use crate::rounds::shuffled;
use crate::runtimes::Runtime;
use crate::setting::{self, Bundle, Setting};
use crate::table::{Mark, Row};

/// Milliseconds of one life; `whole` includes waiting for the process.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    pub create: f64,
    pub start: f64,
    pub delete: f64,
    pub whole: f64,
}

pub fn rows(setting: &Setting, runtimes: &[Runtime], rounds: usize) -> Vec<Row> {
    let cases = [
        ("plain", &setting.bundles.plain, false),
        ("seccomp and limits, filters kept", &setting.bundles.full, false),
        ("seccomp and limits, filters forgotten", &setting.bundles.full, true),
    ];
    let mut rows = Vec::new();
    for (name, bundle, cold) in cases {
        let lives = shuffled(rounds, runtimes.len(), |index| {
            if cold {
                setting.forget_filters(&runtimes[index]);
            }
            let life = live(setting, bundle, &runtimes[index], &setting.id(&runtimes[index], "life"));
            setting::reap();
            life.unwrap_or_else(|e| panic!("{e}"))
        });
        let of = |part: fn(&Life) -> f64| -> Vec<f64> {
            lives.iter().map(|all| median(&all.iter().map(part).collect::<Vec<_>>())).collect()
        };
        let whole = Row::new(format!("create, start, delete: {name}"), "ms", of(|l| l.whole));
        rows.push(whole.mark(Mark::RatioAtMost(0.60)));
        rows.push(Row::new("– of it create", "ms", of(|l| l.create)));
        rows.push(Row::new("– start", "ms", of(|l| l.start)));
        rows.push(Row::new("– delete", "ms", of(|l| l.delete)));
    }
    rows
}

/// One life. An error names the step that failed; the container is deleted then too.
pub fn live(setting: &Setting, bundle: &Bundle, runtime: &Runtime, id: &str) -> Result<Life, String> {
    let pid_file = setting.file(&format!("pid-{id}"));
    let (path, pid_text) = (bundle.path.display().to_string(), pid_file.display().to_string());
    let step = |args: &[&str]| setting.step(runtime, args).map(|took| took.as_secs_f64() * 1000.0);
    let begin = Instant::now();
    let mut pid = None;
    let lived = (|| {
        let create = step(&["create", "--bundle", &path, "--pid-file", &pid_text, id])?;
        let init = read_pid(&pid_file)?;
        pid = Some(init);
        let start = step(&["start", id])?;
        match waitpid(init, None) {
            Ok(WaitStatus::Exited(_, 0)) => pid = None,
            other => return Err(format!("{}: the process ended as {other:?}", runtime.label)),
        }
        let delete = step(&["delete", id])?;
        Ok(Life { create, start, delete, whole: begin.elapsed().as_secs_f64() * 1000.0 })
    })();
    if lived.is_err() {
        let _ = step(&["delete", "--force", id]);
        // Not waited for yet, so the number is still that process's.
        if let Some(init) = pid {
            let _ = kill(init, Signal::SIGKILL);
            let _ = waitpid(init, None);
        }
    }
    let _ = fs::remove_file(&pid_file);
    lived
}

/// The container's process, from what create wrote.
pub fn read_pid(file: &std::path::Path) -> Result<Pid, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("no pid file: {e}"))?;
    text.trim().parse().map(Pid::from_raw).map_err(|_| format!("'{text}' is no pid"))
}
