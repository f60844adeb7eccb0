//! What a container is doing, and whether a process is still the one that was recorded.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::error::{Result, RuntimeError};
use super::process::reason::Reason;
use super::store::is_rootless;
use crate::receipt::End;
use crate::sys::kill::kill;

/// The status of a container in the words of the OCI runtime spec, and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// Of a container with this init whose `create` came to its end (`ready`). What is not needed is not asked.
    ///
    /// # Errors
    /// Something of it cannot be looked at. No status is a guess.
    pub(super) fn of(
        init: Option<ProcessId>,
        ready: bool,
        is_busy: impl FnOnce() -> Result<bool>,
        is_frozen: impl FnOnce() -> Result<bool>,
        is_waiting: impl Fn() -> Result<bool>,
    ) -> Result<Self> {
        let Some(init) = init else {
            return Ok(if is_busy()? { Self::Creating } else { Self::Stopped });
        };
        if !init.is_alive()? {
            return Ok(Self::Stopped);
        }
        // Where `create` was killed at its end, init waits for a start all the same.
        if !ready && (is_busy()? || !is_waiting()?) {
            return Ok(Self::Creating);
        }
        Ok(match is_frozen()? {
            true => Self::Paused,
            false if is_waiting()? => Self::Created,
            false => Self::Running,
        })
    }
}

impl Status {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A process that cannot be mistaken for another one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat, clock ticks since boot; 0 in old records where it could not be read.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// It is gone, or cannot be looked at: another process could be taken for it later.
    pub fn of(pid: i32) -> Result<Self> {
        match stat(pid) {
            Ok(stat) => Ok(Self { pid, start_time: stat.start_time }),
            Err(error) => Err(RuntimeError::file("read", path(pid))(error)),
        }
    }

    /// Whether it still runs; a zombie does not.
    ///
    /// # Errors
    /// Nobody can tell: that it cannot be looked at does not mean that it is gone.
    pub fn is_alive(self) -> Result<bool> {
        let unknown = |cause: String| RuntimeError::Unknown { pid: self.pid, cause };
        let failed = |error| unknown(format!("read {}: {}", path(self.pid), Reason::of(&error)));
        match stat(self.pid) {
            Ok(stat) if matches!(stat.state, b'Z' | b'X') => Ok(false),
            Ok(_) if self.start_time == 0 => Err(unknown("its start time was not recorded".into())),
            Ok(stat) => Ok(stat.start_time == self.start_time),
            // /proc hides the processes of others where it is mounted with `hidepid`.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                match kill(Pid::from_raw(self.pid), 0) {
                    Err(Errno::ESRCH) => Ok(false),
                    _ => Err(failed(error)),
                }
            }
            Err(error) => Err(failed(error)),
        }
    }
}

impl ProcessId {
    /// How long after boot it was started (clock boottime); `None` where that was not recorded.
    pub fn since_boot(self) -> Option<Duration> {
        // USER_HZ is 100 wherever Linux runs today (include/asm-generic/param.h).
        (self.start_time > 0).then(|| Duration::from_millis(self.start_time.saturating_mul(10)))
    }

    /// How it ended, as long as nobody has waited for it.
    pub fn end(self) -> Option<End> {
        let stat =
            stat(self.pid).ok().filter(|stat| stat.state == b'Z' && stat.start_time == self.start_time)?;
        // Those who may not trace it read 0, whatever it is.
        stat.exit_code.filter(|code| *code != 0 || !is_rootless()).map(End::from_wait_status)
    }
}

struct Stat {
    state: u8,
    start_time: u64,
    /// Field 52, as wait(2) has it.
    exit_code: Option<i32>,
}

fn path(pid: i32) -> String {
    format!("/proc/{pid}/stat")
}

/// Read at once: its 52 numbers and a name have room.
fn stat(pid: i32) -> io::Result<Stat> {
    let mut text = [0; 1536];
    let length = File::open(path(pid))?.read(&mut text)?;
    parse(&text[..length]).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// proc_pid_stat(5). The second field is the command in parentheses and may contain anything.
fn parse(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = text[end + 1..].split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let start_time = std::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()?;
    let exit_code = fields.nth(29).and_then(|code| std::str::from_utf8(code).ok()?.trim().parse().ok());
    Some(Stat { state, start_time, exit_code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_hide_the_state() {
        let text = b"7 (a) Z b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2 3";
        let stat = parse(text).unwrap();
        assert_eq!((stat.state, stat.start_time, stat.exit_code), (b'S', 4711, None));
    }

    #[test]
    fn a_process_that_nobody_waited_for_tells_how_it_ended() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        let patience = std::time::Instant::now();
        while id.is_alive().unwrap() && patience.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
        assert_eq!(id.end(), Some(End::Exit(3)));
        assert_eq!(ProcessId { start_time: id.start_time + 1, ..id }.end(), None);
        child.wait().unwrap();
        assert_eq!(id.end(), None);
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_alive() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive().unwrap() && own.start_time > 0);
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_alive().unwrap());
        assert!(!ProcessId { pid: i32::MAX, start_time: 0 }.is_alive().unwrap());
    }

    #[test]
    fn a_process_without_a_known_start_is_neither_alive_nor_gone() {
        let own = i32::try_from(std::process::id()).unwrap();
        let error = ProcessId { pid: own, start_time: 0 }.is_alive().unwrap_err().to_string();
        let expected = format!("cannot tell whether process {own} is alive: its start time was not recorded");
        assert_eq!(error, expected);
    }

    #[test]
    fn what_cannot_be_looked_at_has_no_status() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let failed = || Err(RuntimeError::NotRunning);
        let (yes, no) = (|| Ok(true), || Ok(false));
        assert!(Status::of(None, false, failed, no, no).is_err());
        assert!(Status::of(Some(own), true, no, failed, no).is_err());
        assert!(Status::of(Some(own), true, no, no, failed).is_err());
        assert_eq!(Status::of(Some(own), true, failed, no, no).unwrap(), Status::Running);
        assert_eq!(Status::of(Some(own), false, yes, failed, yes).unwrap(), Status::Creating);
        assert_eq!(
            Status::of(Some(own), false, no, no, yes).unwrap(),
            Status::Created,
            "its create was killed"
        );
        assert_eq!(Status::of(Some(own), false, no, no, no).unwrap(), Status::Creating);
    }
}
