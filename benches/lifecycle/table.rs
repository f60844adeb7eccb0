//! The results as Markdown.

use std::fmt::Write;
use std::time::Duration;

use crate::document;
use crate::lives::Life;
use crate::setting::Runtime;

/// `lives` has one entry a bundle, each with one life a runtime; `peaks` is in KiB, `smallest` in bytes.
pub fn render(
    runtimes: &[Runtime],
    lives: &[(&str, Vec<Life>)],
    peaks: &[i64],
    smallest: &[u64],
    rounds: usize,
) -> String {
    let mut text = format!("Medians of {rounds} shuffled rounds, milliseconds; {}.\n\n", document::machine());
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
