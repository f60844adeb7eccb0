//! No mount may cover /proc or anything in it: a process that finds a fake /proc/self/… writes its labels and
//! settings into the void. The exceptions are the real proc, and the files that lxcfs emulates.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::sys::stat::fstat;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::error::{FailedCall, MountFailure};

/// The inode number of the root of every procfs, and of nothing else in it (linux/proc_ns.h).
const PROC_ROOT_INODE: u64 = 1;

/// Files below /proc on which something may be mounted.
const ALLOWED: &[&str] = &[
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

/// What shall be mounted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cover<'a> {
    /// A new procfs.
    Proc,
    /// What this descriptor refers to.
    Bind(BorrowedFd<'a>),
    /// Any other file system.
    Other,
}

/// Fails unless `cover` may be mounted on `path`, which is relative to `root` and free of symlinks.
pub(super) fn check(root: &Path, path: &Path, cover: Cover<'_>) -> Result<(), MountFailure> {
    if !path.starts_with("proc") {
        return Ok(());
    }
    if path != Path::new("proc") {
        if ALLOWED.iter().any(|allowed| path == Path::new(allowed)) {
            return Ok(());
        }
        return Err(MountFailure::InsideProc { destination: root.join(path) });
    }
    match cover {
        Cover::Proc => Ok(()),
        Cover::Bind(tree) if is_proc(tree)? => {
            warn_unless_proc_root(tree, root, path)?;
            Ok(())
        }
        Cover::Bind(_) | Cover::Other => Err(MountFailure::NotProc { destination: root.join(path) }),
    }
}

fn is_proc(tree: BorrowedFd<'_>) -> Result<bool, FailedCall> {
    let stat = fstatfs(tree).map_err(FailedCall::at("fstatfs", "source"))?;
    Ok(stat.filesystem_type() == PROC_SUPER_MAGIC)
}

fn warn_unless_proc_root(tree: BorrowedFd<'_>, root: &Path, path: &Path) -> Result<(), FailedCall> {
    let stat = fstat(tree).map_err(FailedCall::at("fstat", "source"))?;
    if stat.st_ino != PROC_ROOT_INODE {
        tracing::warn!(
            "the source of the bind mount on {} is procfs but not its root (inode {})",
            root.join(path).display(),
            stat.st_ino
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    fn allowed(path: &str, cover: Cover<'_>) -> bool {
        check(Path::new("/r"), Path::new(path), cover).is_ok()
    }

    #[test]
    fn only_a_proc_covers_proc() {
        assert!(allowed("proc", Cover::Proc));
        assert!(!allowed("proc", Cover::Other));
        let (proc, tmp) = (File::open("/proc").unwrap(), File::open("/tmp").unwrap());
        assert!(allowed("proc", Cover::Bind(proc.as_fd())));
        assert!(!allowed("proc", Cover::Bind(tmp.as_fd())));
    }

    #[test]
    fn inside_proc_only_what_lxcfs_emulates() {
        assert!(allowed("proc/meminfo", Cover::Other));
        assert!(!allowed("proc/self/attr", Cover::Proc));
        assert!(!allowed("proc/meminfo/x", Cover::Other));
        assert!(allowed("proc2/self", Cover::Other) && allowed("dev/proc", Cover::Other));
    }

    #[test]
    fn the_message_names_the_path_on_the_host() {
        let error = check(Path::new("/r"), Path::new("proc/self"), Cover::Other).unwrap_err();
        assert_eq!(error.to_string(), r#""/r/proc/self" cannot be mounted because it is inside /proc"#);
    }
}
