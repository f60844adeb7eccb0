//! One worker's container: made, brought into a state, looked at, and removed again, always under the same name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::bundle::{self, Kind};
use super::census::{self, Facts};
use super::command::{Ended, Line};
use super::common::{Bundle, Sandbox};
use super::fault::Fault;
use super::point::Call;
use super::scenario::{After, Before, Scenario};
use super::tracer::Trace;

/// Nothing of a runtime may take longer; what waits for something itself gives up after 10 seconds.
const LIMIT: Duration = Duration::from_secs(30);

/// The same in a guest whose processor is emulated.
const LIMIT_IN_GUEST: Duration = Duration::from_secs(240);

/// How long is waited for what comes a moment after a command has ended.
const MOMENT: Duration = Duration::from_millis(1500);

/// What the container's program and its hooks write into `out`.
const WRITTEN: [&str; 2] = ["inside", "hooks"];

#[derive(Debug)]
pub struct World {
    sandbox: Sandbox,
    kind: Kind,
    pub id: String,
    /// Kept for what it holds.
    bundle: Bundle,
    holder: Option<i32>,
    init: Option<i32>,
}

impl World {
    pub fn new(kind: Kind) -> Self {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("out")).expect("a folder");
        for name in WRITTEN {
            let path = sandbox.path("out").join(name);
            fs::write(&path, "").expect("a file");
            // Root of a user namespace writes there.
            fs::set_permissions(path, PermissionsExt::from_mode(0o666)).expect("mode");
        }
        let id = sandbox.id("faults");
        let holder = (kind == Kind::Pid).then(|| {
            let holder = sandbox.start(&mut sandbox.bundle(), "holder");
            i32::try_from(sandbox.pid(&holder)).expect("a pid")
        });
        let bundle = bundle::make(&sandbox, kind, &id, holder);
        Self { sandbox, kind, id, bundle, holder, init: None }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The words of `create` or `run` of this container.
    pub fn creation(&self, command: &str, flags: &[&str]) -> Vec<String> {
        let bundle = self.bundle.path.display().to_string();
        let pid_file = self.init_pid_file().display().to_string();
        let what: &[&str] =
            if self.kind == Kind::Nothing { &["--ram=64", "--cpu=50"] } else { &["--bundle", &bundle] };
        let words = [&[command, "--pid-file", &pid_file], what].concat();
        words.iter().chain(flags).chain(&[self.id.as_str()]).map(|word| (*word).to_owned()).collect()
    }

    pub fn exec_pid_file(&self) -> String {
        self.sandbox.path("exec.pid").display().to_string()
    }

    fn init_pid_file(&self) -> PathBuf {
        self.sandbox.path("init.pid")
    }

    /// Where `checkpoint` writes.
    pub fn images(&self) -> String {
        self.sandbox.path("images").display().to_string()
    }

    /// The words of `restore` of this container.
    pub fn restoration(&self) -> Vec<String> {
        let bundle = self.bundle.path.display().to_string();
        let pid_file = self.init_pid_file().display().to_string();
        let images = self.images();
        let words = ["restore", "--detach", "--image-path", &images, "--bundle", &bundle];
        words.iter().chain(&["--pid-file", &pid_file, &self.id]).map(|word| (*word).to_owned()).collect()
    }

    fn line(&self, arguments: Vec<String>) -> Line {
        let (name, value) = self.sandbox.mark().split_once('=').expect("a mark");
        let mut all = vec!["--root".to_owned(), self.sandbox.root().display().to_string()];
        all.extend(arguments);
        Line {
            program: Sandbox::binary(),
            arguments: all,
            environment: (name.to_owned(), value.to_owned()),
            // Without a config.json.
            folder: self.sandbox.path("out"),
            terminal: false,
            limit: if super::choice::in_guest() { LIMIT_IN_GUEST } else { LIMIT },
        }
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.line(words.iter().map(|word| (*word).to_owned()).collect()).run()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) {
        let ended = self.run(words);
        assert!(ended.code == Some(0), "{words:?}: {ended:?}");
    }

    /// Brings the container into the state that a scenario begins with.
    pub fn prepare(&mut self, before: Before) {
        if before == Before::Nothing {
            return;
        }
        let creation = self.creation("create", &[]);
        self.ok(&creation.iter().map(String::as_str).collect::<Vec<_>>());
        self.init = pid_in(&self.init_pid_file());
        if before == Before::Created {
            return;
        }
        self.ok(&["start", &self.id]);
        self.settle();
        match before {
            Before::Paused => self.ok(&["pause", &self.id]),
            Before::Proved => {
                let record = include_str!("../fixtures/proof.json").replace("NAME", &self.id);
                fs::write(self.sandbox.root().join(&self.id).join("rt-proofs.jsonl"), record)
                    .expect("a journal");
            }
            Before::Saved => {
                self.ok(&["checkpoint", "--image-path", &self.images(), &self.id]);
                let _ = fs::remove_file(self.init_pid_file());
            }
            Before::Stopped => {
                self.ok(&["kill", &self.id, "KILL"]);
                wait(MOMENT, || !self.alive());
            }
            _ => {}
        }
    }

    /// The scenario's command under a tracer.
    pub fn trace(&self, scenario: &Scenario, fault: Option<(Call, Fault)>) -> (Ended, Trace) {
        let line = self.line((scenario.arguments)(self));
        Line { terminal: self.kind == Kind::Terminal, ..line }.trace(fault)
    }

