//! `rt report` on records of real proofs.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::*;

const LINE: &str = include_str!("../src/proof/history/enforced.json");

fn report(sandbox: &Sandbox, args: &[&str], subject: impl AsRef<Path>) -> Outcome {
    sandbox.rt(["report"]).args(args).arg(subject.as_ref()).run()
}

#[test]
fn the_proofs_of_a_container_are_shown_also_after_it_is_gone() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let web = sandbox.id("web");
    sandbox.rt(["create", &web, "--ram=48"]).cwd(sandbox.path("")).ok();
    report(&sandbox, &[], &web).fails_with("no proof was made");
    sandbox.rt(["test-memory", &web, "--strategy", "sequential,shm"]).ok();
    let last = report(&sandbox, &[], &web).succeeds().stdout;
    assert!(last.contains("  shm  enforced\n") && last.contains("sequential  enforced\n"), "{last}");
    assert!(last.ends_with("overall: enforced (sequential enforced, shm enforced)\n"), "{last}");
    let all = report(&sandbox, &["--all", "--format", "json"], &web).succeeds().stdout;
    let records: Vec<serde_json::Value> =
        all.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    assert_eq!(records.len(), 3, "two proofs and their run");
    assert_eq!((&records[2]["kind"], &records[2]["run"]), (&"run".into(), &records[0]["run"]));
    assert!(records.iter().all(|record| record["verdict"] == "enforced"));
    sandbox.delete(&web);
    let after = report(&sandbox, &["--all"], &web).succeeds().stdout;
    assert!(after.contains("sequential  enforced"), "{after}");
}

/// The journal of a run whose second strategy found something worse than the last.
fn run_with_a_bad_middle(id: &str) -> String {
    let found =
        [("sequential", "enforced", 0), ("random", "killed-externally", 4), ("shm", "within-limit", 0)];
    let line = |(strategy, verdict, code): (&str, &str, u8)| {
        let mut record: serde_json::Value = serde_json::from_str(LINE).expect("a record");
        for (field, value) in [("id", id), ("run", "r1"), ("proof", strategy), ("strategy", strategy)] {
            record[field] = value.into();
        }
        (record["verdict"], record["exit_code"]) = (verdict.into(), code.into());
        format!("{record}\n")
    };
    found.map(line).concat()
}

#[test]
fn a_run_has_one_verdict_wherever_it_is_told() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let web = sandbox.id("web");
    sandbox.rt(["create", &web, "--ram=48"]).cwd(sandbox.path("")).ok();
    let journal = sandbox.root().join(&web).join("rt-proofs.jsonl");
    fs::write(&journal, run_with_a_bad_middle(&web)).expect("records");
    assert_eq!(sandbox.state(&web)["annotations"]["rt.memory.verdict"], "killed-externally");
    let told = |args: &[&str]| sandbox.rt(["report"]).args(args).ok().stdout;
    let overall =
        "overall: killed-externally (sequential enforced, random killed-externally, shm within-limit)\n";
    assert!(told(&[&web]).ends_with(overall), "{}", told(&[&web]));
    assert!(told(&[]).contains("killed-externally"), "{}", told(&[]));
    let metrics = told(&["--format", "openmetrics"]);
    assert_eq!(metrics.matches("rt_proof_verdict{").count(), 1, "{metrics}");
    assert!(metrics.contains("verdict=\"killed-externally\"} 1\n"), "{metrics}");
    let json = told(&[&web, "--format", "json"]);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!((lines.len(), &lines[3]["verdict"]), (4, &"killed-externally".into()), "{json}");
    assert_eq!((&lines[3]["exit_code"], &lines[3]["strategies"][2]["strategy"]), (&4.into(), &"shm".into()));
    let page = told(&[&web, "--format", "html"]);
    assert!(
        page.matches("<article>").count() == 3 && page.contains("overall <span class=\"unsure\">"),
        "{page}"
    );
    sandbox.delete(&web);
    assert!(told(&[&web]).ends_with(overall), "deleted: {}", told(&[&web]));
}

#[test]
fn what_a_proof_says_is_in_lines_of_rts_own() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let web = sandbox.id("web");
    let mut bundle = sandbox.bundle();
    bundle
        .shell("exec sleep 100")
        .set("/linux/resources/memory", serde_json::json!({ "limit": 48 << 20, "swap": 48 << 20 }));
    let path = sandbox.prepare(&mut bundle, &web);
    let config = bundle.path.join("config.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(&config).expect("a config")).expect("JSON");
    json["linux"]["cgroupsPath"] = format!("/{web}\x1b[31m").into();
    fs::write(&config, json.to_string()).expect("a config");
    sandbox.rt(["create", "--bundle", &path, &web]).ok();
    sandbox.rt(["start", &web]).ok();
    // The heading names the cgroup; a refusal the folder that is not there.
    for args in [["sequential", "/tmp"], ["file", "/tmp/no\nenforced: as predicted\x1b[2J"]] {
        let told =
            sandbox.rt(["test-memory", &web, "--strategy", args[0], "--file-dir", args[1]]).run().text();
        assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
        assert!(!told.lines().any(|line| line.starts_with("enforced: as predicted")), "{told}");
        let shown = if args[0] == "file" { "\\u000aenforced: as predicted" } else { "\\u001b[31m" };
        assert!(told.contains(shown), "{told}");
    }
    sandbox.delete(&web);
}

