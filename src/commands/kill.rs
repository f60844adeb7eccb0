//! `kill`: sends a signal to a container's init.

use std::str::FromStr;

use anyhow::bail;
use nix::sys::signal::Signal;

use crate::cli::{Global, KillArgs};
use crate::exit::ExitStatus;
use crate::runtime::{RuntimeError, Store, kill};

/// Sends the signal.
#[inline(never)]
pub fn run(global: &Global, args: &KillArgs) -> anyhow::Result<ExitStatus> {
    let signal = parse(&args.signal)?;
    let container = Store::open(global)?.load(&args.container_id)?;
    match kill::signal(&container, signal) {
        Err(RuntimeError::NotRunning) if args.all => {}
        sent => sent?,
    }
    Ok(ExitStatus::SUCCESS)
}

/// A number, or a name with or without SIG in any case.
fn parse(text: &str) -> anyhow::Result<i32> {
    const LAST: i32 = 64;
    if let Ok(number) = text.parse() {
        if (0..=LAST).contains(&number) {
            return Ok(number);
        }
        bail!("unknown signal {text:?}");
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time(name) {
        return Ok(number);
    }
    match Signal::from_str(&format!("SIG{name}")) {
        Ok(signal) => Ok(signal as i32),
        Err(_) => bail!("unknown signal {text:?}"),
    }
}

/// RTMIN, RTMIN+n, RTMAX and RTMAX-n, as kill(1) has them.
fn real_time(name: &str) -> Option<i32> {
    let (low, high) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        low + if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse().ok()? }
    } else {
        let rest = name.strip_prefix("RTMAX")?;
        high - if rest.is_empty() { 0 } else { rest.strip_prefix('-')?.parse().ok()? }
    };
    (low..=high).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [("9", 9), ("0", 0), ("KILL", 9), ("sigkill", 9), ("SIGTERM", 15), ("64", 64)] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        assert_eq!(parse("RTMIN+3").unwrap(), libc::SIGRTMIN() + 3);
        assert_eq!(parse("SIGRTMAX").unwrap(), libc::SIGRTMAX());
        for text in ["65", "-1", "", "X", "SIG", "RTMIN+99", "RTMINx"] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("unknown signal {text:?}"));
        }
    }
}
