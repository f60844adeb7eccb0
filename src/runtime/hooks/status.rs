//! How a process ended, in runc's words.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Signals 1 to 31 of Linux, as Go's syscall package names them.
const SIGNALS: [&str; 31] = [
    "hangup",
    "interrupt",
    "quit",
    "illegal instruction",
    "trace/breakpoint trap",
    "aborted",
    "bus error",
    "floating point exception",
    "killed",
    "user defined signal 1",
    "segmentation fault",
    "user defined signal 2",
    "broken pipe",
    "alarm clock",
    "terminated",
    "stack fault",
    "child exited",
    "continued",
    "stopped (signal)",
    "stopped",
    "stopped (tty input)",
    "stopped (tty output)",
    "urgent I/O condition",
    "CPU time limit exceeded",
    "file size limit exceeded",
    "virtual timer expired",
    "profiling timer expired",
    "window changed",
    "I/O possible",
    "power failure",
    "bad system call",
];

/// "exit status 1", "signal: killed", "signal: bad system call (core dumped)".
pub fn describe(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("exit status {}", status.code().unwrap_or_default());
    };
    let name = usize::try_from(signal - 1).ok().and_then(|index| SIGNALS.get(index));
    let name = name.map_or_else(|| format!("signal {signal}"), ToString::to_string);
    let core = if status.core_dumped() { " (core dumped)" } else { "" };
    format!("signal: {name}{core}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_as_go_does() {
        for (raw, text) in [
            (1 << 8, "exit status 1"),
            (9, "signal: killed"),
            (31 | 0x80, "signal: bad system call (core dumped)"),
            (34, "signal: signal 34"),
        ] {
            assert_eq!(describe(ExitStatus::from_raw(raw)), text);
        }
    }
}