#[test]
fn records_of_an_rt_without_runs_are_runs_of_their_own() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("older");
    let worse =
        LINE.replace("\"enforced\"", "\"not-enforced\"").replace("\"exit_code\":0", "\"exit_code\":1");
    fs::write(&file, format!("{}\n{}\n", worse.trim(), LINE.trim())).expect("records");
    let last = report(&sandbox, &[], &file).succeeds().stdout;
    assert!(last.contains("sequential  enforced\n") && !last.contains("not-enforced"), "{last}");
    let json = report(&sandbox, &["--all", "--format", "json"], &file).succeeds().stdout;
    assert_eq!(json.lines().count(), 4, "{json}");
}

#[test]
fn without_a_name_every_container_is_told_and_one_whose_create_failed() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let empty = sandbox.path("empty");
    fs::create_dir(&empty).expect("a folder");
    fs::create_dir(sandbox.root()).expect("a root");
    assert_eq!(sandbox.rt(["report"]).ok().stdout.lines().count(), 1, "titles alone");
    let [proved, plain, gone, denied] = ["proved", "plain", "gone", "denied"].map(|name| sandbox.id(name));
    let create = |id: &str, options: &[&str]| sandbox.rt(options).args(["create", id]).cwd(&empty);
    create(&proved, &["--proof", "prestart:enforce"]).arg("--ram=48").ok();
    create(&plain, &[]).arg("--ram=48").ok();
    create(&gone, &["--proof", "prestart:record"]).arg("--ram=32").ok();
    sandbox.delete(&gone);
    create(&denied, &["--proof", "prestart:enforce"])
        .arg("--ram=max")
        .run()
        .fails_with("refused (unlimited)");

    let text = sandbox.rt(["report"]).ok().stdout;
    let row = |id: &str| {
        let row = text
            .lines()
            .find(|row| row.starts_with(&format!("{id} ")))
            .unwrap_or_else(|| panic!("{id}: {text}"));
        row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert!(row(&proved).starts_with("created 48 MiB enforced 20"), "{text}");
    assert_eq!(row(&plain), "created - no proof -");
    assert!(row(&gone).starts_with("deleted 32 MiB enforced 20"), "{text}");
    assert!(row(&denied).starts_with("deleted - refused (unlimited) 20"), "{text}");
    let json = sandbox.rt(["report", "--format", "json"]).ok().stdout;
    assert_eq!(json.lines().count(), 6, "three proofs, a run each: {json}");
    let file = sandbox.path("proofs.prom");
    sandbox.rt(["report", "--format", "openmetrics", "-o", &file.to_string_lossy()]).ok();
    let metrics = fs::read_to_string(&file).expect("a file");
    for (id, told) in [
        (&proved, "verdict=\"enforced\""),
        (&gone, "verdict=\"enforced\""),
        (&denied, "verdict=\"refused\",reason=\"unlimited\""),
    ] {
        let sample = format!("rt_proof_verdict{{container=\"{id}\",{told}}} 1\n");
        assert!(metrics.contains(&sample), "{sample}{metrics}");
    }
    assert!(!metrics.contains(&plain) && metrics.ends_with("# EOF\n"), "{metrics}");
    let one = sandbox.rt(["report", &proved, "--format", "prometheus"]).ok().stdout;
    assert_eq!(one.lines().filter(|line| !line.starts_with('#')).count(), 2, "{one}");
    let page = sandbox.rt(["report", "--format", "html", "--all"]).ok().stdout;
    assert_eq!(page.matches("<article>").count(), 3);
    assert!(page.contains("<title>Memory proofs</title>"), "{page}");
    for id in [&proved, &plain] {
        sandbox.delete(id);
    }
    sandbox.assert_nothing_left(&denied);
}

#[test]
fn a_file_or_its_folder_is_made_a_page() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("records");
    fs::create_dir(&folder).expect("a folder");
    let file = folder.join("rt-proofs.jsonl");
    fs::write(&file, format!("{LINE}\n{{\"cut")).expect("records");
    let page = sandbox.path("page.html");
    for subject in [&file, &folder] {
        report(&sandbox, &["--format", "html", "-o", &page.to_string_lossy()], subject).succeeds();
        let text = fs::read_to_string(&page).expect("a page");
        assert!(text.contains("<svg") && text.contains("1 line is no record"), "{text}");
        fs::remove_file(&page).expect("the page");
    }
    let text = report(&sandbox, &[], &file).succeeds().stdout;
    assert!(text.contains("web  sequential  enforced") && text.contains("1 line is no record"), "{text}");
}

#[test]
fn what_is_no_record_is_said_so() {
    let sandbox = Sandbox::new();
    let (empty, garbage, folder) = (sandbox.path("empty"), sandbox.path("garbage"), sandbox.path("folder"));
    fs::write(&empty, "").expect("a file");
    fs::write(&garbage, [0xff, b'\n', b'{', b'\n']).expect("a file");
    fs::create_dir(&folder).expect("a folder");
    for (path, why) in
        [(&empty, "no proof in"), (&garbage, "2 lines are no records"), (&folder, "no proof was made")]
    {
        assert_eq!(report(&sandbox, &[], path).fails_with(why).code, 1);
    }
    report(&sandbox, &[], "no-such-container").fails_with("no container 'no-such-container'");
    assert_eq!(report(&sandbox, &["--format", "pdf"], &empty).code, 2);
}

#[test]
fn a_page_is_put_in_its_place_at_once() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("pages");
    fs::create_dir(&folder).expect("a folder");
    let (file, page) = (folder.join("records"), folder.join("page"));
    fs::write(&file, LINE).expect("records");
    report(&sandbox, &["-o", "/proc/page"], &file).fails_with("cannot write '/proc/page'");
    fs::write(&page, "old").expect("a page");
    let inode = || page.metadata().expect("a page").ino();
    let before = inode();
    report(&sandbox, &["-o", &page.to_string_lossy()], &file).succeeds();
    assert_ne!(inode(), before);
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 2, "nothing else is left");
}
