//! Receipts of containers: taken from the kernel while the cgroup is there, and kept in the bundle and, within bounds,
//! beside the root. A receipt that fails never fails what it is about.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::container::Container;
use super::error::{Result, RuntimeError};
use super::kept::{Kept, make_dir};
use super::record::{replace, replace_by};
use super::status::{ProcessId, Status};
use super::store::Store;
use crate::cgroup::CgroupError;
use crate::proof::journal;
use crate::receipt::{Baseline, End, Evidence, Found, Place, Receipt, SentSignal};

/// The receipt's name in a bundle, and in a container's folder of those kept beside the root.
pub const FILE: &str = "rt-receipt.json";

/// A receipt that is being written.
const NEW: &str = ".rt-receipt.json.new";

/// The last signal sent with `kill`, in a container's state folder.
pub const SIGNAL: &str = "rt-signal.json";

/// Beyond so many kept receipts, the older half goes.
const MOST: usize = 128;

/// A larger file is no receipt.
const MAX_BYTES: u64 = 256 << 10;

/// So much of the newest proofs is kept of a container.
const MAX_PROOFS: usize = 256 << 10;

/// The receipt of a container as it is now. `end` is what the caller knows of init's.
///
/// # Errors
/// What was noted of a signal cannot be read: the cause could be a wrong one.
pub fn take(container: &Container, found: Found, end: Option<End>) -> Result<Receipt> {
    let record = container.record();
    let place = place(container);
    let counted = |place: &Place<'_>| match place.memory() {
        Ok(memory) => Some(memory),
        Err(error) if error.is_missing() => None,
        Err(error) => {
            tracing::warn!(
                "nothing is known of the memory of container {}: {}",
                container.id(),
                words(&error)
            );
            None
        }
    };
    let memory = place.as_ref().and_then(counted);
    let ended = found != Found::Alive;
    let victim = place.filter(|_| ended && memory.is_none()).and_then(|place| place.victim());
    let evidence = Evidence {
        found,
        init_pid: record.init.map(|init| init.pid),
        end: end.or(record.end).or_else(|| record.init.filter(|_| ended)?.end()),
        signal: noted_signal(container)?,
        memory,
        victim,
    };
    Ok(Receipt::new(container.id(), container.bundle().to_owned(), container.created(), evidence))
}

fn noted_signal(container: &Container) -> Result<Option<SentSignal>> {
    let path = container.directory().join(SIGNAL);
    match read_bounded(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RuntimeError::File { doing: "read", path, error }),
    }
}

/// As [`take`], for a container that nothing is done to.
///
/// # Errors
/// As [`take`], and where nobody can tell whether it runs.
pub fn of(container: &Container) -> Result<Receipt> {
    let found = if container.status()? == Status::Stopped { Found::Stopped } else { Found::Alive };
    take(container, found, None)
}

fn place(container: &Container) -> Option<Place<'_>> {
    Some(Place {
        cgroup: container.cgroup().memory()?,
        unified: container.cgroup().path_of(""),
        records: container.directory(),
        baseline: container.record().baseline,
        init_pid: container.record().init.map(|init| init.pid),
        init_since_boot: container.record().init.and_then(ProcessId::since_boot),
    })
}

fn words(error: &CgroupError) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// What the container's cgroup has counted already.
pub(super) fn baseline(container: &Container) -> Option<Baseline> {
    place(container)?.counted().inspect_err(|error| tracing::debug!("{error}")).ok()
}

/// Notes a signal that could end a process, before it is sent.
pub(super) fn note_signal(container: &Container, signal: i32) {
    if matches!(
        signal,
        0 | libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGURG
            | libc::SIGWINCH
    ) {
        return;
    }
    let at = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let note = container.directory().join(SIGNAL);
    let noted = serde_json::to_vec(&SentSignal { signal, at })
        .map_err(io::Error::from)
        .and_then(|text| replace(&note, &text, 0o600));
    if let Err(error) = noted {
        tracing::debug!("cannot note signal {signal}: {error}");
    } else if !container.is_recorded() {
        // It is being deleted: nothing may stay behind.
        let _ = fs::remove_file(note);
    }
}

/// Takes the receipt of a container that is about to be deleted, and keeps it. Failures are only logged.
pub(super) fn leave(store: &Store, container: &Container, found: Found, end: Option<End>) {
    let receipt = match take(container, found, end) {
        Ok(receipt) => receipt,
        Err(error) => return tracing::warn!("no memory receipt of container {}: {error}", container.id()),
    };
    let text = match serde_json::to_vec(&receipt) {
        Ok(text) => text,
        Err(error) => return tracing::warn!("cannot write the memory receipt: {error}"),
    };
    let bundle = container.bundle();
    let bundle_stays = !bundle.starts_with(container.directory());
    if bundle_stays && let Err(error) = put(&bundle.join(FILE), &text) {
        match error.kind() {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied | ErrorKind::NotFound => {
                tracing::debug!("no memory receipt in {}: {error}", bundle.display());
            }
            _ => tracing::warn!("cannot write the memory receipt into {}: {error}", bundle.display()),
        }
    }
    // Beside the receipt, whoever the bundle belongs to: engines remove theirs.
    let proofs = journal::text(container.directory());
    let kept = store.kept_beside();
    if let Err(error) = keep(&kept, container.id(), &text, proofs.as_deref()) {
        tracing::warn!("cannot keep the memory receipt in {}: {error}", kept.receipts().display());
    }
}

/// The same for a create that failed, where a proof was made: who asks why it may not run finds the answer.
pub(super) fn leave_proofs(store: &Store, container: &Container) {
    if container.directory().join(journal::FILE).exists() {
        leave(store, container, Found::NotStarted, None);
    }
}

