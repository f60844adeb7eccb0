//! Parsers of the kernel's files from any text: nothing panics, what was printed is read, and garbage is no limit.

use std::fs;
use std::path::{Component, Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::counters::{Counters, Meter};
use super::locate::{CgroupMount, Version, locate_in, parse_mounts};
use super::memory::{fixture, parse_stat};
use super::pressure::Pressure;
use super::{read, v1, v2};

/// A line as the kernel writes them, a broken one, or anything.
fn any_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[a-z_]{1,12} [0-9]{1,20}",
        "[a-z_]{0,12}[ :=]{0,2}[+-]?[0-9.e]{0,22}",
        "(some|full)( (avg10|total)=[0-9a-zA-Z.+-]{0,6}){0,3}",
        "(some|full) avg10=(nan|inf|-1|1e9|[0-9.]{1,4}) total=[+-]?[0-9]{1,6}",
        "[0-9]{1,2}:[a-z,=]{0,12}:[/a-z. ()]{0,20}",
        "\\PC{0,30}",
    ];
    vec(line, 0..6).prop_map(|lines| lines.join("\n"))
}

/// Whether this is how the kernel prints `number` in a file of its own.
fn is_printed(text: &str, number: u64) -> bool {
    let digits = text.trim_end_matches(['\n', ' ']);
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits.trim_start_matches('0') == number.to_string().trim_start_matches('0')
}

proptest! {
    #[test]
    fn keyed_lines_are_read_back(keys in btree_map("[a-z_]{1,16}", any::<u64>(), 0..8), other in "[a-z_]{1,16}") {
        let text: String = keys.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        for (key, value) in &keys {
            prop_assert_eq!(read::keyed(&text, key), Some(*value));
        }
        prop_assert_eq!(read::keyed(&text, &other), keys.get(&other).copied());
    }

    #[test]
    fn keyed_finds_only_what_is_there(text in any_text(), key in "[a-z_]{1,3}|oom_kill") {
        if let Some(value) = read::keyed(&text, &key) {
            let there = |line: &str| line.strip_prefix(&format!("{key} ")).is_some_and(|rest| is_printed(rest, value));
            prop_assert!(text.lines().any(there), "{} in {:?}", value, text);
        }
    }

    #[test]
    fn a_limit_is_read_back_and_garbage_is_none(limit in any::<u64>(), text in any_text(), sign in "[+ -]?") {
        prop_assert_eq!(v2::limit(&format!("{limit}\n")), Some(Some(limit)));
        prop_assert_eq!(v2::limit("max\n"), Some(None));
        for text in [text, format!("{sign}{limit}\n")] {
            match v2::limit(&text) {
                Some(Some(read)) => prop_assert!(is_printed(&text, read), "{:?}", text),
                Some(None) => prop_assert_eq!(text.trim_end(), "max"),
                None => {}
            }
        }
    }

    #[test]
    fn statistics_are_read_back(values in [any::<u64>(); 6]) {
        let [anon, file, shmem, inactive_file, active_file, slab_reclaimable] = values;
        let text = format!(
            "anon {anon}\nfile {file}\nshmem {shmem}\ninactive_file {inactive_file}\nactive_file {active_file}\nslab_reclaimable {slab_reclaimable}\n"
        );
        let stat = parse_stat(&text, Version::V2);
        prop_assert_eq!(
            [stat.anon, stat.file, stat.shmem, stat.inactive_file, stat.active_file, stat.slab_reclaimable],
            values
        );
        prop_assert!(stat.reclaimable() >= inactive_file.max(active_file).max(slab_reclaimable));
    }

    #[test]
    fn statistics_of_garbage_do_not_panic(text in any_text()) {
        for version in [Version::V1, Version::V2] {
            let _ = parse_stat(&text, version).reclaimable();
        }
    }

    #[test]
    fn pressure_is_read_back(some in 0..10_000u32, full in 0..10_000u32, totals in [any::<u64>(); 2]) {
        let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
        let text = format!(
            "some avg10={:.2} avg60=0.00 avg300=0.00 total={}\nfull avg10={:.2} avg60=0.00 avg300=0.00 total={}\n",
            percent(some), totals[0], percent(full), totals[1]
        );
        let want = Pressure {
            some_avg10: percent(some),
            some_total_us: totals[0],
            full_avg10: percent(full),
            full_total_us: totals[1],
        };
        prop_assert_eq!(Pressure::parse(&text), Some(want));
    }

    #[test]
    fn pressure_of_garbage_is_a_percentage_still(text in any_text()) {
        if let Some(pressure) = Pressure::parse(&text) {
            for percent in [pressure.some_avg10, pressure.full_avg10] {
                prop_assert!(percent.is_finite() && percent >= 0.0, "{} of {:?}", percent, text);
            }
        }
    }

    #[test]
    fn a_mount_table_is_read_back(
        names in vec("[^/\0\n]{1,8}", 0..4),
        root in vec("[a-z ]{1,4}", 0..3),
        v2 in any::<bool>(),
    ) {
        let names: Vec<_> = names.into_iter().filter(|name| !matches!(name.as_str(), "." | "..")).collect();
        let path = |names: &[String]| format!("/{}", names.join("/"));
        let escaped = |path: &str| -> String {
            // As the kernel does (fs/proc_namespace.c, mangle).
            path.chars().map(|c| if " \t\n\\#".contains(c) { format!("\\{:03o}", u32::from(c)) } else { c.into() }).collect()
        };
        let kind = if v2 { "cgroup2" } else { "cgroup" };
        let line = format!("31 23 0:28 {} {} rw,relatime shared:9 - {kind} {kind} rw,memory\n", escaped(&path(&root)), escaped(&path(&names)));
        let want = CgroupMount {
            version: if v2 { Version::V2 } else { Version::V1 },
            root: PathBuf::from(path(&root)),
            mount_point: PathBuf::from(path(&names)),
            options: vec!["rw".into(), "memory".into()],
        };
        prop_assert_eq!(parse_mounts(&line), vec![want]);
    }

    #[test]
    fn no_membership_leads_out_of_its_mount(
        membership in vec("[0-9]{0,2}:(memory|cpu,memory||[a-z,]{0,6}):[/a-z.]{0,20}( \\(deleted\\))?", 0..4),
        roots in vec(("[/a-z.\\\\0-7]{0,8}", "[/a-z.]{0,8}", any::<bool>()), 0..4),
    ) {
        let table: String = roots
            .iter()
            .map(|(root, point, v2)| {
                let kind = if *v2 { "cgroup2" } else { "cgroup" };
                format!("31 23 0:28 {root} {point} rw - {kind} {kind} rw,memory\n")
            })
            .collect();
        let mounts = parse_mounts(&table);
        for controller in ["memory", "cpu", ""] {
            let Ok(location) = locate_in(&membership.join("\n"), &mounts, controller) else { continue };
            prop_assert!(location.dir.starts_with(&location.mount), "{:?}", location);
            prop_assert!(location.mount.is_absolute(), "{:?}", location);
            let below = location.dir.strip_prefix(&location.mount).unwrap();
            prop_assert!(!below.components().any(|part| part == Component::ParentDir), "{:?}", location);
        }
    }

    #[test]
    fn tables_of_garbage_do_not_panic(text in any_text(), line in "[0-9: /a-z\\\\-]{0,60}") {
        for mount in parse_mounts(&format!("{text}\n{line} - cgroup2 x {line}\n")) {
            prop_assert!(mount.mount_point.is_absolute(), "{:?}", mount);
        }
    }
}

