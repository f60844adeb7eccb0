//! `exec` of `true` in a running container.

use crate::document::median;
use crate::held::Held;
use crate::rounds::shuffled;
use crate::runtimes::Runtime;
use crate::setting::Setting;
use crate::table::{Mark, Row};

pub fn rows(setting: &Setting, runtimes: &[Runtime], rounds: usize) -> Vec<Row> {
    let bundle = &setting.bundles.full_sleeping;
    let held: Vec<_> = runtimes.iter().map(|r| Held::start(setting, r, bundle, 1)).collect();
    let times = shuffled(rounds, runtimes.len(), |index| {
        setting.milliseconds(&runtimes[index], &["exec", &held[index].ids[0], "true"])
    });
    let medians = times.iter().map(|all| median(all)).collect();
    vec![Row::new("exec of `true`, seccomp and limits", "ms", medians).mark(Mark::RatioAtMost(0.60))]
}
