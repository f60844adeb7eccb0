//! A process that does nothing but use CPU time, to see that a limit holds it back.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, SysconfVar, getppid, sysconf};

use crate::exit::ExitStatus;
use crate::log;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__burn";

/// Uses CPU time until the parent, whose pid is the argument, kills it or is gone.
pub fn run(args: &[OsString]) -> ExitStatus {
    let parent = args.first().and_then(|pid| pid.to_str()?.parse().ok()).map(Pid::from_raw);
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || parent != Some(getppid()) {
        log::to_stderr(format!("rt: '{SUBCOMMAND}' is started by the checklist only\n").as_bytes());
        return ExitStatus::USAGE;
    }
    loop {
        std::hint::spin_loop();
    }
}

/// A running burner. Dropping it kills and reaps it.
pub struct Burner {
    child: Child,
}

impl Burner {
    /// Starts `rt __burn`.
    pub fn start(rt: &Path) -> io::Result<Self> {
        let child = Command::new(rt)
            .arg0("rt")
            .args([SUBCOMMAND, &std::process::id().to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// The share of one CPU that it gets over so long.
    pub fn share_over(&self, time: Duration) -> Option<f64> {
        let (began, before) = (Instant::now(), self.used()?);
        std::thread::sleep(time);
        let used = self.used()?.saturating_sub(before);
        Some(used.as_secs_f64() / began.elapsed().as_secs_f64())
    }

    /// CPU time used so far (utime and stime, proc(5)).
    fn used(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u32>().ok());
        let per_second = u32::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
        Some(Duration::from_secs(1) * ticks.sum::<Option<u32>>()? / per_second)
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
