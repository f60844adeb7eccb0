//! The commands that faults are put on, each with the state that it needs and how its effect is looked at.

use super::bundle::{CODE, Kind};
use super::world::World;

/// The container's state before the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    Created,
    Running,
    Paused,
    Stopped,
    /// Running, and a proof was made.
    Proved,
    /// Saved by `checkpoint`, and gone.
    Saved,
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
    /// It has run to its end and is gone, and what it printed.
    Over,
    /// It is saved and gone, and can be restored: what runs then is looked at.
    Saved,
    /// What is printed, and the container is as it was.
    Printed,
    /// What a memory proof says of it, which is never twice the same but for its exit code.
    Proved,
}

impl After {
    /// Nothing is left of the container.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Gone | Self::Over)
    }

    /// What the command prints is the same every time.
    pub fn prints(self) -> bool {
        matches!(self, Self::Printed | Self::Over)
    }

    /// A process of the container can be looked at.
    pub fn has_process(self) -> bool {
        matches!(self, Self::Created | Self::Runs | Self::Proved | Self::Saved)
    }
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
    /// It takes criu.
    pub criu: bool,
    /// Its exit code is that of the container's program.
    pub waits: bool,
}

const fn scenario(
    name: &'static str,
    before: Before,
    after: After,
    arguments: fn(&World) -> Vec<String>,
) -> Scenario {
    Scenario {
        name,
        kind: Kind::Plain,
        before,
        after,
        arguments,
        code: 0,
        at_most: u32::MAX,
        common: true,
        criu: false,
        waits: false,
    }
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
    Scenario {
        kind: Kind::Brief,
        code: CODE,
        waits: true,
        ..scenario("run-wait", Before::Nothing, After::Over, |w| w.creation("run", &[]))
    },
    Scenario {
        kind: Kind::Terminal,
        code: CODE,
        waits: true,
        ..scenario("run-terminal", Before::Nothing, After::Over, |w| w.creation("run", &[]))
    },
    Scenario {
        kind: Kind::Nothing,
        common: false,
        ..scenario("create-nothing", Before::Nothing, After::Created, |w| w.creation("create", &[]))
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
        waits: true,
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
    Scenario {
        at_most: 12,
        common: false,
        ..scenario("stress-memory", Before::Running, After::Proved, |w| {
            // So little is written also where the machine is busy.
            words(&["stress-memory", "--strategy", "sequential,shm", &w.id, "4", "0.5"])
        })
    },
    Scenario {
        common: false,
        ..scenario("monitor", Before::Running, After::Printed, |w| {
            words(&["monitor", "--format", "json", &w.id, "0"])
        })
    },
    Scenario {
        common: false,
        ..scenario("report", Before::Proved, After::Printed, |w| {
            words(&["report", "--format", "json", &w.id])
        })
    },
    Scenario {
        kind: Kind::Saved,
        criu: true,
        ..scenario("checkpoint", Before::Running, After::Saved, |w| {
            words(&["checkpoint", "--image-path", &w.images(), &w.id])
        })
    },
    Scenario {
        kind: Kind::Saved,
        criu: true,
        ..scenario("restore", Before::Saved, After::Runs, World::restoration)
    },
];

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}
