//! The checklist: makes a container with limits, has the kernel confirm them, proves them, and takes it away again.
//! The steps carry the names of the shell test they replace; each holds one or more checks.

pub mod burner;
mod container;
mod cpu;
mod hooks;
mod memory;
mod runtime;
mod strategies;
mod variants;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

pub use runtime::Runtime;

use crate::cgroup::CgroupError;
use crate::cgroup::host::{self, HostSetup};
use crate::exit::ExitStatus;
use crate::poll::SignalGuard;
use crate::units::MIB;

/// The limits of the container that is made.
pub const LIMIT_BYTES: u64 = 128 * MIB;
pub const CPU_PERCENT: u64 = 25;
/// Written below the limit, and above it.
pub const WITHIN_BYTES: u64 = 64 * MIB;
pub const ABOVE_BYTES: u64 = 150 * MIB;

/// What makes the checklist itself fail.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("cannot detect how cgroups are set up")]
    Host(#[from] CgroupError),
    #[error("cannot make a folder to work in at '{}'", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot watch for signals")]
    Signals(#[source] io::Error),
}

/// The steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Create,
    CgroupSetup,
    Monitoring,
    Within,
    Above,
    Strategies,
    Hooks,
    Start,
    Tracking,
    Cpu,
    Cleanup,
}

impl Step {
    /// The step as a title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Create => "Create a test container with memory limits",
            Self::CgroupSetup => "Verify cgroup setup and memory limit configuration",
            Self::Monitoring => "Test basic memory monitoring",
            Self::Within => "Test memory allocation within limits",
            Self::Above => "Test memory stress that may trigger OOM",
            Self::Strategies => "Prove the limit by every other strategy",
            Self::Hooks => "Prove the limit by a hook, before anything of a container runs",
            Self::Start => "Start the container after all this",
            Self::Cpu => "Measure the CPU limit over time",
            Self::Tracking => "Demonstrate real-time memory usage tracking",
            Self::Cleanup => "Delete the container and leave nothing behind",
        }
    }
}

/// Whether a check holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    Pass,
    Fail,
    /// Not applicable here, not made after what failed before, or without a conclusion.
    Skip,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "✓",
            Self::Fail => "✗",
            Self::Skip => "–",
        })
    }
}

/// One line of the checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub step: Step,
    /// A stable name.
    pub name: &'static str,
    pub mark: Mark,
    /// What was seen.
    pub why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What a check says when it is made: what was seen, or what is wrong and what can be done.
pub(crate) type Seen = Result<String, Wrong>;

/// Why a check does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Failed, or not applicable here.
    pub mark: Mark,
    pub why: String,
    pub hint: Option<String>,
}

impl Wrong {
    pub fn new(why: impl Into<String>) -> Self {
        Self { mark: Mark::Fail, why: why.into(), hint: None }
    }

    /// Nothing is wrong, but this host cannot tell.
    pub fn not_applicable(why: impl Into<String>) -> Self {
        Self { mark: Mark::Skip, ..Self::new(why) }
    }

    /// Nothing was found out, which is nothing against the runtime.
    pub fn not_told(why: impl Into<String>) -> Self {
        Self::not_applicable(why)
    }

    /// What a proof or a stress that did not find what it should have makes of a check: it fails where the code of its verdict
    /// says something against the limit or the container.
    pub fn by_exit(exit: ExitStatus, why: String, hint: Option<&String>) -> Self {
        let wrong = if exit == ExitStatus::INCONCLUSIVE { Self::not_told(why) } else { Self::new(why) };
        Self { hint: hint.cloned(), ..wrong }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error with its causes.
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            why += &format!(": {error}");
            cause = error.source();
        }
        Self::new(why)
    }
}

/// The whole checklist, filled in.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub runtime: PathBuf,
    pub kernel: String,
    pub host: HostSetup,
    pub checks: Vec<Check>,
    /// True only if every check holds that applies here, and none was left out.
    pub passed: bool,
}

/// The checklist while it is being filled in; told line by line.
pub(crate) struct List<'a> {
    checks: Vec<Check>,
    signals: SignalGuard,
    interrupted: bool,
    tell: &'a mut dyn FnMut(&Check),
}

impl List<'_> {
    /// Makes a check and says what it saw; `false` where it does not hold.
    pub fn check(&mut self, step: Step, name: &'static str, make: impl FnOnce() -> Seen) -> bool {
        self.interrupted |= self.signals.caught();
        if self.interrupted && step != Step::Cleanup {
            self.skip(step, name, "interrupted");
            return false;
        }
        let began = Instant::now();
        let (mark, why, hint) = match make() {
            Ok(why) => (Mark::Pass, why, None),
            Err(wrong) => (wrong.mark, wrong.why, wrong.hint),
        };
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.add(Check { step, name, mark, why, hint, took_us });
        mark == Mark::Pass
    }

    /// Says that a check was not made.
    pub fn skip(&mut self, step: Step, name: &'static str, why: &str) {
        self.add(Check { step, name, mark: Mark::Skip, why: why.to_owned(), hint: None, took_us: 0 });
    }

    fn add(&mut self, check: Check) {
        (self.tell)(&check);
        self.checks.push(check);
    }
}

/// Detects how this host's cgroups are set up.
pub fn detect() -> Result<HostSetup, VerifyError> {
    Ok(host::detect()?)
}

/// Takes away what checklists left that were killed half way. What the runtime cannot delete stays for the one that can.
fn sweep(runtime: &Runtime) {
    for folder in runtime::Folder::abandoned() {
        let mut kept = false;
        for id in folder.containers() {
            kept |= runtime.call(&folder, &["delete", "--force", &id]).is_err();
        }
        if kept {
            folder.keep();
        }
    }
}

/// Goes through the checklist with `runtime`; `tell` is told each check as it is made. What was made is taken away
/// again, also after a failed check and after SIGINT.
pub fn run(runtime: &Runtime, host: HostSetup, tell: &mut dyn FnMut(&Check)) -> Result<Report, VerifyError> {
    let signals = SignalGuard::new().map_err(VerifyError::Signals)?;
    sweep(runtime);
    let folder = runtime::Folder::make()?;
    let mut list = List { checks: Vec::new(), signals, interrupted: false, tell };
    container::go_through(runtime, &folder, &mut list);
    let (checks, interrupted) = (list.checks, list.interrupted);
    Ok(Report {
        runtime: runtime.path(),
        kernel: crate::proof::hostmem::Host::read().map_or_else(|_| "unknown".to_owned(), |host| host.kernel),
        host,
        passed: !interrupted && !checks.iter().any(|check| check.mark == Mark::Fail),
        checks,
    })
}
