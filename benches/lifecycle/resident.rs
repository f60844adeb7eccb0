//! What stays in memory of a runtime while its containers run detached.

use std::fs;

use nix::unistd::Pid;

use crate::held::Held;
use crate::runtimes::Runtime;
use crate::setting::{self, Setting};
use crate::table::{Mark, Row};

const CONTAINERS: usize = 10;

pub fn rows(setting: &Setting, runtimes: &[Runtime]) -> Vec<Row> {
    let (mut count, mut bytes) = (Vec::new(), Vec::new());
    for runtime in runtimes {
        let held = Held::start(setting, runtime, &setting.bundles.plain_sleeping, CONTAINERS);
        setting::reap();
        // Whatever a runtime leaves behind has become a child of this process, as the containers' own have.
        let mut left = setting::children();
        left.retain(|pid| !held.inits.contains(pid));
        count.push(left.len() as f64);
        bytes.push(left.iter().fold(0.0, |sum, &pid| sum + smaps(pid, "Rss:")) / CONTAINERS as f64);
    }
    // Pages of a program that was just built and is not on the disk yet would count as changed.
    nix::unistd::sync();
    let inits: Vec<_> = runtimes.iter().map(|r| r.is_rt().then(|| default_init(setting, r))).collect();
    let of = |what: usize| inits.iter().map(|init| init.map(|kib| kib[what])).collect::<Vec<_>>();
    vec![
        Row::new(format!("processes of the runtime beside {CONTAINERS} detached containers"), "", count)
            .mark(Mark::AtMost(0.0)),
        Row::new("– their memory, a container", "KiB", bytes).mark(Mark::AtMost(0.0)),
        Row::of_some("init of a container from nothing: anonymous memory", "KiB", of(0))
            .mark(Mark::AtMost(256.0)),
        Row::of_some("– private memory that it changed", "KiB", of(1)).mark(Mark::AtMost(256.0)),
    ]
}

/// Anonymous and changed private memory of the init that is rt itself, in KiB.
fn default_init(setting: &Setting, runtime: &Runtime) -> [f64; 2] {
    let id = setting.id(runtime, "nothing");
    let folder = setting.file("nothing");
    fs::create_dir_all(&folder).expect("an empty folder");
    let pid_file = setting.file("pid-nothing");
    let mut create =
        setting.command(runtime, &["create", "--pid-file", &pid_file.display().to_string(), &id, "--ram=16"]);
    assert!(create.current_dir(&folder).status().is_ok_and(|s| s.success()), "create of {id}");
    setting.milliseconds(runtime, &["start", &id]);
    let init = crate::lives::read_pid(&pid_file).expect("a pid");
    let found = ["Anonymous:", "Private_Dirty:"].map(|what| smaps(init, what));
    setting.milliseconds(runtime, &["delete", "--force", &id]);
    setting::reap();
    found
}

fn smaps(pid: Pid, what: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}