/// Files in a folder, for what reads folders: fewer cases, since each writes to the disk.
fn write(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).unwrap();
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn counters_are_read_back(numbers in [any::<u64>(); 5], v2 in any::<bool>()) {
        let [usage, peak, swap, kills, hits] = numbers;
        let tmp = tempfile::tempdir().unwrap();
        let version = if v2 { Version::V2 } else { Version::V1 };
        let cgroup = fixture(version, tmp.path(), "c");
        let line = |number: u64| format!("{number}\n");
        let events = format!("low 0\nhigh 0\nmax {hits}\noom 9\noom_kill {kills}\noom_group_kill 9\n");
        let control = format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n");
        // v1 counts memory and swap together.
        let both = usage.saturating_add(swap);
        if v2 {
            write(&cgroup.dir, &[
                (v2::USAGE, &line(usage)), (v2::PEAK, &line(peak)), (v2::SWAP_USAGE, &line(swap)),
                (v2::EVENTS, &events), (v2::EVENTS_LOCAL, &events),
            ]);
        } else {
            write(&cgroup.dir, &[
                (v1::USAGE, &line(usage)), (v1::PEAK, &line(peak)), (v1::MEMSW_USAGE, &line(both)),
                (v1::OOM_CONTROL, &control), (v1::FAILCNT, &line(hits)), (v1::MEMSW_FAILCNT, &line(hits)),
            ]);
        }
        let want = Counters {
            usage_bytes: usage,
            peak_bytes: Some(peak),
            swap_bytes: if v2 { swap } else { both - usage },
            oom_kill: kills,
            limit_hits: if v2 { hits } else { hits.saturating_mul(2) },
            high: 0,
        };
        prop_assert_eq!(Meter::open(&cgroup).unwrap().read().unwrap(), want);
    }

    #[test]
    fn files_of_garbage_are_errors_or_numbers(text in any_text(), number in any::<u64>(), sign in "[+-]?") {
        let tmp = tempfile::tempdir().unwrap();
        for text in [text, format!("{sign}{number}\n")] {
            for version in [Version::V1, Version::V2] {
                let cgroup = fixture(version, tmp.path(), "c");
                write(&cgroup.dir, &[(v1::USAGE, &text), (v1::LIMIT, &text), (v2::USAGE, &text), (v2::LIMIT, &text), (v2::EVENTS, &text)]);
                if let Ok(usage) = cgroup.usage() {
                    prop_assert!(is_printed(&text, usage), "{:?}", text);
                }
                if let Ok(Some(limit)) = cgroup.limit() {
                    prop_assert!(is_printed(&text, limit), "{:?}", text);
                }
                if let Ok(counters) = Meter::open(&cgroup).unwrap().read() {
                    prop_assert!(is_printed(&text, counters.usage_bytes), "{:?}", text);
                }
                let _ = (cgroup.stat(), cgroup.oom_group(), cgroup.oom_disabled(), cgroup.swap_room());
            }
        }
    }
}
