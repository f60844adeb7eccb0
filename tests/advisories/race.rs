//! A volume that another container changes while mounts are made in it: a folder becomes a link to the host and back, in
//! each step of the runtime, which strace holds up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use crate::common::*;
use crate::host::HostFolder;

/// What a lookup, or something made of its result, may be.
const STEPS: &str = "openat2,open_tree,move_mount,mount,mkdirat,mknodat,symlinkat,fsmount,mount_setattr";

/// Exchanges a folder and a link, again and again, until it is dropped.
struct Attacker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Attacker {
    fn new(folder: PathBuf, link: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = renameat2(AT_FDCWD, &folder, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE);
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_volume_that_changes_while_mounts_are_made_leads_nowhere() {
    if !needs_root() || !needs_engine("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    let host = HostFolder::new(&sandbox);
    for (number, target) in host.links().iter().enumerate() {
        let volume = sandbox.path(&format!("volume{number}"));
        let (folder, link) = (volume.join("a"), volume.join("b"));
        fs::create_dir_all(folder.join("copied")).expect("a folder");
        fs::write(folder.join("copied/of-the-image"), "x").expect("a file");
        symlink(target, &link).expect("a link");
        let mut bundle = sandbox.bundle();
        for (destination, kind, source, options) in [
            ("/vol", "bind", volume.as_path(), &["bind", "rw"][..]),
            ("/vol/a/made/tmpfs", "tmpfs", Path::new("tmpfs"), &["rw"]),
            ("/vol/a/copied", "tmpfs", Path::new("tmpfs"), &["tmpcopyup"]),
            ("/vol/a/file", "bind", Path::new("/etc/hostname"), &["bind", "ro"]),
            ("/vol/a/sys", "sysfs", Path::new("sysfs"), &["ro"]),
        ] {
            let mount =
                json!({ "destination": destination, "type": kind, "source": source, "options": options });
            bundle.set("/mounts/-", mount);
        }
        let device =
            json!({ "path": "/vol/a/device", "type": "c", "major": 1, "minor": 3, "uid": 7, "gid": 7 });
        bundle.set("/linux/devices/-", device).shell("cat /vol/*/secret; ls /vol/a/ /vol/b/; true");
        let id = sandbox.id(&format!("race{number}"));
        let path = sandbox.prepare(&mut bundle, &id);
        let inject = format!("inject={STEPS}:delay_enter=3000");
        let strace = Run::new("strace").args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &inject]);
        let run = strace.arg(Sandbox::binary()).arg("--root").arg(sandbox.root());
        let (key, value) = sandbox.mark().split_once('=').expect("a mark");
        let attacker = Attacker::new(folder, link);
        // A mount point that is not there any more is an error.
        let outcome = run.env(key, value).args(["run", "--bundle", &path, &id]).run();
        drop(attacker);
        host.assert_untouched(&outcome);
    }
}
