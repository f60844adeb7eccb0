//! Every command is killed at each of its system calls, and each call fails once: what runs then is as it was asked for or does
//! not run, the failure is told, and `delete --force` leaves nothing.
//!
//! `RT_FAULTS` says which points: `all`, or how many (600 without it), and before that the scenarios that they are of
//! (`restore,checkpoint,200`); a scenario alone means all of its points. `RT_FAULT=POINT` tries one, with all that is known of it.
//! `RT_FAULTS_PAGE` names a page whose table gets the counts.
#![cfg(target_arch = "x86_64")]

mod bundle;
mod campaign;
mod census;
mod choice;
mod command;
#[path = "../common/mod.rs"]
mod common;
mod fault;
mod judge;
mod point;
mod scenario;
mod table;
mod tracer;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use campaign::{Finding, Recorded};
use choice::{Choice, SAMPLE};
use judge::Verdict;
use point::Point;

/// A sample takes two minutes on two busy processors.
const TIME_OF_SAMPLE: Duration = Duration::from_secs(480);

/// criu is in a guest whose processor is emulated: a point takes 20 seconds there.
const SAMPLE_WITH_CRIU: &str = "checkpoint,restore,10";

#[test]
fn no_fault_makes_a_container_weaker_or_leaves_something() {
    if !common::needs_root() {
        return;
    }
    if let Some(name) = asked("RT_FAULT") {
        return show(name.parse().expect("a point"));
    }
    let asked = asked("RT_FAULTS");
    let choice = Choice::of(asked.as_deref().unwrap_or_default());
    let wants_criu = asked.is_some() && scenario::ALL.iter().any(|s| s.criu && choice.has(s.name));
    try_all(&choice, wants_criu && common::needs_criu());
}

#[test]
fn no_fault_loses_what_is_saved_or_restored() {
    // The other test has them then.
    if asked("RT_FAULT").or(asked("RT_FAULTS")).is_some() || !common::needs_root() || !common::needs_criu() {
        return;
    }
    try_all(&Choice::of(SAMPLE_WITH_CRIU), true);
}

fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn try_all(choice: &Choice, criu: bool) {
    let recorded = campaign::record(&|scenario| {
        (scenario.common || is_rt()) && choice.has(scenario.name) && (!scenario.criu || criu)
    });
    let start = Instant::now();
    let points = choice.points(recorded.iter().flat_map(|of| of.points.clone()).collect());
    let (wanted, workers) =
        (points.len(), std::thread::available_parallelism().map_or(1, |n| n.get().min(4)));
    let deadline = (wanted <= SAMPLE).then(|| start + TIME_OF_SAMPLE);
    let findings = campaign::run(&recorded, points, workers, deadline);
    report(&recorded, &findings, wanted, start.elapsed());
    let name = name_and_version();
    let row = table::row(&name, &findings);
    eprintln!("{row}");
    if let Some(page) = asked("RT_FAULTS_PAGE") {
        table::write(page.as_ref(), &name, &row);
    }
    let bad: Vec<&Finding> = findings.iter().filter(|finding| !finding.verdict.is_good()).collect();
    assert!(findings.len() == wanted, "{} of {wanted} points in {TIME_OF_SAMPLE:?}", findings.len());
    assert!(bad.is_empty(), "{} of {} points are bad", bad.len(), findings.len());
}

fn is_rt() -> bool {
    common::Sandbox::binary().file_name().is_some_and(|name| name == "rt")
}

/// `runc 1.1.5`, as the first line of `--version` has it.
fn name_and_version() -> String {
    let said = common::Run::new(common::Sandbox::binary()).arg("--version").ok().stdout;
    let words: Vec<&str> = said.lines().next().unwrap_or_default().split_whitespace().collect();
    match words.as_slice() {
        [name, "version", version, ..] => format!("{name} {version}"),
        [name, version, ..] => format!("{name} {version}"),
        _ => "?".to_owned(),
    }
}

/// One point, with all that is known of it.
fn show(point: Point) {
    let recorded = campaign::record(&|scenario| scenario.name == point.scenario);
    let of = recorded.first().expect("a scenario of that name");
    let mut world = world::World::new(of.scenario.kind);
    let (finding, _) = campaign::try_point(&mut world, of, point);
    assert!(finding.verdict.is_good(), "{finding:#?}");
    eprintln!("{finding:#?}");
}

fn report(recorded: &[Recorded], findings: &[Finding], wanted: usize, took: Duration) {
    let mut counts: BTreeMap<(&str, Verdict), u32> = BTreeMap::new();
    for finding in findings {
        *counts.entry((finding.point.scenario.as_str(), finding.verdict)).or_default() += 1;
    }
    for of in recorded {
        let cells: Vec<String> = Verdict::ALL
            .iter()
            .filter_map(|verdict| {
                counts.get(&(of.scenario.name, *verdict)).map(|n| format!("{verdict:?} {n}"))
            })
            .collect();
        eprintln!("{}: {} points; {}", of.scenario.name, of.points.len(), cells.join(", "));
    }
    eprintln!("{} of {wanted} points in {:.1} s", findings.len(), took.as_secs_f64());
}
