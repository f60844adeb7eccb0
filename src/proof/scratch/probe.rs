//! A process that looks at a folder in the prover's place: rt executed again with a hidden subcommand. One that gets no answer
//! is killed; where the kernel cannot end it (a FUSE server that has read the request), nobody waits for it.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::{Medium, folder};
use crate::exit::ExitStatus;
use crate::poll::readable_within;
use crate::sys::clone::set_dumpable;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__scratch";

/// The answer fits in a pipe.
const LONGEST: usize = 4096;

/// Between the answer and the end of a process; one that is killed needs no more.
const ENDS_WITHIN: Duration = Duration::from_millis(100);

/// The process: looks, and answers with a line on stdout.
pub fn run(args: &[OsString]) -> ExitStatus {
    let [root, path, bytes] = args else { return ExitStatus::USAGE };
    let Some(bytes) = bytes.to_str().and_then(|bytes| bytes.parse().ok()) else { return ExitStatus::USAGE };
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || set_dumpable(false).is_err() {
        return ExitStatus::PROVER_FAILURE;
    }
    let answer = match folder::look(root.as_ref(), path.as_ref(), bytes) {
        Ok(medium) => medium.name().to_owned(),
        Err(why) => why,
    };
    match io::stdout().write_all(format!("{answer}\n").as_bytes()) {
        Ok(()) => ExitStatus::SUCCESS,
        Err(_) => ExitStatus::PROVER_FAILURE,
    }
}

/// Why a folder takes no file.
#[derive(Debug)]
pub(super) enum No {
    Because(String),
    /// It gave no answer in that time.
    Silent(Duration),
}

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Because(why) => f.write_str(why),
            Self::Silent(within) => write!(f, "no answer within {:.1} s", within.as_secs_f64()),
        }
    }
}

/// What keeps a file in the folder `path` of `root`, or why it takes none of so many bytes.
pub(super) fn ask(
    program: &Path,
    root: &Path,
    path: &Path,
    bytes: u64,
    within: Duration,
) -> Result<Medium, No> {
    let words = |e: io::Error| No::Because(e.to_string());
    let mut child = Command::new(program)
        .arg0("rt")
        .arg(SUBCOMMAND)
        .args([root, path])
        .arg(bytes.to_string())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(words)?;
    let answer = answer(&mut child, within);
    end(child);
    let answer = answer.map_err(words)?;
    match answer.strip_suffix('\n') {
        Some(told) => Medium::named(told).ok_or_else(|| No::Because(told.to_owned())),
        None => Err(No::Silent(within)),
    }
}

/// The line, or what is there of it.
fn answer(child: &mut Child, within: Duration) -> io::Result<String> {
    let Some(stdout) = child.stdout.as_mut() else { return Ok(String::new()) };
    if !readable_within(&*stdout, within)? {
        return Ok(String::new());
    }
    let mut bytes = [0; LONGEST];
    let length = stdout.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// Ends the process, and reaps it where it can be ended.
fn end(mut child: Child) {
    let _ = child.kill();
    let began = std::time::Instant::now();
    while matches!(child.try_wait(), Ok(None)) && began.elapsed() < ENDS_WITHIN {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_not_answer_is_not_waited_for() {
        let silent = tempfile::NamedTempFile::new().unwrap();
        let script = std::path::PathBuf::from("/bin/cat");
        let told = ask(&script, Path::new("/"), Path::new("/dev/null"), 1, Duration::from_millis(200));
        assert!(told.is_err(), "cat knows no medium: {told:?}");
        drop(silent);
    }
}
