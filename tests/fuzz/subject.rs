//! A runtime that is given a mutant: what it answers, whether it ends, and what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base;
use crate::common::{Bundle, Outcome, Run, Sandbox};

/// A command that runs longer hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Faults that no input may bring out, each with its count in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Weaker,
    Left,
    Panic,
    Hang,
    Mute,
}

pub const FAULTS: [Fault; 5] = [Fault::Weaker, Fault::Left, Fault::Panic, Fault::Hang, Fault::Mute];

/// One runtime in a sandbox, with one name that is used again and again.
pub struct Subject {
    pub binary: PathBuf,
    pub root: PathBuf,
    pub id: String,
    pub folder: PathBuf,
}

impl Subject {
    pub fn new(sandbox: &Sandbox, binary: &Path, name: &str) -> Self {
        let folder = sandbox.path(name);
        fs::create_dir_all(&folder).expect("a folder");
        Self { binary: binary.to_owned(), root: folder.join("root"), id: sandbox.id(name), folder }
    }

    /// Runs a command to its end. None: it hangs, and is killed.
    pub fn call<S: AsRef<std::ffi::OsStr>>(&self, sandbox: &Sandbox, args: &[S]) -> Option<Outcome> {
        let (key, value) = sandbox.mark().split_once('=').expect("a mark");
        let run = Run::new(&self.binary).arg("--root").arg(&self.root).args(args);
        let mut running = run.env(key, value).cwd(&self.folder).spawn();
        let start = Instant::now();
        while running.is_running() {
            if start.elapsed() > LIMIT {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(running.wait(LIMIT))
    }

    /// `delete --force`, and what is there afterwards.
    pub fn delete(&self, sandbox: &Sandbox) -> Vec<(Fault, String)> {
        let Some(outcome) = self.call(sandbox, &["delete", "--force", &self.id]) else {
            return vec![(Fault::Hang, "delete --force hangs".to_owned())];
        };
        let mut faults = judge(&outcome);
        if outcome.code != 0 {
            faults.push((Fault::Left, format!("delete --force failed: {}", said(&outcome))));
        }
        let start = Instant::now();
        let left = loop {
            // A killed process may still be on its way out.
            let mut left = sandbox.leftovers(&self.id);
            left.retain(|what| !what.starts_with("state"));
            if self.root.join(&self.id).exists() {
                left.push("state".to_owned());
            }
            if left.is_empty() || start.elapsed() > Duration::from_secs(5) {
                break left;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        faults.extend(left.into_iter().map(|what| (Fault::Left, what)));
        faults
    }
}

/// Where mutants are tried: a bundle, rt, and perhaps another runtime that is asked the same.
pub struct Field {
    pub sandbox: Sandbox,
    pub bundle: Bundle,
    pub subject: Subject,
    pub beside: Option<Subject>,
}

impl Field {
    /// `names` are those of the two runtimes' containers.
    pub fn new(names: [&str; 2], beside: Option<&Path>) -> Self {
        let sandbox = Sandbox::new();
        let mut bundle = sandbox.bundle();
        base::fill(&mut bundle);
        let subject = Subject::new(&sandbox, &Sandbox::binary(), names[0]);
        let beside = beside.map(|binary| Subject::new(&sandbox, binary, names[1]));
        Self { sandbox, bundle, subject, beside }
    }
}

/// What became of one mutant under one runtime.
#[derive(Default)]
pub struct Answer {
    pub taken: bool,
    pub said: String,
    pub faults: Vec<(Fault, String)>,
}

impl Answer {
    /// Takes in how a command ended; `None`: `what` hangs.
    pub fn take(&mut self, what: &str, outcome: Option<Outcome>) {
        match outcome {
            None => self.faults.push((Fault::Hang, format!("{what} hangs"))),
            Some(outcome) => {
                self.taken = outcome.code == 0;
                self.said = said(&outcome);
                self.faults.extend(judge(&outcome));
            }
        }
    }

    pub fn weaker(&mut self, missing: Vec<String>) {
        self.faults.extend(missing.into_iter().map(|what| (Fault::Weaker, what)));
    }
}

/// What is wrong with an answer, whatever was asked.
pub fn judge(outcome: &Outcome) -> Vec<(Fault, String)> {
    let mut faults = Vec::new();
    if matches!(outcome.code, 101 | 132 | 134 | 135 | 136 | 139) || outcome.stderr.contains("panicked at") {
        faults.push((Fault::Panic, format!("exit {}: {}", outcome.code, said(outcome))));
    }
    if outcome.code != 0 && outcome.stderr.trim().is_empty() {
        faults.push((Fault::Mute, format!("exit {} without a word", outcome.code)));
    }
    faults
}

pub fn said(outcome: &Outcome) -> String {
    let said =
        outcome.stderr.lines().filter(|line| !line.contains("level=warning") && !line.trim().is_empty());
    said.take(3).collect::<Vec<_>>().join(" / ").chars().take(300).collect()
}
