//! Every command is killed at each of its system calls, and each call fails once: what runs then is as it was asked for or does
//! not run, the failure is told, and `delete --force` leaves nothing.
//!
//! `RT_FAULTS=all` tries every point, `RT_FAULTS=N` that many (600 without it), `RT_FAULTS=SCENARIO` those of one; `RT_FAULT=POINT`
//! one, with all that is known of it. `RT_FAULTS_PAGE` names a page whose table gets the counts.
#![cfg(target_arch = "x86_64")]

mod bundle;
mod campaign;
mod census;
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
use judge::Verdict;
use point::Point;

/// How many points are tried on every change: here, and in a guest, which is slow.
const SAMPLE: usize = 600;
const SAMPLE_IN_GUEST: usize = 100;

/// A sample takes two minutes on two busy processors.
const TIME_OF_SAMPLE: Duration = Duration::from_secs(480);

#[test]
fn no_fault_makes_a_container_weaker_or_leaves_something() {
    if !common::needs_root() {
        return;
    }
    let one: Option<Point> = std::env::var("RT_FAULT").ok().map(|text| text.parse().expect("a point"));
    let asked = std::env::var("RT_FAULTS").unwrap_or_default();
    let named = scenario::ALL.iter().any(|scenario| scenario.name == asked);
    let recorded = campaign::record(&|scenario| match &one {
        Some(point) => point.scenario == scenario.name,
        None => (scenario.common || is_rt()) && (!named || scenario.name == asked),
    });
    if let Some(point) = one {
        return show(&recorded, point);
    }
    let start = Instant::now();
    let points = chosen(&recorded, if named { "all" } else { &asked });
    let (wanted, workers) =
        (points.len(), std::thread::available_parallelism().map_or(1, |n| n.get().min(4)));
    let deadline = (wanted <= SAMPLE).then(|| start + TIME_OF_SAMPLE);
    let findings = campaign::run(&recorded, points, workers, deadline);
    report(&recorded, &findings, wanted, start.elapsed());
    let name = name_and_version();
    let row = table::row(&name, &findings);
    eprintln!("{row}");
    if let Some(page) = std::env::var_os("RT_FAULTS_PAGE").filter(|page| !page.is_empty()) {
        table::write(page.as_ref(), &name, &row);
    }
    let bad: Vec<&Finding> = findings.iter().filter(|finding| !finding.verdict.is_good()).collect();
    assert!(findings.len() == wanted, "{} of {wanted} points in {TIME_OF_SAMPLE:?}", findings.len());
    assert!(bad.is_empty(), "{} of {} points are bad", bad.len(), findings.len());
}

fn is_rt() -> bool {
    common::Sandbox::binary().file_name().is_some_and(|name| name == "rt")
}

fn in_guest() -> bool {
    std::env::var("RT_GUEST").is_ok_and(|guest| guest != "host")
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

/// All points, or a sample of them that is the same on every run.
fn chosen(recorded: &[Recorded], asked: &str) -> Vec<Point> {
    let mut points: Vec<Point> = recorded.iter().flat_map(|of| of.points.clone()).collect();
    let count = match asked {
        "all" => return points,
        "" if in_guest() => SAMPLE_IN_GUEST,
        "" => SAMPLE,
        number => number.parse().expect("a number of points"),
    };
    points.sort_by_cached_key(Point::rank);
    points.truncate(count);
    points
}

/// One point, with all that is known of it.
fn show(recorded: &[Recorded], point: Point) {
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
    for finding in findings.iter().filter(|finding| !finding.verdict.is_good()) {
        eprintln!(
            "{:?} at RT_FAULT={}: {} ({})",
            finding.verdict,
            finding.point,
            finding.why,
            finding.stderr.trim().replace('\n', " | ")
        );
    }
    eprintln!("{} of {wanted} points in {:.1} s", findings.len(), took.as_secs_f64());
}
