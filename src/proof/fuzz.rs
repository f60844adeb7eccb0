//! Records and their file from any text.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::journal::{FILE, MAX_BYTES, append_line, latest, newest};
use super::record::Record;

fn counters() -> impl Strategy<Value = Value> {
    (any::<[u64; 5]>(), any::<Option<u64>>()).prop_map(|([usage, swap, kills, hits, high], peak)| {
        json!({"usage_bytes": usage, "peak_bytes": peak, "swap_bytes": swap, "oom_kill": kills, "limit_hits": hits, "high": high})
    })
}

/// A record of schema 1 as JSON, with the fields that a proof of that version had from the first.
fn record() -> impl Strategy<Value = Value> {
    let words = ("\\PC{0,12}", "\\PC{0,12}", "[a-z-]{1,16}", "\\PC{0,40}");
    let numbers = (any::<[u64; 8]>(), any::<Option<i32>>(), any::<Option<u8>>(), any::<i32>());
    let samples = vec(any::<[u64; 3]>(), 0..4);
    (words, numbers, samples, counters(), any::<bool>()).prop_map(|(words, numbers, samples, counters, ended)| {
        let (id, path, verdict, sentence) = words;
        let (n, pid, exit_code, number) = numbers;
        let samples: Vec<_> = samples
            .iter()
            .map(|s| json!({"at_us": s[0], "touched_bytes": s[1], "usage_bytes": s[2]}))
            .collect();
        let end = if ended { "exit" } else { "signal" };
        json!({
            "schema": 1, "proof": id, "id": id, "bundle": path, "pid": pid, "trigger": "command",
            "started_at": "2026-01-02T03:04:05Z", "duration_us": n[0], "kernel": "6.1",
            "cgroup": {
                "version": "v2", "path": path, "limiter": null, "limit_bytes": n[1], "high_bytes": null,
                "swap_limit_bytes": n[2], "oom_group": ended,
            },
            "host": {
                "kernel": "6.1", "mem_total_bytes": n[3], "mem_available_bytes": n[4], "swap_free_bytes": 0,
                "page_size": 4096, "cpus": 2, "panic_on_oom": 0,
            },
            "strategy": "sequential", "step_bytes": n[5], "asked_limit_bytes": n[6], "target_bytes": null,
            "predicted_bytes": n[7], "touched_bytes": n[0], "usage_before_bytes": null, "usage_after_bytes": n[1],
            "peak_before_bytes": null, "peak_after_bytes": null, "counters_before": counters, "counters_after": counters,
            "worker": {"pid": number, end: number}, "samples": samples, "verdict": verdict, "sentence": sentence,
            "exit_code": exit_code,
        })
    })
}

proptest! {
    #[test]
    fn a_record_is_read_back(json in record()) {
        let record: Record = serde_json::from_value(json.clone()).unwrap();
        let text = serde_json::to_string(&record).unwrap();
        prop_assert!(!text.contains('\n'), "one line");
        prop_assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), &record);
        for (field, value) in json.as_object().unwrap() {
            prop_assert_eq!(&serde_json::to_value(&record).unwrap()[field], value, "{}", field);
        }
    }

    #[test]
    fn a_cut_record_is_none(json in record(), at in any::<prop::sample::Index>()) {
        let text = json.to_string();
        let at = at.index(text.len());
        prop_assert!(serde_json::from_slice::<Record>(&text.as_bytes()[..at]).is_err());
    }

    #[test]
    fn the_newest_lines_are_whole_and_bounded(lines in vec("\\PC{0,20}", 0..12), max in 0..200usize) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let kept = newest(&text, max);
        prop_assert!(kept.len() <= max && text.ends_with(kept));
        let before = &text[..text.len() - kept.len()];
        prop_assert!(before.is_empty() || before.ends_with('\n'), "{:?} of {:?}", kept, text);
        // The next line would not have fitted.
        let next = before.strip_suffix('\n').map_or(0, |rest| before.len() - rest.rfind('\n').map_or(0, |at| at + 1));
        prop_assert!(before.is_empty() || kept.len() + next > max);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_last_record_is_found_beside_any_bytes(
        json in record(),
        before in vec(any::<u8>(), 0..80),
        after in vec(any::<u8>(), 0..80),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        // What a writer left that was killed half-way has no end of line.
        fs::write(&path, &before).unwrap();
        append_line(&path, format!("{json}\n").as_bytes()).unwrap();
        append_line(&path, &after).unwrap();
        let record: Record = serde_json::from_value(json).unwrap();
        prop_assert_eq!(latest(dir.path()), Some(record));
    }

    #[test]
    fn the_file_is_bounded_and_ends_with_what_came_last(lengths in vec(1..200_000usize, 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for (number, length) in lengths.iter().enumerate() {
            let line = format!("{number}{}\n", " ".repeat(*length));
            append_line(&path, line.as_bytes()).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            prop_assert!(text.len() as u64 <= MAX_BYTES);
            prop_assert_eq!(text.lines().last().unwrap().trim_end(), number.to_string());
        }
    }
}
