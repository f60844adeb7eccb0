//! One container among many: `state`, `kill`, and `list` of all. Every runtime has its own many at the same time.

use crate::document::median;
use crate::held::Held;
use crate::rounds::{Random, shuffled};
use crate::runtimes::Runtime;
use crate::setting::Setting;
use crate::table::{Mark, Row};

/// A list takes so much longer than the others that fewer will do.
const LISTS: usize = 15;

pub fn rows(setting: &Setting, runtimes: &[Runtime], rounds: usize, containers: usize) -> Vec<Row> {
    let bundle = &setting.bundles.many;
    let held: Vec<_> = runtimes.iter().map(|r| Held::start(setting, r, bundle, containers)).collect();
    let row = |what: String, rounds: usize, one: &mut dyn FnMut(usize) -> f64| {
        let times = shuffled(rounds, runtimes.len(), one);
        let medians = times.iter().map(|all| median(all)).collect();
        Row::new(what, "ms", medians).mark(Mark::RatioAtMost(0.80))
    };
    let mut random = Random::new();
    let mut one_of = |index: usize, args: &[&str]| {
        let id = held[index].ids[random.below(containers)].as_str();
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "ID" { id } else { arg }).collect();
        setting.milliseconds(&runtimes[index], &args)
    };
    vec![
        row(format!("state of one among {containers}"), rounds, &mut |i| one_of(i, &["state", "ID"])),
        row(format!("kill (signal 0) of one among {containers}"), rounds, &mut |i| {
            one_of(i, &["kill", "ID", "0"])
        }),
        row(format!("list of {containers}"), rounds.min(LISTS), &mut |i| one_of(i, &["list"])),
    ]
}
