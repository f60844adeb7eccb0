//! The prover's accuracy and cost, beside loops in C and stress-ng: `cargo bench --bench prover`.
//! Every proof is of a fresh cgroup; all memory is in 4 KiB pages.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

mod accuracy;
#[path = "../../tests/proof/cgroup.rs"]
#[allow(dead_code, reason = "the benchmark needs few of a test's cgroups")]
mod cgroup;
mod cost;
#[path = "../common/document.rs"]
mod document;
mod fill;
mod life;

const DOCUMENT: &str = "docs/performance.md";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    assert!(nix::unistd::geteuid().is_root(), "the benchmark needs root: it makes cgroups");
    let text = format!(
        "Medians; {}.\n\n{}\n{}\n{}\n{}",
        document::machine(),
        accuracy::table(),
        fill::table(),
        cost::table(),
        life::table()
    );
    println!("{text}");
    if !args.iter().any(|a| a == "--dry-run") {
        document::write_between(DOCUMENT.as_ref(), "the prover", &text);
    }
}
