//! Structured fuzz: a valid config with one change, and valid command lines with one change. Whatever it is, the runtime ends,
//! does not panic, says why where it fails, does what was asked where it does not, and leaves nothing after `delete --force`.
//!
//! `RT_FUZZ_COUNT` and `RT_FUZZ_SEED` choose the mutants, `RT_FUZZ_ONLY` those with a word in their name, `RT_FUZZ_BESIDE` a
//! runtime whose answers are compared.

#[path = "../common/mod.rs"]
mod common;

mod base;
mod configs;
mod lines;
mod mutate;
mod oracle;
mod subject;
mod table;

use std::path::PathBuf;

use common::{needs_root, needs_rt};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use table::Table;

/// Mutants of a run of the tests; `make fuzz` makes more.
const CONFIGS: usize = 700;
const COMMAND_LINES: usize = 300;
const SEED: u64 = 16;
const WORKERS: usize = 2;

fn setting<T: std::str::FromStr>(name: &str, usual: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Mounts that a mutant leaves are in no other namespace than the thread's.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
}

fn beside() -> Option<PathBuf> {
    std::env::var_os("RT_FUZZ_BESIDE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Tries some of `all`, chosen by the seed, with as many workers as this machine has processors for tests.
fn fuzz<T: Sync + ToString>(mut all: Vec<T>, usual: usize, work: impl Fn(&[T]) -> Table + Sync) {
    let only: String = setting("RT_FUZZ_ONLY", String::new());
    all.retain(|change| change.to_string().contains(&only));
    println!("{} changes are possible", all.len());
    let chosen = common::random::sample(all, setting("RT_FUZZ_SEED", SEED), setting("RT_FUZZ_COUNT", usual));
    let mut table = Table::default();
    std::thread::scope(|scope| {
        let parts = chosen.chunks(chosen.len().div_ceil(WORKERS));
        let workers = parts.map(|part| {
            scope.spawn(|| {
                own_mounts();
                work(part)
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            table.merge(worker.join().expect("a worker"));
        }
    });
    println!("{table}");
    table.differences.iter().chain(&table.theirs).for_each(|line| println!("{}", line.replace('\0', "\\0")));
    assert!(table.faults.is_empty(), "{}", table.faults.join("\n"));
}

#[test]
fn a_config_with_one_change_is_in_force_or_refused_aloud() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let field = configs::Configs::new(None);
    let unchanged = field.unchanged();
    assert!(unchanged.taken && unchanged.faults.is_empty(), "{}: {:?}", unchanged.said, unchanged.faults);
    fuzz(field.mutations(), CONFIGS, |part| {
        let field = configs::Configs::new(beside().as_deref());
        let mut table = Table::default();
        part.iter().for_each(|mutation| field.try_one(mutation, &mut table));
        table
    });
}

#[test]
fn a_command_line_with_one_change_ends_without_harm() {
    if !needs_root() || !needs_rt() {
        return;
    }
    fuzz(lines::all(), COMMAND_LINES, |part| {
        let mut field = lines::Lines::new(beside().as_deref());
        let mut table = Table::default();
        part.iter().for_each(|line| field.try_one(line, &mut table));
        table
    });
}
