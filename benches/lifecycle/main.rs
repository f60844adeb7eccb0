//! create + start + delete of `true` under rt, runc and crun, side by side: `cargo bench --bench lifecycle`.
//!
//! All run in one private mount namespace without the unified hierarchy of a hybrid host, which crun refuses.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

#[path = "../common/document.rs"]
mod document;
mod lives;
mod memory;
mod seal;
mod setting;
mod table;

use setting::{Runtime, Setting};

const DEFAULT_ROUNDS: usize = 50;
const DOCUMENT: &str = "docs/performance.md";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.first().is_some_and(|a| a == memory::PEAK_OF) {
        return memory::print_peak_of(&args[1..]);
    }
    let rounds = number_after(&args, "--rounds").unwrap_or(DEFAULT_ROUNDS);
    assert!(nix::unistd::geteuid().is_root(), "the benchmark needs root: it runs containers");

    setting::leave_unified_hierarchy();
    let setting = Setting::new();
    let runtimes: Vec<Runtime> = setting::runtimes();
    let lives: Vec<_> =
        setting.bundles().iter().map(|b| (b.name, lives::measure(&setting, b, &runtimes, rounds))).collect();
    let peaks = runtimes.iter().map(|r| memory::peak_of_create(&setting, r)).collect::<Vec<_>>();
    let smallest = runtimes.iter().map(|r| memory::smallest_limit(&setting, r)).collect::<Vec<_>>();

    let mut text = table::render(&runtimes, &lives, &peaks, &smallest, rounds);
    text += &table::seal(seal::cost(&setting, &runtimes[0], rounds));
    println!("{text}");
    if !args.iter().any(|a| a == "--dry-run") {
        document::write_between(DOCUMENT.as_ref(), "life cycle", &text);
    }
}

fn number_after(args: &[String], flag: &str) -> Option<usize> {
    let at = args.iter().position(|a| a == flag)?;
    Some(args.get(at + 1)?.parse().expect("a number of rounds"))
}
