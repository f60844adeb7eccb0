//! The commands that faults are put on, each with the state that it needs and how its effect is looked at.

use super::bundle::Kind;
use super::world::World;

/// The container's state before the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    Created,
    Running,
    Paused,
    Stopped,
}

/// What the command does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It can be started: what runs then is looked at.
    Created,
    /// It runs, perhaps with another process or other limits.
    Runs,
    /// Its process has ended.
    Ended,
    /// Nothing is left of it.
    Gone,
    /// What is printed, and the container is as it was.
    Printed,
    /// What a memory proof says of it, which is never twice the same but for its exit code.
    Proved,
}

/// One command.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub kind: Kind,
    pub before: Before,
    pub after: After,
    pub arguments: fn(&World) -> Vec<String>,
    /// The exit code without a fault.
    pub code: i32,
    /// How many calls of one name and process are tried: a proof makes thousands that are alike.
    pub at_most: u32,
    /// Other runtimes have it too.
    pub common: bool,
}

const fn scenario(
    name: &'static str,
    before: Before,
    after: After,
    arguments: fn(&World) -> Vec<String>,
) -> Scenario {
    Scenario { name, kind: Kind::Plain, before, after, arguments, code: 0, at_most: u32::MAX, common: true }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    scenario("create", Before::Nothing, After::Created, |w| w.creation("create", &[])),
    Scenario {
        kind: Kind::User,
        ..scenario("create-user", Before::Nothing, After::Created, |w| w.creation("create", &[]))
    },
    Scenario {
        kind: Kind::Pid,
        ..scenario("create-pid", Before::Nothing, After::Created, |w| w.creation("create", &[]))
    },
    scenario("run", Before::Nothing, After::Runs, |w| w.creation("run", &["--detach"])),
    Scenario {
        kind: Kind::User,
        ..scenario("run-user", Before::Nothing, After::Runs, |w| w.creation("run", &["--detach"]))
    },
    scenario("start", Before::Created, After::Runs, |w| words(&["start", &w.id])),
    scenario("exec", Before::Running, After::Runs, |w| {
        words(&["exec", "--detach", "--pid-file", &w.exec_pid_file(), &w.id, "sleep", "1000"])
    }),
    Scenario {
        kind: Kind::User,
        ..scenario("exec-user", Before::Running, After::Runs, |w| {
            words(&["exec", "--detach", "--pid-file", &w.exec_pid_file(), &w.id, "sleep", "1000"])
        })
    },
    Scenario {
        code: 7,
        ..scenario("exec-wait", Before::Running, After::Printed, |w| {
            words(&["exec", &w.id, "sh", "-c", "echo within; exit 7"])
        })
    },
    scenario("pause", Before::Running, After::Runs, |w| words(&["pause", &w.id])),
    scenario("resume", Before::Paused, After::Runs, |w| words(&["resume", &w.id])),
    scenario("update", Before::Running, After::Runs, |w| {
        words(&["update", "--memory", "50331648", "--pids-limit", "40", "--cpu-quota", "40000", &w.id])
    }),
    scenario("state", Before::Running, After::Printed, |w| words(&["state", &w.id])),
    scenario("list", Before::Running, After::Printed, |_| words(&["list", "--format", "json"])),
    scenario("ps", Before::Running, After::Printed, |w| words(&["ps", "--format", "json", &w.id])),
    scenario("events", Before::Running, After::Printed, |w| words(&["events", "--stats", &w.id])),
    scenario("kill", Before::Running, After::Ended, |w| words(&["kill", &w.id, "KILL"])),
    scenario("delete-paused", Before::Paused, After::Gone, |w| words(&["delete", "--force", &w.id])),
    scenario("delete", Before::Stopped, After::Gone, |w| words(&["delete", &w.id])),
    scenario("delete-force", Before::Running, After::Gone, |w| words(&["delete", "--force", &w.id])),
    Scenario {
        code: 1,
        ..scenario("delete-running", Before::Running, After::Printed, |w| words(&["delete", &w.id]))
    },
    Scenario {
        common: false,
        ..scenario("why", Before::Stopped, After::Printed, |w| words(&["why", &w.id]))
    },
    Scenario {
        at_most: 12,
        common: false,
        ..scenario("test-memory", Before::Running, After::Proved, |w| words(&["test-memory", &w.id]))
    },
];

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}
