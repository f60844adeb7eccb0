//! A mount namespace with nothing of the host in it: who gets at the worker's root in /proc finds an empty folder.

use std::fs;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

/// Where the new root is put together: a folder that is there wherever rt runs.
const POINT: &str = "/proc";
const POINT_OF_PROC: &str = "/proc/proc";

const NONE: Option<&str> = None;

/// Leaves this process, which must have no folder open, in an empty mount namespace, or with an error in the one it was in or
/// a copy of it. `with_proc`: but for /proc, where there is nothing but processes (Linux 5.8).
pub(super) fn empty_mounts(with_proc: bool) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // What is unmounted here stays on the host.
    mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), POINT, Some("tmpfs"), flags, Some("mode=0555,size=64k,nr_inodes=8"))?;
    enter(with_proc, flags).inspect_err(|_| {
        let _ = umount2(POINT, MntFlags::MNT_DETACH);
    })
}

fn enter(with_proc: bool, flags: MsFlags) -> Result<(), Errno> {
    if with_proc {
        // Before the host's is unmounted: a user namespace mounts one only where there is one.
        fs::create_dir(POINT_OF_PROC).map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        mount(Some("proc"), POINT_OF_PROC, Some("proc"), flags, Some("subset=pid"))?;
    }
    chdir(POINT)?;
    // The old root is stacked on the new one, so that no folder for it is needed.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}
