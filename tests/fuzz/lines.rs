//! Command lines of a running container, each with one change.

use std::fs;

use crate::common::{Bundle, Sandbox, processes_marked};
use crate::subject::{Answer, Fault, Field, Subject};
use crate::table::Table;

/// ID runs, ID.new is not there; BUNDLE, FILE (a process), LIMITS (resources) and DIR are paths. A word after `!` stays as it is:
/// without it the command would go on for ever, or a name be another test's.
const LINES: [&str; 34] = [
    "state ID",
    "list",
    "list --format json",
    "list -q",
    "ps ID",
    "ps --format json ID",
    "exec ID true",
    "exec --cwd / --user 0:0 --env A=b ID true",
    "exec --additional-gids 5 --cap CAP_KILL --no-new-privs ID true",
    "exec --process FILE ID",
    "exec --detach --pid-file pid ID true",
    "exec --tty --console-socket socket ID true",
    "exec --preserve-fds 1 --ignore-paused ID true",
    "kill ID TERM",
    "kill --all ID 9",
    "pause ID",
    "resume ID",
    "update --memory 33554432 --memory-swap -1 --pids-limit 50 ID",
    "update --cpu-quota 20000 --cpu-period 100000 --cpu-share 100 --cpuset-cpus 0 ID",
    "update --resources LIMITS ID",
    "events !--stats ID",
    "spec --bundle !DIR",
    "features",
    "delete ID",
    "delete --force ID",
    "start ID",
    "create --bundle BUNDLE --pid-file pid --no-pivot ID.new",
    "run !--detach --bundle BUNDLE --keep ID.new",
    "create !ID.new --ram=32 --cpu=50",
    "checkpoint --image-path DIR --leave-running ID",
    "restore !--detach --image-path DIR --bundle BUNDLE ID.new",
    "test-memory ID 8 --dry-run --format json",
    "why ID --format json",
    "--log log --log-format json --debug state ID",
];

const ODD: [&str; 26] = [
    "",
    "-",
    "--",
    "-1",
    "0",
    "IDx",
    "../IDx",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775809",
    "1e30",
    "NaN",
    "1.5",
    "\u{e4}\u{1f600}",
    "a\nb",
    "LONG",
    "--no-such-flag",
    "-zz",
    "--help",
    "\u{1b}[31m",
    "%s%n",
    "null",
    ",",
    ":",
    "=",
    "ID",
];

/// A command line, as words.
#[derive(Debug, Clone)]
pub struct Line {
    words: Vec<String>,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.200}", self.words.join(" "))
    }
}

/// Every line with every change, in a fixed order.
pub fn all() -> Vec<Line> {
    let mut found = Vec::new();
    for line in LINES {
        let words: Vec<&str> = line.split(' ').collect();
        let mut add =
            |words: Vec<&str>| found.push(Line { words: words.into_iter().map(String::from).collect() });
        add(words.clone());
        for index in 0..words.len() {
            let with = |odd: &[&'static str], taken: usize| {
                let mut new = words.clone();
                new.splice(index..index + taken, odd.iter().copied());
                new
            };
            ODD.iter().for_each(|odd| add(with(&[odd], 0)));
            if words[index].starts_with('!') {
                continue;
            }
            add(with(&[], 1));
            ODD.iter().for_each(|odd| add(with(&[odd], 1)));
            let mut twice = words.clone();
            twice.insert(index, words[index]);
            add(twice);
            if index > 0 && !words[index - 1].starts_with('!') {
                let mut swapped = words.clone();
                swapped.swap(index - 1, index);
                add(swapped);
            }
        }
    }
    found
}

pub struct Lines(Field);

impl Lines {
    pub fn new(beside: Option<&std::path::Path>) -> Self {
        let mut field = Field::new(["c", "d"], beside);
        field.bundle.unset("/hooks");
        for subject in std::iter::once(&field.subject).chain(&field.beside) {
            fs::create_dir_all(subject.folder.join("dir")).expect("a folder");
            fs::write(subject.folder.join("limits"), r#"{"pids":{"limit":40}}"#).expect("limits");
            let process = r#"{"args":["true"],"cwd":"/","env":["PATH=/bin"]}"#;
            fs::write(subject.folder.join("process"), process).expect("a process");
        }
        Self(field)
    }

    pub fn try_one(&mut self, line: &Line, table: &mut Table) {
        let Field { sandbox, bundle, subject, beside } = &mut self.0;
        let answer = ask(sandbox, bundle, subject, line);
        let beside = beside.as_ref().map(|beside| ask(sandbox, bundle, beside, line));
        table.add(&line.to_string(), &answer, beside.as_ref());
    }
}

fn ask(sandbox: &Sandbox, bundle: &mut Bundle, subject: &Subject, line: &Line) -> Answer {
    let mut answer = Answer::default();
    let path = bundle.path.to_str().expect("UTF-8").to_owned();
    bundle.config["linux"]["cgroupsPath"] = format!("/{}", subject.id).into();
    bundle.save();
    match subject.call(sandbox, &["run", "--detach", "--bundle", &path, &subject.id]) {
        Some(outcome) if outcome.code == 0 => {}
        other => panic!("no container to try a line on: {other:?}"),
    }
    bundle.config["linux"]["cgroupsPath"] = format!("/{}.new", subject.id).into();
    bundle.save();
    answer.take("it", subject.call(sandbox, &words(line, subject, &path)));
    for entry in fs::read_dir(&subject.root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != subject.id
            && !name.starts_with('.')
            && subject.call(sandbox, &["delete", "--force", &name]).is_none()
        {
            answer.faults.push((Fault::Hang, format!("delete --force {name} hangs")));
        }
    }
    answer.faults.extend(subject.delete(sandbox));
    debug_assert!(
        answer.faults.iter().any(|(fault, _)| *fault == Fault::Left)
            || processes_marked(sandbox.mark()).is_empty()
    );
    answer
}

fn words(line: &Line, subject: &Subject, bundle: &str) -> Vec<String> {
    let place = |name: &str| subject.folder.join(name).to_str().expect("UTF-8").to_owned();
    let word = |word: &String| match word.trim_start_matches('!') {
        "BUNDLE" => bundle.to_owned(),
        "DIR" => place("dir"),
        "FILE" => place("process"),
        "LIMITS" => place("limits"),
        "LONG" => "x".repeat(5000),
        word => word.replace("ID", &subject.id),
    };
    line.words.iter().map(word).collect()
}
