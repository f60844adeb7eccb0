//! How a process ended, as wait(2) tells it.

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::exit::ExitStatus;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It exited with this code.
    Exit(u8),
    /// This signal ended it.
    Signal(i32),
}

impl End {
    /// From the status of wait(2), which is also field 52 of proc_pid_stat(5).
    #[must_use]
    pub fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Exit(status.to_le_bytes()[1]),
            signal => Self::Signal(signal),
        }
    }
}

impl From<End> for ExitStatus {
    /// As shells have it: 128 and the signal.
    fn from(end: End) -> Self {
        match end {
            End::Exit(code) => Self(code),
            End::Signal(signal) => Self(128 + u8::try_from(signal).unwrap_or(0)),
        }
    }
}

/// `SIGKILL`, or `signal 40` where it has no name.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_a_code_or_a_signal() {
        assert_eq!(End::from_wait_status(3 << 8), End::Exit(3));
        assert_eq!(End::from_wait_status(255 << 8), End::Exit(255));
        assert_eq!(End::from_wait_status(9), End::Signal(9));
        // A core was dumped.
        assert_eq!(End::from_wait_status(11 | 0x80), End::Signal(11));
        assert_eq!(ExitStatus::from(End::Signal(9)), ExitStatus(137));
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(40), "signal 40");
    }
}
