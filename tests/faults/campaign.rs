//! Lists the points of all scenarios from runs without faults, tries those that are asked for on two workers, and counts.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::bundle::Kind;
use super::command::Ended;
use super::fault::{self, Fault};
use super::judge::{Clean, Observed, Verdict, judge};
use super::point::Point;
use super::scenario::{ALL, After, Before, Scenario};
use super::table;
use super::world::World;

/// After how many points a run says where it is.
const TOLD_EVERY: usize = 200;

/// One point that was tried.
#[derive(Debug)]
pub struct Finding {
    pub point: Point,
    pub verdict: Verdict,
    pub why: String,
    pub stderr: String,
}

impl Finding {
    /// A run of an hour says at once what it finds.
    fn tell(&self) {
        if !self.verdict.is_good() {
            let stderr = self.stderr.trim().replace('\n', " | ");
            eprintln!("{:?} at RT_FAULT={}: {} ({stderr})", self.verdict, self.point, self.why);
        }
    }
}

/// A scenario, its run without a fault, and the points of it.
#[derive(Debug)]
pub struct Recorded {
    pub scenario: &'static Scenario,
    pub clean: Clean,
    pub points: Vec<Point>,
}

/// The scenarios that this runtime has, and in a guest without user namespaces only those without.
pub fn record(wanted: &dyn Fn(&Scenario) -> bool) -> Vec<Recorded> {
    let mut recorded = Vec::new();
    let mut world: Option<World> = None;
    for scenario in ALL.iter().filter(|scenario| wanted(scenario)) {
        let mut here =
            world.take().filter(|w| w.kind() == scenario.kind).unwrap_or_else(|| World::new(scenario.kind));
        let found = record_one(scenario, &mut here);
        assert!(
            found.clean.is_as_asked(scenario.kind),
            "{} makes less than it is asked for: {:#?}",
            scenario.name,
            found.clean
        );
        recorded.push(found);
        world = Some(here);
    }
    recorded
}

fn record_one(scenario: &'static Scenario, world: &mut World) -> Recorded {
    world.prepare(scenario.before);
    let before =
        if matches!(scenario.before, Before::Created | Before::Running | Before::Paused | Before::Proved) {
            let nothing = Ended { code: None, stdout: String::new(), stderr: String::new(), terminal: None };
            world.look(&Scenario { after: After::Runs, ..*scenario }, &nothing)
        } else {
            Default::default()
        };
    let (ended, trace) = world.trace(scenario, None);
    assert!(ended.code == Some(scenario.code), "{} without a fault: {ended:?}", scenario.name);
    let after = world.look(scenario, &ended);
    if scenario.after.has_process() || scenario.after == After::Over {
        assert!(
            scenario.kind == Kind::Nothing || after.get("inside").is_some_and(|text| text.ends_with("end\n")),
            "{}: {after:#?}",
            scenario.name
        );
        assert!(
            after.contains_key("init Seccomp") != (scenario.after == After::Over),
            "{}: {after:#?}",
            scenario.name
        );
    }
    let left = world.remove();
    assert!(left.is_empty(), "{} without a fault left {left:?}; {ended:?}", scenario.name);
    let mut points = Vec::new();
    let mut seen = HashSet::new();
    for call in trace.calls {
        if call.call.nth > scenario.at_most {
            continue;
        }
        for fault in fault::at_call(&call.call.name, &call.arguments) {
            let point = Point { scenario: scenario.name.to_owned(), call: call.call.clone(), fault };
            if seen.insert(point.to_string()) {
                points.push(point);
            }
        }
    }
    Recorded { scenario, clean: Clean { ended, before, after }, points }
}

/// Tries all of them until `deadline`; what was not tried by then is not in the answer.
pub fn run(
    recorded: &[Recorded],
    points: Vec<Point>,
    workers: usize,
    deadline: Option<Instant>,
) -> Vec<Finding> {
    let queue = Mutex::new(VecDeque::from(points));
    let findings = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(recorded, &queue, &findings, deadline));
        }
    });
    findings.into_inner().expect("no worker panics with it")
}

fn work(
    recorded: &[Recorded],
    queue: &Mutex<VecDeque<Point>>,
    findings: &Mutex<Vec<Finding>>,
    deadline: Option<Instant>,
) {
    let mut worlds: BTreeMap<Kind, World> = BTreeMap::new();
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let Some(point) = queue.lock().expect("a queue").pop_front() else { return };
        let Some(of) = recorded.iter().find(|r| r.scenario.name == point.scenario) else { continue };
        let kind = of.scenario.kind;
        let mut world = worlds.remove(&kind).unwrap_or_else(|| World::new(kind));
        let (finding, clean) = try_point(&mut world, of, point);
        finding.tell();
        // What is left would be found again and again.
        if clean {
            worlds.insert(kind, world);
        }
        let mut findings = findings.lock().expect("a list");
        findings.push(finding);
        if findings.len().is_multiple_of(TOLD_EVERY) {
            eprintln!("{}", table::row("so far", &findings));
        }
    }
}

/// Also whether the world can be used again.
pub fn try_point(world: &mut World, of: &Recorded, point: Point) -> (Finding, bool) {
    let scenario = of.scenario;
    world.prepare(scenario.before);
    let (ended, trace) = world.trace(scenario, Some((point.call.clone(), point.fault)));
    let Some(hit) = trace.hit else {
        let left = world.remove();
        let verdict = if ended.code.is_none() { Verdict::Hang } else { Verdict::Unreached };
        return (Finding { point, verdict, why: String::new(), stderr: ended.stderr }, left.is_empty());
    };
    let by_itself = !(point.fault == Fault::Kill && point.call.process == "0");
    let failed = by_itself && ended.code != of.clean.ended.code;
    let mut at_once = if matches!(scenario.before, Before::Nothing | Before::Saved) && failed {
        world.left_in_a_moment()
    } else {
        Vec::new()
    };
    if failed && ended.terminal != of.clean.ended.terminal {
        at_once.push("the terminal in other modes".to_owned());
    }
    let mut facts = world.look(scenario, &ended);
    let mut observed =
        Observed { ended: &ended, hit: &hit, fault: point.fault, facts: &facts, at_once: &at_once };
    let (mut verdict, mut why) = judge(scenario, &of.clean, &observed);
    // What comes a moment later is no fault.
    let since = Instant::now();
    while !verdict.is_good()
        && since.elapsed() < Duration::from_millis(500)
        && scenario.after != After::Created
    {
        std::thread::sleep(Duration::from_millis(50));
        let again = world.look(scenario, &ended);
        facts = again;
        observed =
            Observed { ended: &ended, hit: &hit, fault: point.fault, facts: &facts, at_once: &at_once };
        (verdict, why) = judge(scenario, &of.clean, &observed);
    }
    let left = world.remove();
    if !left.is_empty() && verdict < Verdict::Left {
        (verdict, why) = (Verdict::Left, left.join(", "));
    }
    (Finding { point, verdict, why, stderr: ended.stderr }, left.is_empty())
}
