//! What a command with a fault came to, beside the same command without one. Pure.

use super::bundle::Kind;
use super::census::Facts;
use super::command::Ended;
use super::fault::Fault;
use super::scenario::{After, Scenario};
use super::tracer::Seen;

/// What came of a fault, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// This time the call was not made.
    Unreached,
    /// As without the fault.
    Clean,
    /// The command failed, said so, and left the container as it was or as it should be.
    Refused,
    /// It failed, or what it printed is not so, without a word on stderr.
    Mute,
    /// It failed, and the container is neither as it was nor as it should be.
    Torn,
    /// Something is left after `delete --force`, or right after a create that failed.
    Left,
    /// Exit 0, or no exit, and what runs has less of what was asked for.
    Weaker,
    Hang,
    Panic,
}

impl Verdict {
    pub const ALL: [Self; 9] = [
        Self::Unreached,
        Self::Clean,
        Self::Refused,
        Self::Mute,
        Self::Torn,
        Self::Left,
        Self::Weaker,
        Self::Hang,
        Self::Panic,
    ];

    /// Whether it is what a runtime should do.
    pub fn is_good(self) -> bool {
        self <= Self::Refused
    }
}

/// A run without a fault: how it ended, and what was there before and after.
#[derive(Debug)]
pub struct Clean {
    pub ended: Ended,
    pub before: Facts,
    pub after: Facts,
}

impl Clean {
    /// Whether a container that runs has what its bundle asks for: a run is no measure for others where it is itself wrong.
    pub fn is_as_asked(&self, kind: Kind) -> bool {
        let is = |name: &str, wanted: &str| self.after.get(name).is_none_or(|found| found.trim() == wanted);
        let filtered = is("init Seccomp", "2") && is("init NoNewPrivs", "1");
        let membership = self
            .after
            .iter()
            .filter(|(name, _)| is_membership(name))
            .all(|(_, path)| path.contains("faults"));
        if kind == Kind::Nothing {
            let limit = |(name, value): (&String, &String)| {
                ["memory.max", "memory.limit_in_bytes"].iter().any(|file| name.ends_with(file))
                    && value.trim() == "67108864"
            };
            return filtered && membership && self.after.iter().any(limit);
        }
        let limits = self.after.get("init limits").is_none_or(|limits| {
            let words: Vec<&str> = limits
                .lines()
                .find(|line| line.starts_with("Max open files"))
                .map_or_else(Vec::new, |line| line.split_whitespace().collect());
            words.get(3..5) == Some(&["90", "100"])
        });
        limits
            && filtered
            && membership
            && is("init oom_score_adj", "300")
            && is("init CapEff", "0000000000000420")
            && is("init CapBnd", "0000000000000420")
    }
}

/// `init cgroup memory`, not `init cgroup memory memory.max`.
fn is_membership(name: &str) -> bool {
    name.strip_prefix("init cgroup ").is_some_and(|rest| !rest.contains(' '))
}

/// What is known of a run with a fault.
#[derive(Debug)]
pub struct Observed<'a> {
    pub ended: &'a Ended,
    pub hit: &'a Seen,
    pub fault: Fault,
    pub facts: &'a Facts,
    /// What there is of the container right after the command, before anybody removed it.
    pub at_once: &'a [String],
}

/// The verdict, and what it stands on.
pub fn judge(scenario: &Scenario, clean: &Clean, seen: &Observed<'_>) -> (Verdict, String) {
    let ended = seen.ended;
    let Some(code) = ended.code else { return (Verdict::Hang, String::new()) };
    if ended.stderr.contains("panicked at") || matches!(code, 132 | 134 | 135 | 136 | 139) {
        return (Verdict::Panic, String::new());
    }
    let killed = seen.fault == Fault::Kill;
    if killed && seen.hit.call.process == "0" {
        // What runs may run only as it did before or as it should.
        let is = |name: &str, wanted: &str| seen.facts.get(name).is_some_and(|it| it.starts_with(wanted));
        let runs = is("init comm", "sleep\n") || is("init cmdline", "/rt\n__init");
        let neither = neither(clean, seen.facts);
        return match runs && !neither.is_empty() {
            true => (Verdict::Weaker, neither),
            false => (Verdict::Refused, String::new()),
        };
    }
    let told = !ended.stderr.trim().is_empty()
        // A proof's verdict is an answer.
        || (scenario.after == After::Proved && ended.stdout.contains(": "))
        // Nobody can tell where that is what failed.
        || (matches!(seen.hit.call.name.as_str(), "write" | "writev") && seen.hit.arguments[0] == 2);
    if Some(code) == clean.ended.code {
        return same_code(scenario, clean, seen, told);
    }
    if code == 0 && scenario.code != 0 {
        return (Verdict::Weaker, "done, where it is to be refused".to_owned());
    }
    // What ran in the container was killed, and that is what is told.
    if killed && code == 137 && scenario.waits {
        return (Verdict::Refused, String::new());
    }
    if !told {
        return (Verdict::Mute, format!("exit {code}"));
    }
    if !seen.at_once.is_empty() {
        return (Verdict::Left, format!("exit {code}, at once: {}", seen.at_once.join(", ")));
    }
    let from_before = differences(&clean.before, seen.facts, "init ");
    let from_after = differences(&clean.after, seen.facts, "init ");
    let ended_on_the_way = seen.facts.get("alive").is_some_and(|alive| alive == "false")
        && (scenario.name == "start"
            || scenario.after.is_gone()
            || matches!(scenario.after, After::Ended | After::Created));
    if from_before.is_empty() || from_after.is_empty() || ended_on_the_way {
        return (Verdict::Refused, String::new());
    }
    (Verdict::Torn, from_before)
}

