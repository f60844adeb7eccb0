//! Many lives by several callers at once: how many a second, and how many fail.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::lives;
use crate::rounds::Random;
use crate::runtimes::Runtime;
use crate::setting::{self, Setting};
use crate::table::{Mark, Row};

const CALLERS: [usize; 3] = [2, 8, 32];

pub fn rows(setting: &Setting, runtimes: &[Runtime], containers: usize) -> Vec<Row> {
    let mut random = Random::new();
    let mut rows = Vec::new();
    for callers in CALLERS {
        let (mut rates, mut failed) = (vec![0.0; runtimes.len()], vec![0.0; runtimes.len()]);
        for index in random.order(runtimes.len()) {
            let (rate, failures) = lives_by(setting, &runtimes[index], callers, containers);
            if let Some(first) = failures.first() {
                eprintln!("{callers} callers, {} failures, the first: {first}", failures.len());
            }
            (rates[index], failed[index]) = (rate, failures.len() as f64);
        }
        let what = format!("{containers} lives by {callers} callers");
        rows.push(Row::new(what, "a second", rates).mark(Mark::RatioAtLeast(1.5)));
        rows.push(Row::new("– of them failed", "", failed).mark(Mark::AtMost(0.0)));
    }
    rows
}

/// Lives that succeeded a second, and what the others died of.
fn lives_by(setting: &Setting, runtime: &Runtime, callers: usize, containers: usize) -> (f64, Vec<String>) {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let caller = || {
        while let n = next.fetch_add(1, Ordering::Relaxed)
            && n < containers
        {
            let id = setting.id(runtime, format_args!("of-many-{n}"));
            if let Err(error) = lives::live(setting, &setting.bundles.plain, runtime, &id) {
                failures.lock().unwrap().push(error);
            }
        }
    };
    let begin = Instant::now();
    std::thread::scope(|scope| (0..callers).for_each(|_| drop(scope.spawn(caller))));
    let seconds = begin.elapsed().as_secs_f64();
    setting::reap();
    let failures = failures.into_inner().unwrap();
    ((containers - failures.len()) as f64 / seconds, failures)
}
