//! The results as Markdown, and their place in the document.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::lives::Life;
use crate::setting::Runtime;

const BEGIN: &str = "<!-- written by `make bench` -->\n";
const END: &str = "<!-- end of what `make bench` writes -->\n";

/// `lives` has one entry a bundle, each with one life a runtime; `peaks` is in KiB, `smallest` in bytes.
pub fn render(
    runtimes: &[Runtime],
    lives: &[(&str, Vec<Life>)],
    peaks: &[i64],
    smallest: &[u64],
    rounds: usize,
) -> String {
    let mut text = format!("Medians of {rounds} shuffled rounds, milliseconds; {}.\n\n", machine());
    for (bundle, lives) in lives {
        let reference = runtimes.iter().position(|r| r.name == "crun").map(|i| lives[i].whole);
        text += "| bundle | runtime | create | start | delete | whole life | against crun |\n|---|---|---:|---:|---:|---:|---:|\n";
        for (runtime, life) in runtimes.iter().zip(lives) {
            let ratio = reference
                .map_or("–".to_owned(), |r| format!("{:.2}", life.whole.as_secs_f64() / r.as_secs_f64()));
            let Runtime { name, version, .. } = runtime;
            let [create, start, delete, whole] =
                [life.create, life.start, life.delete, life.whole].map(milliseconds);
            writeln!(
                text,
                "| {bundle} | {name} {version} | {create} | {start} | {delete} | {whole} | {ratio} |"
            )
            .unwrap();
        }
        text += "\n";
    }
    text += "| runtime | peak memory of create, MiB | smallest memory limit that starts, KiB |\n|---|---:|---:|\n";
    for ((runtime, peak), smallest) in runtimes.iter().zip(peaks).zip(smallest) {
        let mebibytes = *peak as f64 / 1024.0;
        writeln!(text, "| {} {} | {mebibytes:.1} | {} |", runtime.name, runtime.version, smallest / 1024)
            .unwrap();
    }
    text
}

/// What sealing costs, as a sentence.
pub fn seal(cost: Duration) -> String {
    format!(
        "\nThe protection of rt's binary against being overwritten from a container costs create, run and exec {:.2} ms each \
         (a create that ends right after it, less a command that goes without).\n",
        cost.as_secs_f64() * 1000.0
    )
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory_v1 = Path::new("/sys/fs/cgroup/memory").exists();
    format!(
        "Linux {}, {cpus} CPUs, memory controller on cgroup {}",
        kernel.trim(),
        if memory_v1 { "v1" } else { "v2" }
    )
}

/// Replaces what stands between the two marks, or appends both.
pub fn write_into(document: &Path, text: &str) {
    let old = fs::read_to_string(document).unwrap_or_default();
    let (before, after) = match (old.split_once(BEGIN), old.split_once(END)) {
        (Some((before, _)), Some((_, after))) => (before.to_owned(), after.to_owned()),
        _ => (old, String::new()),
    };
    fs::write(document, format!("{before}{BEGIN}\n{text}\n{END}{after}")).expect("the document");
}
