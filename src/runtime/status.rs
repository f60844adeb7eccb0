//! What a container is doing, and whether a process is still the one that was recorded.

use std::fmt;
use std::fs::File;
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::store::is_rootless;
use crate::receipt::End;

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
    pub(super) fn of(
        init: Option<ProcessId>,
        ready: bool,
        is_busy: impl FnOnce() -> bool,
        is_frozen: impl FnOnce() -> bool,
        is_waiting: impl FnOnce() -> bool,
    ) -> Self {
        match init {
            None if is_busy() => Self::Creating,
            None => Self::Stopped,
            Some(init) if !init.is_alive() => Self::Stopped,
            Some(_) if !ready => Self::Creating,
            Some(_) if is_frozen() => Self::Paused,
            Some(_) if is_waiting() => Self::Created,
            Some(_) => Self::Running,
        }
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
    /// Field 22 of /proc/PID/stat, clock ticks since boot; 0 if it could not be read.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has `pid` now.
    pub fn of(pid: i32) -> Self {
        Self { pid, start_time: stat(pid).map_or(0, |stat| stat.start_time) }
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| {
            !matches!(stat.state, b'Z' | b'X') && (self.start_time == 0 || stat.start_time == self.start_time)
        })
    }
}

impl ProcessId {
    /// How it ended, as long as nobody has waited for it.
    pub fn end(self) -> Option<End> {
        let stat = stat(self.pid).filter(|stat| stat.state == b'Z' && stat.start_time == self.start_time)?;
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

/// Read at once: its 52 numbers and a name have room.
fn stat(pid: i32) -> Option<Stat> {
    let mut text = [0; 1536];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
    parse(&text[..length])
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
        let id = ProcessId::of(i32::try_from(child.id()).unwrap());
        let patience = std::time::Instant::now();
        while id.is_alive() && patience.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
        assert_eq!(id.end(), Some(End::Exit(3)));
        assert_eq!(ProcessId { start_time: id.start_time + 1, ..id }.end(), None);
        child.wait().unwrap();
        assert_eq!(id.end(), None);
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_alive() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap());
        assert!(own.is_alive() && own.start_time > 0);
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_alive());
        assert!(!ProcessId { pid: i32::MAX, start_time: 0 }.is_alive());
    }
}
