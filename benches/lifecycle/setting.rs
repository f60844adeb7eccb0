//! Where it is measured: the bundles, the folders of state, and how a runtime is called.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::runtimes::Runtime;

mod bundles;

pub use bundles::{Bundle, Bundles};

/// A folder with the bundles and a state folder for each runtime.
#[derive(Debug)]
pub struct Setting {
    folder: PathBuf,
    pub bundles: Bundles,
}

/// In the folder of a benchmark; the tmpfs is mounted there.
pub fn state_folder(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// What a runtime gets as `--root`.
pub fn root(folder: &Path, runtime: &Runtime) -> PathBuf {
    state_folder(folder).join(&runtime.word)
}

/// How the names of all containers of one benchmark begin.
pub fn id_prefix(pid: u32) -> String {
    format!("rt-bench-{pid}-")
}

/// The children of this process, those included that it became the parent of.
pub fn children() -> Vec<Pid> {
    let list = fs::read_to_string("/proc/thread-self/children").expect("a kernel that tells children");
    list.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// Waits for every child that has ended. With callers in several threads it would take theirs away.
pub fn reap() {
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(None, Some(WaitPidFlag::WNOHANG))
    {}
}

impl Setting {
    pub fn new(folder: &Path, runtimes: &[Runtime]) -> Self {
        // Containers' processes become our children, and their end is seen without polling.
        set_child_subreaper(true).expect("to be a subreaper");
        let runc = runtimes.iter().find(|r| r.kind == "runc").expect("a runc");
        Self { folder: folder.to_owned(), bundles: Bundles::new(folder, &runc.path) }
    }

    /// A file or folder of the benchmark on the tmpfs.
    pub fn file(&self, name: &str) -> PathBuf {
        state_folder(&self.folder).join(name)
    }

    /// A container's name that no other runtime uses: they would share a cgroup.
    pub fn id(&self, runtime: &Runtime, name: impl std::fmt::Display) -> String {
        format!("{}{}-{name}", id_prefix(std::process::id()), runtime.word)
    }

    /// A command of a runtime with its own state folder, silent but for errors.
    pub fn command(&self, runtime: &Runtime, args: &[&str]) -> Command {
        let mut command = Command::new(&runtime.path);
        command.arg("--root").arg(root(&self.folder, runtime)).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// How long a command took, or what it said when it failed. The last of `args` is a word that no other caller has now.
    pub fn step(&self, runtime: &Runtime, args: &[&str]) -> Result<Duration, String> {
        // A container would keep a pipe open.
        let said = self.file(&format!("said-{}", args[args.len() - 1].replace('/', "-")));
        let mut command = self.command(runtime, args);
        command.stderr(File::create(&said).expect("a file"));
        let begin = Instant::now();
        let status = command.status().expect("a runtime");
        let took = begin.elapsed();
        if status.success() {
            return Ok(took);
        }
        let text = fs::read_to_string(&said).unwrap_or_default();
        Err(format!(
            "{} {}: {status}: {}",
            runtime.label,
            args.join(" "),
            text.lines().last().unwrap_or_default()
        ))
    }

    /// The same where nothing may fail, in milliseconds.
    pub fn milliseconds(&self, runtime: &Runtime, args: &[&str]) -> f64 {
        self.step(runtime, args).unwrap_or_else(|e| panic!("{e}")).as_secs_f64() * 1000.0
    }

    /// Removes the compiled seccomp filters that rt and crun keep; runc keeps none.
    pub fn forget_filters(&self, runtime: &Runtime) {
        let root = root(&self.folder, runtime);
        let _ = fs::remove_dir_all(root.join(".cache/seccomp"));
        // rt's are beside its root, whose path is a name there.
        let name = root.to_string_lossy().replace('\\', "\\x5c").replace('-', "\\x2d").replace('/', "-");
        let _ = fs::remove_dir_all(Path::new("/run/rt-kept").join(name).join("seccomp-cache"));
    }
}
