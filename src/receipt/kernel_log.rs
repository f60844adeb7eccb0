//! The kernel's own words about an OOM kill: extra evidence where its log may be read, never required.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::sys::klog;

/// So much of the log's end is looked at: some hundred messages.
const MAX_BYTES: usize = 64 << 10;

/// A process that the OOM killer chose, as the log has it (mm/oom_kill.c, dump_oom_victim).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// In the pid namespace of the host.
    pub pid: i32,
    /// The command, at most 15 bytes.
    pub name: String,
    /// The cgroup whose limit was hit; `None`: the host had no memory left.
    pub limiter: Option<String>,
}

/// The first cgroup and pid namespaces of a machine (include/linux/proc_ns.h): the log speaks of theirs, and would be
/// misread in others.
const FIRST_NAMESPACES: [(&str, &str); 2] =
    [("/proc/self/ns/cgroup", "cgroup:[4026531835]"), ("/proc/self/ns/pid", "pid:[4026531836]")];

/// How far the clock of the log may be off the one by which processes start: it is not slewed (kernel/sched/clock.c), so the
/// difference grows with uptime.
fn inaccuracy(uptime: Duration) -> Duration {
    Duration::from_secs(1) + uptime / 10_000
}

/// When something that was begun this long after boot (clock boottime, as /proc/PID/stat has it) was begun by the clock of the log,
/// at the earliest.
#[must_use]
pub fn log_time(since_boot: Duration) -> Duration {
    let now = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    let (boot, monotonic) = (now(ClockId::CLOCK_BOOTTIME), now(ClockId::CLOCK_MONOTONIC));
    // The log's clock stands still while the machine is suspended, before or after.
    let suspended = boot.saturating_sub(monotonic);
    since_boot.saturating_sub(suspended).saturating_sub(inaccuracy(monotonic))
}

/// The victims in the cgroup with this path and below it, oldest first, of lines that are not older than `since` (by
/// [`log_time`]): before it, the cgroup was somebody else's. Where the kernel writes no times, the path and the pid have to do.
/// Empty where the log cannot be read. Does not wait.
pub fn victims(cgroup: &str, since: Option<Duration>) -> Vec<Victim> {
    let first = FIRST_NAMESPACES
        .iter()
        .all(|(link, name)| std::fs::read_link(link).is_ok_and(|to| to.as_os_str() == *name));
    if !first {
        return Vec::new();
    }
    let parsed = |log: Vec<u8>| parse(&String::from_utf8_lossy(&log), cgroup, since);
    klog::last(MAX_BYTES).map_or_else(|_| Vec::new(), parsed)
}

pub(super) fn parse(log: &str, cgroup: &str, since: Option<Duration>) -> Vec<Victim> {
    let is_new = |front: &str| since.is_none_or(|since| time(front).is_none_or(|at| at >= since));
    let victims = log.lines().filter_map(|line| line.split_once("oom-kill:"));
    victims.filter(|(front, _)| is_new(front)).filter_map(|(_, line)| victim(line, cgroup)).collect()
}

/// The time of a line that begins with `<6>[   12.500000] `; `None` where the kernel writes none (printk.time).
fn time(front: &str) -> Option<Duration> {
    let seconds = front.split_once('[')?.1.split_once(']')?.0.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Whether the cgroup with this path is `of` or below it.
pub(super) fn is_within(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn victim(line: &str, cgroup: &str) -> Option<Victim> {
    // Paths and commands may contain commas; the keys around them do not change.
    let (front, task) = line.rsplit_once(",task=")?;
    let (front, at) = front.rsplit_once(",task_memcg=")?;
    if !is_within(at, cgroup) {
        return None;
    }
    let (name, numbers) = task.rsplit_once(",pid=")?;
    let pid = numbers.split(',').next()?.trim().parse().ok()?;
    let limiter = front.split_once(",oom_memcg=").map(|(_, path)| path.to_owned());
    Some(Victim { pid, name: name.to_owned(), limiter })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
<6>[  12.5] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/pod,task_memcg=/pod/web,task=a,b,pid=22610,uid=0
<6>[  12.6] Memory cgroup out of memory: Killed process 22610 (a,b) total-vm:12136kB
<6>[  13.0] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/pod/web,task=tail,pid=7,uid=0
<6>[  14.0] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/x,task_memcg=/pod/web2,task=tail,pid=8,uid=0
<6>[  15.0] oom-kill:constraint=";

    #[test]
    fn victims_are_those_of_the_cgroup_with_the_limit_that_was_hit() {
        let found = parse(LOG, "/pod/web", None);
        let want = [
            Victim { pid: 22610, name: "a,b".into(), limiter: Some("/pod".into()) },
            Victim { pid: 7, name: "tail".into(), limiter: None },
        ];
        assert_eq!(found, want);
        let since = |seconds| parse(LOG, "/pod/web", Some(Duration::from_secs(seconds)));
        assert_eq!(
            (since(12).len(), since(13).len(), since(14).len()),
            (2, 1, 0),
            "older lines are another's"
        );
        let untimed = LOG.replace("[  1", "1");
        assert_eq!(
            parse(&untimed, "/pod/web", Some(Duration::MAX)).len(),
            2,
            "of lines without a time it cannot be told"
        );
        assert_eq!(parse(LOG, "/web", None), []);
        let below: Vec<_> = parse(LOG, "/pod", None).into_iter().map(|victim| victim.pid).collect();
        assert_eq!(below, [22610, 7, 8], "all three are below the pod");
    }
}
