//! What is around the measurements: a mount namespace of their own, and that nothing is left when they end, however they do.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;

use crate::runtimes::{self, Runtime};
use crate::setting;

/// The hidden first argument of the process that measures; then its folder, then what a person said.
pub const INSIDE: &str = "--inside";

/// cgroup2 of a hybrid host.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Has another process of this program measure, and deletes what it left of its containers.
pub fn run(args: &[String]) -> ExitCode {
    assert!(nix::unistd::geteuid().is_root(), "the benchmark needs root: it runs containers");
    let runtimes = runtimes::all();
    // Before there is anything to clean up, and kept from the child by the standard library.
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD]);
    signals.thread_block().expect("to block signals");
    set_child_subreaper(true).expect("to be a subreaper");
    let folder = tempfile::Builder::new().prefix("rt-bench-").tempdir().expect("a temporary folder");
    own_mounts(folder.path());
    let mut inside = Command::new(std::env::current_exe().expect("this program"));
    let mut child = inside.arg(INSIDE).arg(folder.path()).args(args).spawn().expect("this program, again");
    let code = wait(&mut child, &signals);
    for runtime in &runtimes {
        delete_all(folder.path(), runtime);
    }
    kill_children();
    remove_cgroups(&setting::id_prefix(child.id()));
    umount2(&setting::state_folder(folder.path()), MntFlags::MNT_DETACH).expect("to unmount the state");
    ExitCode::from(code)
}

/// A mount namespace with the state of all runtimes on a tmpfs, as engines have it in /run, and without the unified hierarchy of a
/// hybrid host, which crun refuses.
fn own_mounts(folder: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
    let unified = Path::new(UNIFIED);
    if unified.join("cgroup.procs").exists() {
        umount2(unified, MntFlags::MNT_DETACH).expect("to unmount cgroup2");
        // crun writes there all the same, and the folder is the machine's.
        mount(Some("tmpfs"), unified, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
    }
    let state = setting::state_folder(folder);
    fs::create_dir(&state).expect("a folder for state");
    mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some("mode=0700")).expect("a tmpfs");
}

/// Until the child has ended or a signal says that it shall. Its exit code.
fn wait(child: &mut Child, signals: &SigSet) -> u8 {
    loop {
        let asked_to_end = signals.wait().expect("a signal") != Signal::SIGCHLD;
        if asked_to_end {
            let _ = child.kill();
            let _ = child.wait();
            return 130;
        }
        if let Some(status) = child.try_wait().expect("the child's status") {
            return status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        }
    }
}

fn delete_all(folder: &Path, runtime: &Runtime) {
    let root = setting::root(folder, runtime);
    let containers = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.file_name());
    // What begins with a dot is a runtime's own.
    for id in containers.filter(|id| !id.as_encoded_bytes().starts_with(b".")) {
        let mut delete = Command::new(&runtime.path);
        delete.arg("--root").arg(&root).args(["delete", "--force"]).arg(&id).stdin(Stdio::null());
        if !delete.status().is_ok_and(|status| status.success()) {
            eprintln!("{} cannot delete {}", runtime.label, id.display());
        }
    }
}

/// Whatever is left becomes a child of this process once its own parent is gone.
fn kill_children() {
    loop {
        for pid in setting::children() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if waitpid(None, None).is_err() {
            return;
        }
    }
}

/// Those of containers whose runtime was killed between making them and saying so.
fn remove_cgroups(prefix: &str) {
    let entries = |folder: &Path| -> Vec<_> {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let top = entries(Path::new("/sys/fs/cgroup"));
    let unified = Path::new(UNIFIED);
    let below = top.iter().filter(|folder| *folder != unified).flat_map(|hierarchy| entries(hierarchy));
    for folder in top.iter().cloned().chain(below) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains(prefix) && fs::remove_dir(&folder).is_err() {
            eprintln!("left: {}", folder.display());
        }
    }
}
