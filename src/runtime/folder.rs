//! The state folder of one container: its lock, whose it is where the record is missing, and its removal.
//!
//! Some write into it without the lock: a proof its journal, `kill` a note. They do so by the rule that nothing is made once
//! the record is gone, and what comes in between is removed with the rest ([`remove`]).

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{Result, RuntimeError};
use super::saved::SECCOMP;
use super::{bundle, default_bundle, gate, receipts, record};
use crate::proof::journal;
use crate::sys::process::close_number;

/// A file that another runtime has in a container's folder, and who that is.
const OTHERS: [(&str, &str); 3] =
    [("youki_config.json", "youki"), ("state.json", "runc"), ("status", "crun")];

/// What a writer without the lock may make after the rest was removed. No writer starts once the record is gone.
const ROUNDS: u32 = 100;

/// The exclusive right to change a container. Given back when dropped.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    /// In a forked child: closes the copy of the descriptor, so that the lock ends with the parent. Not to be
    /// dropped in the child, which would unlock it for both.
    pub fn close_in_child(&self) {
        let _ = close_number(self.0.as_raw_fd());
    }
}

/// Takes the lock of a folder; `None` if the folder is gone (a lock on a deleted folder keeps nobody out).
///
/// # Errors
/// The folder cannot be opened or locked; [`is_busy`] tells those where another has the lock.
pub(super) fn lock(dir: &Path, how: FlockArg) -> Result<Option<Lock>> {
    let mut file = match File::open(dir) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(RuntimeError::File { doing: "open", path: dir.to_owned(), error }),
    };
    let held = loop {
        match Flock::lock(file, how) {
            Ok(held) => break held,
            Err((same, Errno::EINTR)) => file = same,
            Err((_, errno)) => return Err(RuntimeError::file("lock", dir)(errno)),
        }
    };
    let held_one = held.metadata().map_err(RuntimeError::file("stat", dir))?;
    match fs::metadata(dir) {
        Ok(now) if (held_one.dev(), held_one.ino()) == (now.dev(), now.ino()) => Ok(Some(Lock(held))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RuntimeError::File { doing: "stat", path: dir.to_owned(), error }),
    }
}

/// Whether a lock could not be had because another command has it.
pub(super) fn is_busy(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::File { error, .. } if error.kind() == ErrorKind::WouldBlock)
}

/// Whether another command changes the container right now.
///
/// # Errors
/// Its folder cannot be opened.
pub(super) fn is_locked(dir: &Path) -> Result<bool> {
    match lock(dir, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err(error) if is_busy(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// What a folder is that has no record that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing, or no more than a create or delete that was cut short, or a late writer, leaves: nothing runs.
    Scraps,
    /// A container's whose record is lost.
    Lost,
    /// Another runtime's.
    Foreign(&'static str),
    /// It has this, which rt does not make, or not alone.
    Unknown(String),
}

impl Rest {
    /// Of the folder `dir`; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(dir: &Path) -> Result<Option<Self>> {
        let failed = |error| RuntimeError::File { doing: "read", path: dir.to_owned(), error };
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        Ok(Some(Self::of_names(&names)))
    }

    fn of_names(names: &[String]) -> Self {
        let foreign = OTHERS.iter().find(|(file, _)| names.iter().any(|name| name == file));
        if let Some((_, runtime)) = foreign {
            return Self::Foreign(runtime);
        }
        // Other runtimes have files of these names too, also before they have one of theirs.
        let is_common = |name: &str| matches!(name, bundle::CONFIG | gate::START | SECCOMP);
        let is_ours = |name: &str| is_scrap(name) || matches!(name, record::FILE | gate::RESULT_FOLDER);
        if let Some(unknown) = names.iter().find(|name| !is_common(name) && !is_ours(name)) {
            return Self::Unknown(unknown.clone());
        }
        match names.iter().find(|name| !is_scrap(name)) {
            None => Self::Scraps,
            Some(_) if names.iter().any(|name| is_ours(name)) => Self::Lost,
            Some(common) => Self::Unknown(common.clone()),
        }
    }
}

/// What is there before the record, or can be after it.
fn is_scrap(name: &str) -> bool {
    let temporary = |file: &str| {
        name.strip_prefix('.')
            .and_then(|rest| rest.strip_prefix(file))
            .is_some_and(|end| end.starts_with('.'))
    };
    name == default_bundle::FOLDER
        || name == receipts::SIGNAL
        || name.starts_with(journal::FILE)
        || temporary(record::FILE)
        || temporary(receipts::SIGNAL)
}

/// Removes a container's folder. The record goes last: cut short, the rest is still known to be ours.
///
/// # Errors
/// Something cannot be removed; what is left, is left for another try.
pub(super) fn remove(dir: &Path) -> Result<()> {
    let failed = |error| RuntimeError::File { doing: "remove", path: dir.to_owned(), error };
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    for _ in 0..ROUNDS {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_name() == record::FILE {
                continue;
            }
            let folder = entry.file_type().map_err(failed)?.is_dir();
            gone(if folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) })?;
        }
        gone(fs::remove_file(dir.join(record::FILE)))?;
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            removed => return gone(removed),
        }
    }
    Err(failed(Errno::ENOTEMPTY.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(names: &[&str]) -> Rest {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Rest::of_names(&names)
    }

    #[test]
    fn what_is_left_without_a_record_is_recognised_by_its_names() {
        for scraps in [
            &[] as &[&str],
            &["bundle", ".rt-state.json.77"],
            &["rt-proofs.jsonl", "rt-proofs.jsonl.new", "rt-signal.json", ".rt-signal.json.7"],
        ] {
            assert_eq!(rest(scraps), Rest::Scraps, "{scraps:?}");
        }
        assert_eq!(rest(&["config.json", "result"]), Rest::Lost);
        assert_eq!(rest(&["rt-state.json"]), Rest::Lost, "it cannot be read");
        assert_eq!(rest(&["config.json", "exec.fifo", "rt-signal.json"]), Rest::Lost);
        assert_eq!(rest(&["config.json", "exec.fifo"]), Rest::Unknown("config.json".into()), "of crun too");
        assert_eq!(rest(&["config.json", "state.json"]), Rest::Foreign("runc"));
        assert_eq!(rest(&["bundle", "notes"]), Rest::Unknown("notes".into()));
    }

    #[test]
    fn a_folder_goes_with_all_that_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("box");
        fs::create_dir_all(dir.join("bundle/rootfs")).unwrap();
        for file in [record::FILE, bundle::CONFIG, "bundle/config.json"] {
            fs::write(dir.join(file), "{}").unwrap();
        }
        remove(&dir).unwrap();
        assert!(!dir.exists());
        remove(&dir).unwrap();
    }

    #[test]
    fn a_lock_is_known_and_that_of_a_removed_folder_is_none() {
        let root = tempfile::tempdir().unwrap();
        let held = lock(root.path(), FlockArg::LockExclusive).unwrap().unwrap();
        assert!(is_locked(root.path()).unwrap());
        assert!(is_busy(&lock(root.path(), FlockArg::LockExclusiveNonblock).unwrap_err()));
        drop(held);
        assert!(!is_locked(root.path()).unwrap());
        assert!(lock(&root.path().join("none"), FlockArg::LockExclusive).unwrap().is_none());
    }
}
