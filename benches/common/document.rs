//! What a benchmark writes into a document: the part between its own two marks.

use std::fs;
use std::path::Path;

/// Replaces what stands between the marks of `name`, or appends both.
pub fn write_between(document: &Path, name: &str, text: &str) {
    let (begin, end) = (format!("<!-- `make bench` writes: {name} -->\n"), format!("<!-- end: {name} -->\n"));
    let old = fs::read_to_string(document).unwrap_or_default();
    let (before, after) = match (old.split_once(&begin), old.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => (before.to_owned(), after.to_owned()),
        _ => (old, String::new()),
    };
    fs::write(document, format!("{before}{begin}\n{text}\n{end}{after}")).expect("the document");
}

/// The machine, for the reader of a table.
pub fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory_v1 = Path::new("/sys/fs/cgroup/memory").exists();
    format!(
        "Linux {}, {cpus} CPUs, memory controller on cgroup {}",
        kernel.trim(),
        if memory_v1 { "v1" } else { "v2" }
    )
}

/// The median; of an even number the upper one.
#[allow(dead_code, reason = "the other benchmark has durations")]
pub fn median<T: PartialOrd + Copy>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("comparable"));
    sorted[sorted.len() / 2]
}
