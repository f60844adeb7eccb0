//! Running proofs of this host: a lock per memory cgroup, and what all of them may still take, summed.
//! One file a proof, locked as long as it runs (the lock goes with the process, however it ends) and holding its bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;

use super::error::ProofError;
use super::lock::{self, lock_within};
use crate::cgroup::MemoryCgroup;
use crate::systemd::user;

/// The proof's share of the host, held until dropped.
#[derive(Debug)]
pub struct Reservation {
    path: PathBuf,
    /// Locked; closing it is what ends the reservation.
    _file: Flock<File>,
    /// What other proofs had reserved, in bytes.
    pub others_bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The usual folder: of the whole host for root, else of the user, who is root of a namespace in podman's hooks.
pub fn usual_dir() -> PathBuf {
    let user = user();
    if user == 0 {
        return PathBuf::from("/run/rt-proofs");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("rt-proofs"),
        None => PathBuf::from(format!("/tmp/rt-proofs-{user}")),
    }
}

/// Reserves `bytes` for a proof of `cgroup`; `None` where another proof of the same cgroup runs.
pub fn reserve(dir: &Path, cgroup: &MemoryCgroup, bytes: u64) -> Result<Option<Reservation>, ProofError> {
    open_dir(dir)?;
    // Held only while the folder is read and the own file is made.
    let whole = dir.join("lock");
    let _whole = lock_within(open_file(&whole)?, lock::WITHIN).map_err(|e| lock_error(&whole, e))?;
    let path = dir.join(key(cgroup)?);
    let Some(mut file) = lock_alone(&path)? else { return Ok(None) };
    let written = file.set_len(0).and_then(|()| file.write_all(bytes.to_string().as_bytes()));
    written.map_err(|e| lock_error(&path, e))?;
    let others_bytes = others(dir, &path).map_err(|e| lock_error(dir, e))?;
    Ok(Some(Reservation { path, _file: file, others_bytes }))
}

/// Locks the file that has the name; `None` where somebody else holds it.
fn lock_alone(path: &Path) -> Result<Option<Flock<File>>, ProofError> {
    loop {
        let file = match Flock::lock(open_file(path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, e)) => return Err(lock_error(path, e.into())),
        };
        // A proof that ended between open and lock has taken the name away.
        let ours = file.metadata().map_err(|e| lock_error(path, e))?;
        match std::fs::symlink_metadata(path) {
            Ok(named) if named.ino() == ours.ino() => return Ok(Some(file)),
            _ => {}
        }
    }
}

/// What running proofs have reserved, without reserving anything.
pub fn reserved(dir: &Path) -> u64 {
    others(dir, Path::new("")).unwrap_or(0)
}

/// A cgroup by its inode: the same through every mount of the hierarchy.
fn key(cgroup: &MemoryCgroup) -> Result<String, ProofError> {
    let metadata = std::fs::metadata(&cgroup.dir)
        .map_err(|source| ProofError::Read { path: cgroup.dir.clone(), source })?;
    Ok(format!("{}-{}", cgroup.version, metadata.ino()))
}

fn open_dir(dir: &Path) -> Result<(), ProofError> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // In /tmp the name could be somebody else's.
            let metadata = std::fs::symlink_metadata(dir).map_err(|e| lock_error(dir, e))?;
            let ours = metadata.is_dir() && metadata.uid() == Uid::effective().as_raw();
            if ours { Ok(()) } else { Err(lock_error(dir, io::ErrorKind::PermissionDenied.into())) }
        }
        Err(e) => Err(lock_error(dir, e)),
    }
}

fn open_file(path: &Path) -> Result<File, ProofError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .map_err(|e| lock_error(path, e))
}

fn lock_error(path: &Path, source: io::Error) -> ProofError {
    ProofError::Lock { path: path.to_owned(), source }
}

/// The sum over all files that are locked; a file whose lock is free was left by a killed proof and is removed.
fn others(dir: &Path, own: &Path) -> io::Result<u64> {
    let mut sum = 0u64;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path == own || path.file_name().is_some_and(|name| name == "lock") {
            continue;
        }
        let Ok(file) = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path) else {
            continue;
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_free) => {
                let _ = std::fs::remove_file(&path);
            }
            Err((file, _)) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                sum = sum.saturating_add(text.parse().unwrap_or(0));
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Version;

    fn cgroup(dir: &Path) -> MemoryCgroup {
        std::fs::create_dir_all(dir).unwrap();
        MemoryCgroup { version: Version::V2, dir: dir.to_owned(), mount: dir.to_owned() }
    }

    #[test]
    fn one_proof_a_cgroup_and_a_sum_over_all() {
        let tmp = tempfile::tempdir().unwrap();
        let locks = tmp.path().join("locks");
        let (a, b) = (cgroup(&tmp.path().join("a")), cgroup(&tmp.path().join("b")));
        let first = reserve(&locks, &a, 100).unwrap().unwrap();
        assert_eq!(first.others_bytes, 0);
        assert!(reserve(&locks, &a, 1).unwrap().is_none(), "the same cgroup is busy");
        let second = reserve(&locks, &b, 20).unwrap().unwrap();
        assert_eq!(second.others_bytes, 100);
        assert_eq!(reserved(&locks), 120);
        drop(first);
        assert_eq!(reserved(&locks), 20);
        drop(second);
        assert!(reserve(&locks, &a, 1).unwrap().is_some());
    }

    #[test]
    fn files_of_killed_proofs_do_not_count_and_go() {
        let tmp = tempfile::tempdir().unwrap();
        let left = tmp.path().join("v2-123456");
        std::fs::write(&left, "1000").unwrap();
        assert_eq!(reserved(tmp.path()), 0);
        assert!(!left.exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_lock_is_not_followed() {
        let tmp = tempfile::tempdir().unwrap();
        let locks = tmp.path().join("locks");
        std::fs::create_dir(&locks).unwrap();
        std::os::unix::fs::symlink(tmp.path().join("elsewhere"), locks.join("lock")).unwrap();
        assert!(reserve(&locks, &cgroup(&tmp.path().join("a")), 1).is_err());
        assert!(!tmp.path().join("elsewhere").exists());
    }
}