fn same_code(scenario: &Scenario, clean: &Clean, seen: &Observed<'_>, told: bool) -> (Verdict, String) {
    let differences = differences(&clean.after, seen.facts, "");
    if differences.is_empty() {
        return (Verdict::Clean, String::new());
    }
    let has = |facts: &Facts, who: &str| facts.keys().any(|name| name.starts_with(who));
    if ["init ", "exec "].iter().any(|who| has(&clean.after, who) && !has(seen.facts, who)) {
        // A container's process may end at any time, and a kill is no failure of the runtime's.
        return match seen.fault == Fault::Kill || told || seen.facts.contains_key("start") {
            true => (Verdict::Refused, String::new()),
            false => (Verdict::Mute, "exit 0, and nothing runs".to_owned()),
        };
    }
    if scenario.after.prints() && differences.starts_with("printed") {
        return match told {
            true => (Verdict::Refused, String::new()),
            false => (Verdict::Mute, differences),
        };
    }
    if self::differences(&excused(seen, &clean.after), &excused(seen, seen.facts), "").is_empty() {
        return (Verdict::Refused, String::new());
    }
    // The specification's word for poststop hooks: a warning, and the container is gone all the same. A run that cannot delete
    // what has ended, or set the terminal back, says so; its exit code is that of what ran.
    let may_differ: &[&str] = match scenario.after {
        After::Gone => &["hooks"],
        After::Over => &["hooks", "left", "terminal"],
        _ => &[],
    };
    if told
        && clean
            .after
            .iter()
            .all(|(name, value)| may_differ.contains(&name.as_str()) || seen.facts.get(name) == Some(value))
    {
        return (Verdict::Refused, String::new());
    }
    (Verdict::Weaker, differences)
}

/// The facts but for those that may be otherwise because that was said, and nothing that was asked for is lost.
fn excused(seen: &Observed<'_>, facts: &Facts) -> Facts {
    // What a process with a terminal says is printed there.
    let said = |words: &str| seen.ended.stderr.contains(words) || seen.ended.stdout.contains(words);
    // Without CAP_SETPCAP the bounding set stays; with no_new_privs nobody can use it.
    let bounding = said("CAP_SETPCAP") && seen.hit.call.name == "prctl";
    // v1's named hierarchies and the unified one of a hybrid host limit nothing.
    let grouping = said("has no cgroup of its own in hierarchies without limits");
    let has = |name: &str| {
        let hierarchy = name.split_once(" cgroup ").map(|(_, hierarchy)| hierarchy);
        let groups =
            hierarchy.is_some_and(|it| it.is_empty() || it.starts_with("name=") || it.starts_with(' '));
        let excused = (bounding && name.ends_with(" CapBnd")) || (grouping && groups);
        !excused
    };
    let has_line = |line: &&str| {
        let groups = line.ends_with(" cgroup2")
            || line.contains("name=")
            || ["/sys/fs/cgroup/systemd ", "/sys/fs/cgroup/unified "].iter().any(|at| line.starts_with(at));
        let bounds = line.starts_with("CapBnd:") || line.contains("CAP_SETPCAP");
        let excused = (bounding && bounds) || (grouping && groups);
        !excused
    };
    let value = |text: &String| text.lines().filter(has_line).collect::<Vec<_>>().join("\n");
    facts.iter().filter(|(name, _)| has(name)).map(|(name, text)| (name.clone(), value(text))).collect()
}

/// The facts whose name begins so that two runs do not share, with both values.
fn differences(wanted: &Facts, found: &Facts, prefix: &str) -> String {
    let names = wanted.keys().chain(found.keys().filter(|name| !wanted.contains_key(*name)));
    let mut lines = Vec::new();
    for name in names.filter(|name| name.starts_with(prefix)) {
        let [wanted, found] = [wanted, found].map(|facts| facts.get(name).map(String::as_str));
        if wanted != found {
            let [wanted, found] = lines_of_one(wanted.unwrap_or_default(), found.unwrap_or_default());
            lines.push(format!("{name}: {wanted:?} became {found:?}"));
        }
    }
    lines.join("; ")
}

/// The facts of the container's first process that are neither as before nor as after a run without a fault.
fn neither(clean: &Clean, found: &Facts) -> String {
    let as_before = |name: &str| clean.before.get(name) == found.get(name) && found.contains_key(name);
    let changed = found.keys().filter(|name| name.starts_with("init ") && !as_before(name));
    let wrong: Vec<_> = changed.filter(|name| clean.after.get(*name) != found.get(*name)).cloned().collect();
    wrong.join("; ")
}

/// The lines that only one of both has.
fn lines_of_one(one: &str, other: &str) -> [String; 2] {
    let only = |text: &str, without: &str| {
        text.lines()
            .filter(|line| !without.lines().any(|other| other == *line))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    [only(one, other), only(other, one)]
}
