//! `events`: statistics at an interval, and OOM notifications as they come, one JSON object a line.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::cli::{EventsArgs, Global};
use crate::exit::ExitStatus;
use crate::poll::after;
use crate::printable::printable;
use crate::runtime::cgroups::{Cgroup, OomEvent, OomWatch, Stats};
use crate::runtime::{Status, Store};

/// runc's `types.Event`.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Prints events until the container's cgroup is gone, or one event with `--stats`.
#[inline(never)]
pub fn run(global: &Global, args: &EventsArgs) -> anyhow::Result<ExitStatus> {
    ensure!(!args.interval.is_zero(), "duration interval must be greater than 0");
    let container = Store::open(global)?.load(&args.container_id)?;
    let id = args.container_id.as_str();
    ensure!(container.status()? != Status::Stopped, "container with id {id} is not running");
    let out = &mut std::io::stdout();
    if args.stats {
        print_stats(container.cgroup(), id, out)?;
    } else {
        follow(container.cgroup(), id, args.interval, out)?;
    }
    Ok(ExitStatus::SUCCESS)
}

fn print_stats(cgroup: &Cgroup, id: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let stats = cgroup.stats().context("unable to get container cgroup stats")?;
    print(&Event { kind: "stats", id, data: Some(stats) }, out)
}

fn print(event: &Event<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    let line = serde_json::to_string(event)? + "\n";
    out.write_all(printable(&line).as_bytes())?;
    Ok(out.flush()?)
}

fn follow(cgroup: &Cgroup, id: &str, interval: Duration, out: &mut impl Write) -> anyhow::Result<()> {
    let mut watch = cgroup.watch_oom()?;
    let mut next = after(interval);
    loop {
        if wait(&watch, next)? {
            match watch.take()? {
                OomEvent::Oom => print(&Event { kind: "oom", id, data: None }, out)?,
                OomEvent::Gone => return Ok(()),
                OomEvent::Nothing => {}
            }
        }
        let now = Instant::now();
        if now < next {
            continue;
        }
        // A tick that came too late is not made up for.
        next = after(interval);
        match cgroup.stats() {
            Ok(stats) => print(&Event { kind: "stats", id, data: Some(stats) }, out)?,
            Err(error) if error.is_gone() && !cgroup.exists()? => return Ok(()),
            Err(error) => tracing::error!("unable to get container cgroup stats: {error}"),
        }
    }
}

/// Waits for an event until `deadline`; whether there is one.
fn wait(watch: &OomWatch, deadline: Instant) -> anyhow::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up, or the last fraction of a millisecond would be spent in a busy loop.
    let left = left + Duration::from_micros(999);
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno).context("cannot wait for events"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_look_like_runcs() {
        let mut out = Vec::new();
        print(&Event { kind: "oom", id: "box", data: None }, &mut out).unwrap();
        assert_eq!(out, b"{\"type\":\"oom\",\"id\":\"box\"}\n");
        let mut out = Vec::new();
        print(&Event { kind: "stats", id: "box", data: Some(Stats::default()) }, &mut out).unwrap();
        assert!(out.starts_with(b"{\"type\":\"stats\",\"id\":\"box\",\"data\":{\"cpu\":{"));
    }
}