/// Writes a file as a whole, in the place of one that need not outlive a crash: ext4 writes the new content of a file that
/// is renamed over another to the disk at once (auto_da_alloc), which costs 0.2 ms instead of 0.05.
fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    remove_if_there(path)?;
    // One name for all, so that the next delete takes away what one that was killed left in the bundle.
    replace_by(&path.with_file_name(NEW), path, content, 0o600)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts a receipt, and the newest proofs, into a folder of the container's name.
fn keep(kept: &Kept, id: &str, receipt: &[u8], proofs: Option<&str>) -> io::Result<()> {
    let all = kept.receipts();
    let dir = all.join(id);
    // In the usual case the folder is there, and this is one call.
    match make_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            kept.make()?;
            make_dir(&dir)?;
        }
        made => made?,
    }
    kept.check(&dir)?;
    put(&dir.join(FILE), receipt)?;
    let journal = dir.join(journal::FILE);
    match proofs {
        Some(text) => put(&journal, journal::newest(text, MAX_PROOFS).as_bytes())?,
        // Of an earlier container of this name.
        None => remove_if_there(&journal)?,
    }
    thin_out(&all)
}

/// Removes the older half once there are too many.
fn thin_out(all: &Path) -> io::Result<()> {
    let dirs: Vec<PathBuf> = fs::read_dir(all)?.flatten().map(|entry| entry.path()).collect();
    if dirs.len() <= MOST {
        return Ok(());
    }
    let age = |dir: PathBuf| {
        let written = fs::symlink_metadata(dir.join(FILE)).and_then(|file| file.modified());
        (written.unwrap_or(SystemTime::UNIX_EPOCH), dir)
    };
    let mut dirs: Vec<_> = dirs.into_iter().map(age).collect();
    dirs.sort_unstable();
    let surplus = dirs.len() - MOST / 2;
    for (_, dir) in dirs.into_iter().take(surplus) {
        match fs::remove_dir_all(dir) {
            // Another delete thins out as well.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Store {
    /// The receipt kept of a deleted container; `None` where there is none.
    ///
    /// # Errors
    /// The id is not allowed, or the receipt cannot be read.
    pub fn kept_receipt(&self, id: &str) -> Result<Option<Receipt>> {
        read(&self.kept(id)?)
    }

    /// The deleted containers of which something is kept, by name.
    #[must_use]
    pub fn kept_names(&self) -> Vec<String> {
        let kept = self.kept_beside();
        let entries = [kept.receipts(), kept.old_receipts()]
            .map(fs::read_dir)
            .into_iter()
            .flatten()
            .flatten()
            .flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|id| super::store::check_id(id).is_ok());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The folder with what is kept of a deleted container: its receipt and its proofs.
    ///
    /// # Errors
    /// The id is not allowed.
    pub fn kept(&self, id: &str) -> Result<PathBuf> {
        super::store::check_id(id)?;
        let kept = self.kept_beside();
        let (now, old) = (kept.receipts().join(id), kept.old_receipts().join(id));
        Ok(if !now.exists() && old.exists() { old } else { now })
    }
}

/// The receipt in a bundle; `None` where there is none.
///
/// # Errors
/// It cannot be read, or is none of this version.
pub fn read(dir: &Path) -> Result<Option<Receipt>> {
    let path = dir.join(FILE);
    let text = match read_bounded(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
        Err(error) => return Err(RuntimeError::File { doing: "read", path, error }),
    };
    let receipt: Receipt = serde_json::from_slice(&text)
        .map_err(|error| RuntimeError::Parse { path: path.clone(), cause: error.to_string() })?;
    match receipt.schema {
        crate::receipt::SCHEMA => Ok(Some(receipt)),
        other => Err(RuntimeError::Parse { path, cause: format!("schema version {other} is not known") }),
    }
}

/// A small regular file, no link followed.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn receipts_are_private_and_the_older_ones_go() {
        let root = tempfile::tempdir().unwrap();
        let kept = Kept::of(root.path(), Some(root.path()));
        let all = kept.receipts();
        for number in 0..=MOST {
            keep(&kept, &format!("box{number}"), b"{}", Some("{}\n")).unwrap();
        }
        assert_eq!(fs::read_dir(&all).unwrap().count(), MOST / 2);
        let newest = all.join(format!("box{MOST}"));
        for (path, mode) in [(&all, 0o700), (&newest, 0o700), (&newest.join(FILE), 0o600)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
        assert!(newest.join(journal::FILE).exists());
        keep(&kept, &format!("box{MOST}"), b"{}", None).unwrap();
        assert!(!newest.join(journal::FILE).exists(), "the proofs were an earlier container's");
    }

    #[test]
    fn links_are_neither_followed_nor_read() {
        let root = tempfile::tempdir().unwrap();
        let kept = Kept::of(root.path(), None);
        let (all, other) = (kept.receipts(), root.path().join("other"));
        fs::create_dir(&other).unwrap();
        symlink(&other, &all).unwrap();
        assert!(keep(&kept, "box", b"{}", None).unwrap_err().to_string().contains("no folder of this user"));
        fs::remove_file(&all).unwrap();
        fs::create_dir(&all).unwrap();
        symlink(&other, all.join("box")).unwrap();
        assert!(keep(&kept, "box", b"{}", None).is_err());
        fs::write(other.join(FILE), "{}").unwrap();
        symlink(other.join(FILE), all.join(FILE)).unwrap();
        assert!(matches!(read(&all), Err(RuntimeError::File { .. })));
        assert!(read(root.path()).unwrap().is_none());
    }
}
