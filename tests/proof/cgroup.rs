//! A memory cgroup of a test's own, with processes in it. All of it goes when it is dropped.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{Pid, Uid};
use rt::cgroup::Version;
use rt::cgroup::{MemoryCgroup, Meter};
use rt::proof::{Asked, Outcome, Request, Sample, Subject, prove};

pub const MIB: u64 = 1 << 20;

/// Says past the test harness, which hides what passing tests print, that this test was not made.
pub fn needs(what: &str) {
    let thread = std::thread::current();
    let line = format!("SKIP: needs {what} ({})\n", thread.name().unwrap_or("unnamed"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The memory hierarchy of this machine; `None` (and a line that says so) where a test can make no cgroup in it.
pub fn hierarchy() -> Option<(Version, PathBuf)> {
    let skip = |why: &str| {
        needs(why);
        None
    };
    if !Uid::effective().is_root() {
        return skip("root");
    }
    let Ok(own) = rt::cgroup::locate(i32::try_from(std::process::id()).unwrap(), "memory") else {
        return skip("a memory cgroup");
    };
    if own.version == Version::V2 {
        let _ = fs::write(own.mount.join("cgroup.subtree_control"), "+memory");
        let control = fs::read_to_string(own.mount.join("cgroup.subtree_control")).unwrap_or_default();
        if !control.contains("memory") {
            return skip("the memory controller on cgroup v2");
        }
    }
    Some((own.version, own.mount))
}

pub struct TestCgroup {
    pub version: Version,
    pub dir: PathBuf,
    mount: PathBuf,
    children: Vec<Child>,
    pub records: tempfile::TempDir,
}

impl TestCgroup {
    /// A cgroup limited to `mib`; `None` where the machine cannot have one.
    pub fn limited(mib: u64) -> Option<Self> {
        let cgroup = Self::unlimited()?;
        cgroup.limit(mib);
        Some(cgroup)
    }

    /// A limit that takes a while to fill, and that this machine has room for.
    pub fn large() -> Option<Self> {
        let available = rt::proof::hostmem::Host::read().unwrap().mem_available_bytes / MIB;
        Self::limited((available / 4).min(2000))
    }

    pub fn unlimited() -> Option<Self> {
        let (version, mount) = hierarchy()?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rt-proof-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = mount.join(name);
        fs::create_dir(&dir).unwrap();
        let records = tempfile::tempdir().unwrap();
        let cgroup = Self { version, dir, mount, children: Vec::new(), records };
        cgroup.forbid_swap();
        Some(cgroup)
    }

    pub fn limit(&self, mib: u64) {
        self.write(["memory.limit_in_bytes", "memory.max"], &(mib * MIB).to_string());
    }

    /// On a machine with swap, limits would hold by swapping.
    pub fn forbid_swap(&self) {
        if self.version == Version::V1 {
            self.write(["memory.swappiness", ""], "0");
        } else if self.dir.join("memory.swap.max").exists() {
            self.write(["", "memory.swap.max"], "0");
        }
    }

    pub fn allow_swap(&self) {
        self.write(
            ["memory.swappiness", "memory.swap.max"],
            if self.version == Version::V1 { "60" } else { "max" },
        );
    }

    /// Writes the file that this version has for it.
    pub fn write(&self, [v1, v2]: [&str; 2], text: &str) {
        let name = if self.version == Version::V1 { v1 } else { v2 };
        fs::write(self.dir.join(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// A cgroup below this one, in which processes then live.
    pub fn child(&self, name: &str) -> Self {
        if self.version == Version::V2 {
            fs::write(self.dir.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        let dir = self.dir.join(name);
        fs::create_dir(&dir).unwrap();
        let records = tempfile::tempdir().unwrap();
        Self { version: self.version, dir, mount: self.mount.clone(), children: Vec::new(), records }
    }

    /// Starts a shell command in the cgroup and says its pid.
    pub fn start(&mut self, script: &str) -> Pid {
        // Joined by the shell itself before it does anything, so that all it does is charged here.
        let script = format!("echo $$ > '{}/cgroup.procs' && {script}", self.dir.display());
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.children.push(child);
        wait_until("the process to join", || self.processes().contains(&pid));
        Pid::from_raw(pid)
    }

    /// A process that only sleeps: the container's init.
    pub fn sleeper(&mut self) -> Pid {
        let pid = self.start("exec sleep 1000");
        // What the shell used is given back when it has become sleep.
        let comm = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        wait_until("the shell to become sleep", || comm().trim() == "sleep");
        pid
    }

    /// A process that holds so many MiB; says its pid when it has them.
    pub fn holder(&mut self, mib: u64) -> i32 {
        // tail keeps what has no newline until its input ends.
        self.start(&format!("(head -c {}M /dev/zero; exec sleep 1000) | tail", mib));
        let meter = Meter::open(&self.cgroup()).unwrap();
        wait_until("memory to be held", || meter.usage().unwrap() >= mib * MIB);
        let named =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "tail");
        self.processes().into_iter().find(named).unwrap()
    }

    pub fn cgroup(&self) -> MemoryCgroup {
        MemoryCgroup { version: self.version, dir: self.dir.clone(), mount: self.mount.clone() }
    }

    pub fn processes(&self) -> Vec<i32> {
        self.cgroup().processes().unwrap_or_default()
    }

    /// A request to prove this cgroup for `init`.
    pub fn request(&self, init: Pid) -> Request {
        let mut subject = Subject::of_process(init);
        subject.record_dirs = vec![self.records.path().to_owned().into()];
        let mut request = Request::new(subject, Asked::Unknown);
        request.worker_program = PathBuf::from(env!("CARGO_BIN_EXE_rt"));
        request
    }

    pub fn latest_record(&self) -> rt::proof::Record {
        rt::proof::journal::latest(self.records.path()).expect("a record")
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        let started = Instant::now();
        while fs::remove_dir(&self.dir).is_err() && self.dir.exists() && started.elapsed().as_secs() < 5 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Makes the proof and says its outcome.
pub fn proved(request: &Request) -> Outcome {
    prove(request, &mut |_: &Sample| {}).unwrap()
}

pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
