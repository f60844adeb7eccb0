//! The runtime that is judged, as a program: whatever it is, it is called as an engine would.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, Uid};
use oci_spec::runtime::Spec;
use serde::Deserialize;

use super::{CPU_PERCENT, LIMIT_BYTES, VerifyError, Wrong};
use crate::runtime::default_bundle::{FOLDER as BUNDLE, apply_overrides, materialize};
use crate::sys::worker::pidfd_open;
use crate::units::{CPU_PERIOD_US, CpuShare, MIB, Ram};

/// No command of a runtime may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the folders of checklists are called.
const PREFIX: &str = "rt-verify-";

const LOCK: &str = "lock";

/// A folder of the checklist's own: the runtime's root, and a bundle where one is needed. Removed when dropped.
pub struct Folder {
    pub path: PathBuf,
    /// The container's name, unique on the host.
    pub id: String,
    /// Locked as long as the checklist runs; a folder whose lock is free was left by one that was killed.
    _lock: Flock<File>,
}

impl Folder {
    pub fn make() -> Result<Self, VerifyError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(&id);
        let failed = |source| VerifyError::Folder { path: path.clone(), source };
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let opened = File::create_new(path.join(LOCK)).map_err(failed)?;
        let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| failed(e.into()))?;
        Ok(Self { path, id, _lock: lock })
    }

    /// The folders of this user that killed checklists left; they are this process's now.
    pub fn abandoned() -> Vec<Self> {
        let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::take(entry.path(), entry.file_name().into_string().ok()?)).collect()
    }

    fn take(path: PathBuf, id: String) -> Option<Self> {
        let metadata = fs::symlink_metadata(&path).ok()?;
        let ours = metadata.is_dir() && metadata.uid() == Uid::effective().as_raw();
        if !ours || !id.starts_with(PREFIX) {
            return None;
        }
        let lock = Flock::lock(File::open(path.join(LOCK)).ok()?, FlockArg::LockExclusiveNonblock).ok()?;
        Some(Self { path, id, _lock: lock })
    }

    /// Leaves the folder where it is.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// The containers whose state is in the runtime's root here.
    pub fn containers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&self.id)).collect()
    }

    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// The bundle of a container that was made from one.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.bundle_of(id).join(BUNDLE)
    }

    /// Where the bundle of a container is written.
    fn bundle_of(&self, id: &str) -> PathBuf {
        self.path.join(format!("of-{id}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// An OCI runtime to be judged.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub program: PathBuf,
    /// rt itself: it makes a container from nothing. Another runtime is given a bundle of the same.
    pub own: bool,
    /// rt's binary: the init of the container, and the prover's worker.
    pub rt: PathBuf,
}

/// What `state` says, as far as the checklist asks.
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    pub status: String,
    #[serde(default)]
    pub pid: i32,
}

impl Runtime {
    /// The rt that is running.
    pub fn own() -> Self {
        let rt = PathBuf::from("/proc/self/exe");
        Self { program: rt.clone(), own: true, rt }
    }

    /// Another runtime; `rt` is this program, as a path.
    pub fn other(program: PathBuf, rt: PathBuf) -> Self {
        Self { program, own: false, rt }
    }

    /// The program as people find it.
    pub fn path(&self) -> PathBuf {
        let own = || std::env::current_exe().unwrap_or_else(|_| PathBuf::from("rt"));
        if self.own { own() } else { self.program.clone() }
    }

    /// What is called to make the container, in words.
    pub fn create_words(&self) -> String {
        if self.own {
            format!("rt create --ram={} --cpu={CPU_PERCENT}", LIMIT_BYTES / MIB)
        } else {
            format!("{} create, with a bundle of the same limits", self.program.display())
        }
    }

    /// Makes the container, limited by the checklist's limits.
    pub(super) fn create(&self, folder: &Folder, id: &str) -> Result<(), Wrong> {
        if self.own {
            let (ram, cpu) = (format!("--ram={}", LIMIT_BYTES / MIB), format!("--cpu={CPU_PERCENT}"));
            return self.call(folder, &["create", id, &ram, &cpu]);
        }
        let quota_us = CPU_PERIOD_US * CPU_PERCENT / 100;
        self.create_from(folder, id, |spec| {
            apply_overrides(spec, Some(Ram::Limited(LIMIT_BYTES)), Some(CpuShare::Limited { quota_us }))
                .map_err(|e| Wrong::from_error(&e))
        })
    }

    /// Makes a container from a bundle of its own, changed by `change`.
    pub(super) fn create_from(
        &self,
        folder: &Folder,
        id: &str,
        change: impl FnOnce(&mut Spec) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        let bundle = self.write_bundle(folder, id, change)?;
        self.call(folder, &["create", "--bundle", &bundle.to_string_lossy(), id])
    }

    fn write_bundle(
        &self,
        folder: &Folder,
        id: &str,
        change: impl FnOnce(&mut Spec) -> Result<(), Wrong>,
    ) -> Result<PathBuf, Wrong> {
        let parent = folder.bundle_of(id);
        fs::create_dir(&parent).map_err(|e| Wrong::from_error(&e))?;
        let binary = fs::canonicalize(&self.rt).map_err(|e| Wrong::from_error(&e))?;
        let bundle = materialize(&parent, id, &binary).map_err(|e| Wrong::from_error(&e))?;
        let config = bundle.join("config.json");
        let text = fs::read(&config).map_err(|e| Wrong::from_error(&e))?;
        let mut spec: Spec = serde_json::from_slice(&text).map_err(|e| Wrong::from_error(&e))?;
        change(&mut spec)?;
        let text = serde_json::to_vec(&spec).map_err(|e| Wrong::from_error(&e))?;
        fs::write(&config, text).map_err(|e| Wrong::from_error(&e))?;
        Ok(bundle)
    }

    /// Runs a command of the runtime that answers by its exit status.
    pub(super) fn call(&self, folder: &Folder, args: &[&str]) -> Result<(), Wrong> {
        let errors = folder.path.join("stderr");
        // A file, not a pipe: what create is given becomes the container's, which then keeps it open.
        let stderr = File::create(&errors).map_err(|e| Wrong::from_error(&e))?;
        let child = self.command(folder, args).stdout(Stdio::null()).stderr(stderr).spawn();
        let status =
            child.and_then(wait).map_err(|e| Wrong::new(format!("{} {}: {e}", self.name(), args[0])))?;
        if status.success() {
            return Ok(());
        }
        let told = fs::read_to_string(&errors).unwrap_or_default();
        Err(Wrong::new(format!("{} {} failed ({status}): {}", self.name(), args[0], last_lines(&told))))
    }

    /// The container's state; `None` where the runtime knows no such container.
    pub fn state(&self, folder: &Folder, id: &str) -> Option<State> {
        let output = self.command(folder, &["state", id]).stderr(Stdio::null()).output().ok()?;
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    fn command(&self, folder: &Folder, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg0(self.name())
            .arg("--root")
            .arg(folder.root())
            .args(args)
            .current_dir(&folder.path)
            .stdin(Stdio::null())
            // ^C is for the checklist, which cleans up.
            .process_group(0);
        command
    }

    fn name(&self) -> String {
        let name = self.program.file_name().map(|name| name.to_string_lossy().into_owned());
        if self.own { "rt".to_owned() } else { name.unwrap_or_default() }
    }
}

/// Waits for a child, and kills one that takes too long.
fn wait(mut child: Child) -> io::Result<ExitStatus> {
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)))?;
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX));
    if ready == Ok(0) {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no end within {} s", PATIENCE.as_secs()),
        ));
    }
    child.wait()
}

/// The end of what was said, in one line.
fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// True where a process with this pid exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