    /// Whether the container's first process lives.
    pub fn alive(&self) -> bool {
        let state = |pid| fs::read_to_string(format!("/proc/{pid}/stat"));
        self.init
            .is_some_and(|pid| state(pid).is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X ")))
    }

    /// Everything that is to be the same after a scenario's command with a fault as without.
    pub fn look(&mut self, scenario: &Scenario, ended: &Ended) -> Facts {
        let mut facts = Facts::new();
        if let Some(pid) = pid_in(&self.init_pid_file()) {
            self.init = Some(pid);
        }
        match scenario.after {
            After::Created if ended.code == Some(0) => {
                let ended = self.run(&["start", &self.id]);
                if ended.code != Some(0) {
                    facts.insert("start".to_owned(), ended.stderr);
                }
            }
            After::Saved if ended.code == Some(0) => {
                let words = self.restoration();
                let ended = self.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
                if ended.code != Some(0) {
                    facts.insert("restore".to_owned(), ended.stderr);
                }
                self.init = pid_in(&self.init_pid_file());
            }
            After::Gone | After::Over => {
                wait(MOMENT, || self.left().is_empty());
                facts.insert("left".to_owned(), self.left().join("\n"));
            }
            After::Ended => drop(wait(MOMENT, || !self.alive())),
            After::Created | After::Runs | After::Proved | After::Saved | After::Printed => {}
        }
        if scenario.after.prints() {
            facts.insert("printed".to_owned(), ended.stdout.clone());
        }
        if let Some(terminal) = ended.terminal {
            facts.insert("terminal".to_owned(), terminal.to_owned());
        }
        // A container that could not be started goes on waiting for it.
        if ended.code == Some(scenario.code) {
            self.settle();
        }
        facts.insert("alive".to_owned(), self.alive().to_string());
        if let Some(pid) = self.init.filter(|_| self.alive()) {
            census::take(pid, "init", self.holder, &mut facts);
        }
        if let Some(pid) = pid_in(&PathBuf::from(self.exec_pid_file())) {
            wait(MOMENT, || comm(pid).is_none_or(|comm| comm == "sleep"));
            census::take(pid, "exec", self.holder, &mut facts);
        }
        for name in WRITTEN {
            facts.insert(name.to_owned(), self.written(name));
        }
        let (folder, mark) = (self.sandbox.path("").display().to_string(), self.sandbox.mark().to_owned());
        let number = mark.split_once('=').map_or("", |(_, number)| number);
        let neutral =
            |text: String| text.replace(folder.trim_end_matches('/'), "SANDBOX").replace(number, "NUMBER");
        let mut facts: Facts = facts.into_iter().map(|(name, value)| (name, neutral(value))).collect();
        facts.entry("printed".to_owned()).and_modify(|text| *text = comparable(text));
        facts
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.sandbox.path("out").join(name)).unwrap_or_default()
    }

    /// Waits for the container's program: until then it is the runtime that runs.
    fn settle(&self) {
        if let Some(pid) = self.init {
            wait(MOMENT, || !self.alive() || comm(pid).is_none_or(|comm| comm == "sleep") || is_init(pid));
        }
    }

    /// Removes the container by `delete --force`; what that leaves, in words.
    pub fn remove(&mut self) -> Vec<String> {
        let ended = self.run(&["delete", "--force", &self.id]);
        let mut left = Vec::new();
        if ended.code != Some(0) {
            left.push(format!("delete --force: {:?} {}", ended.code, ended.stderr.trim()));
        }
        wait(Duration::from_secs(3), || self.left().is_empty());
        left.extend(self.left());
        for name in WRITTEN {
            fs::write(self.sandbox.path("out").join(name), "").expect("an empty file");
        }
        for name in ["init.pid", "exec.pid"] {
            let _ = fs::remove_file(self.sandbox.path(name));
        }
        let _ = fs::remove_dir_all(self.images());
        let _ = fs::remove_file(self.bundle.path.join("rt-proofs.jsonl"));
        self.init = None;
        left
    }

    /// The same, when what is on its way out had a moment for it.
    pub fn left_in_a_moment(&self) -> Vec<String> {
        wait(MOMENT, || self.left().is_empty());
        self.left()
    }

    /// What there is of the container on this machine.
    pub fn left(&self) -> Vec<String> {
        let holder = self.holder.map(|pid| format!("process {pid} "));
        let mut left = self.sandbox.leftovers(&self.id);
        left.retain(|line| holder.as_ref().is_none_or(|holder| !line.starts_with(holder)));
        for entry in fs::read_dir(&self.bundle.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !["config.json", "rootfs", "rt-receipt.json", "rt-proofs.jsonl"]
                .iter()
                .any(|known| name == *known)
            {
                left.push(format!("in the bundle: {}", name.display()));
            }
        }
        left
    }
}

fn pid_in(file: &std::path::Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn comm(pid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|comm| comm.trim().to_owned())
}

/// Whether it is the program of a container from nothing, and waits.
fn is_init(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"/rt\0__init"))
        && fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S "))
}

/// Asks again until it holds; false if it never did.
fn wait(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut pause = Duration::from_micros(300);
    while !holds() {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    true
}

/// What two runs print alike: pids, times and counters differ, and what is counted at all.
fn comparable(text: &str) -> String {
    let event = serde_json::from_str::<serde_json::Value>(text).ok();
    if let Some(data) = event.as_ref().and_then(|event| event["data"].as_object()) {
        return data.keys().cloned().collect::<Vec<_>>().join(" ");
    }
    let mut squeezed = String::new();
    for c in text.chars() {
        if !c.is_ascii_digit() {
            squeezed.push(c);
        } else if !squeezed.ends_with('N') {
            squeezed.push('N');
        }
    }
    squeezed
}
