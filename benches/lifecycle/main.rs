//! Containers under rt, crun and runc, side by side: `cargo bench --bench lifecycle`.
//!
//! Prints one table with a row a measurement and rt's ratio to the reference, beside the mark that rt sets itself. No mark fails
//! anything: a busy machine would.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

#[path = "../common/document.rs"]
mod document;
mod exec;
mod floor;
mod held;
mod lives;
mod many;
mod memory;
mod outside;
mod parallel;
mod resident;
mod rounds;
mod runtimes;
mod seal;
mod setting;
mod table;

use std::path::Path;
use std::process::ExitCode;

use runtimes::Runtime;
use setting::Setting;
use table::Row;

const DOCUMENT: &str = "docs/performance.md";
const PARTS: [&str; 8] = ["lives", "exec", "many", "peaks", "smallest", "parallel", "resident", "floor"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.first().map(String::as_str) {
        Some(memory::PEAK_OF) => memory::print_peak_of(&args[1..]),
        Some(outside::INSIDE) => measure(Path::new(&args[1]), &args[2..]),
        _ => return outside::run(&args),
    }
    ExitCode::SUCCESS
}

/// All measurements, in the process that may be interrupted: who waits for it cleans up.
fn measure(folder: &Path, args: &[String]) {
    let rounds = after(args, "--rounds").map_or(50, number);
    let containers = after(args, "--containers").map_or(1000, number);
    let only = after(args, "--only").map(|list| list.split(',').collect::<Vec<_>>());
    for part in only.iter().flatten() {
        assert!(PARTS.contains(part), "no part '{part}': {}", PARTS.join(", "));
    }
    let runtimes = runtimes::all();
    let setting = Setting::new(folder, &runtimes);
    let mut rows = Vec::new();
    for part in PARTS.iter().filter(|part| only.as_ref().is_none_or(|only| only.contains(part))) {
        eprintln!("lifecycle: {part} …");
        rows.extend(rows_of(part, &setting, &runtimes, rounds, containers));
    }
    let mut text = table::render(&runtimes, &rows, rounds, containers);
    if only.is_none() {
        text += &table::seal(seal::cost(&setting, &runtimes[0], rounds));
    }
    println!("{text}");
    if only.is_none() && !args.iter().any(|a| a == "--dry-run") {
        document::write_between(DOCUMENT.as_ref(), "life cycle", &text);
    }
}

fn rows_of(
    part: &str,
    setting: &Setting,
    runtimes: &[Runtime],
    rounds: usize,
    containers: usize,
) -> Vec<Row> {
    match part {
        "lives" => lives::rows(setting, runtimes, rounds),
        "exec" => exec::rows(setting, runtimes, rounds),
        "many" => many::rows(setting, runtimes, rounds, containers),
        "peaks" => memory::peaks(setting, runtimes),
        "smallest" => memory::smallest_limits(setting, runtimes),
        "parallel" => parallel::rows(setting, runtimes, containers),
        "resident" => resident::rows(setting, runtimes),
        _ => floor::rows(setting, runtimes, rounds),
    }
}

fn after<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    let at = args.iter().position(|a| a == flag)?;
    Some(args.get(at + 1).unwrap_or_else(|| panic!("{flag} needs a value")))
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is no number"))
}
