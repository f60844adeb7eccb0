//! A folder that keeps records. A container's own is removed with it, and another container of its name may come while the proof
//! of the first is made: nothing is written there then, and nothing made in what is being removed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ProofError;
use super::journal::{self, FILE};

/// A folder, and under which condition it is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordDir {
    path: PathBuf,
    guard: Option<Guard>,
}

/// The folder as it was found, held open: whatever becomes of its name, and of its number, nothing else is written to. It is
/// the container's as long as it has this file, which is the last to go.
#[derive(Debug, Clone)]
struct Guard {
    folder: Arc<File>,
    witness: &'static str,
}

impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.folder, &other.folder) && self.witness == other.witness
    }
}

impl Eq for Guard {}

impl From<PathBuf> for RecordDir {
    fn from(path: PathBuf) -> Self {
        Self { path, guard: None }
    }
}

impl RecordDir {
    /// The folder that is there now, written to as long as it has the file `witness`.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn guarded(path: PathBuf, witness: &'static str) -> io::Result<Self> {
        let flags = nix::libc::O_PATH | nix::libc::O_DIRECTORY;
        let folder = Arc::new(OpenOptions::new().read(true).custom_flags(flags).open(&path)?);
        Ok(Self { path, guard: Some(Guard { folder, witness }) })
    }

    pub(super) fn append(&self, line: &[u8]) -> Result<(), ProofError> {
        match &self.guard {
            None => journal::append_line(&self.path.join(FILE), line),
            Some(guard) => guard.append(&self.path, line),
        }
    }
}

impl Guard {
    fn append(&self, dir: &Path, line: &[u8]) -> Result<(), ProofError> {
        let failed = |source| ProofError::Record { path: dir.join(FILE), source };
        let gone = || failed(io::ErrorKind::NotFound.into());
        let held = PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()));
        let is_recorded = || held.join(self.witness).try_exists().map_err(failed);
        if !is_recorded()? {
            return Err(gone());
        }
        journal::append_line(&held.join(FILE), line).map_err(|error| match error {
            ProofError::Record { source, .. } => failed(source),
            other => other,
        })?;
        if is_recorded()? {
            return Ok(());
        }
        // It is being removed, perhaps by one that has looked for what to remove already.
        let _ = fs::remove_file(held.join(FILE));
        Err(gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_folder_is_written_to_while_it_is_the_same_and_has_its_witness() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("box");
        let make = || {
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("state"), "").unwrap();
        };
        make();
        let guarded = RecordDir::guarded(dir.clone(), "state").unwrap();
        guarded.append(b"one\n").unwrap();
        assert_eq!(fs::read_to_string(dir.join(FILE)).unwrap(), "one\n");
        fs::remove_file(dir.join("state")).unwrap();
        fs::remove_file(dir.join(FILE)).unwrap();
        let error = guarded.append(b"two\n").unwrap_err();
        assert!(matches!(&error, ProofError::Record { path, .. } if *path == dir.join(FILE)), "{error:?}");
        assert!(!dir.join(FILE).exists(), "it is being removed");
        fs::remove_dir(&dir).unwrap();
        make();
        assert!(guarded.append(b"three\n").is_err());
        assert!(!dir.join(FILE).exists(), "it is another container's");
    }
}
