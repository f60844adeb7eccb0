//! The state file of a container: what later commands need to know of it. Written as a whole, by renaming.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::cgroups::Cgroup;
use super::error::{Result, RuntimeError};
use super::intel_rdt::RdtGroup;
use super::status::ProcessId;
use crate::receipt::{Baseline, End};

/// The name of the state file: our own, so that folders of other runtimes under the same root are never
/// taken for ours.
pub const FILE: &str = "rt-state.json";

/// The version of what is in the file. A file of a newer version is not touched.
pub const FORMAT: u32 = 1;

/// What is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub format: u32,
    pub rt_version: String,
    pub id: String,
    pub oci_version: String,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute and without symlinks.
    pub rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub created: String,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// `create` came to its end.
    #[serde(default)]
    pub ready: bool,
    #[serde(default)]
    pub init: Option<ProcessId>,
    pub cgroup: Cgroup,
    /// The limits asked for at create, and by later updates.
    #[serde(default)]
    pub asked: Option<LinuxResources>,
    #[serde(default)]
    pub rdt: Option<RdtGroup>,
    /// The container keeps the session keyring of its creator.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// What a cgroup that was there before had counted already.
    #[serde(default)]
    pub baseline: Option<Baseline>,
    /// How init ended, where rt waited for it.
    #[serde(default)]
    pub end: Option<End>,
}

impl Record {
    /// The record in the state folder `dir`; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or was written by a newer rt.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                return Ok(None);
            }
            Err(error) => return Err(RuntimeError::File { doing: "read", path, error }),
        };
        Self::parse(&text).map(Some).map_err(|error| match error {
            Unreadable::Newer(id, found) => RuntimeError::NewerFormat { id, found, known: FORMAT },
            Unreadable::Damaged(error) => RuntimeError::Parse { path, cause: error.to_string() },
        })
    }

    pub(super) fn parse(text: &[u8]) -> std::result::Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            #[serde(default)]
            id: String,
        }
        serde_json::from_slice::<Self>(text)
            .map_err(Unreadable::Damaged)
            .and_then(|record| {
                if record.format > FORMAT {
                    Err(Unreadable::Newer(record.id, record.format))
                } else {
                    Ok(record)
                }
            })
            .map_err(|error| match serde_json::from_slice::<Head>(text) {
                Ok(head) if head.format > FORMAT => Unreadable::Newer(head.id, head.format),
                _ => error,
            })
    }

    /// Replaces the record in `dir`.
    ///
    /// # Errors
    /// The folder cannot be written to; the old record stays.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| RuntimeError::Other(error.to_string()))?;
        replace(&dir.join(FILE), &text, 0o600).map_err(RuntimeError::file("write", dir.join(FILE)))
    }
}

#[derive(Debug)]
pub(super) enum Unreadable {
    Newer(String, u32),
    Damaged(serde_json::Error),
}

/// Writes a file as a whole: a reader sees the old content or the new one, and a failure leaves the old one.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(hidden);
    let written = write_new(&temporary, content, mode).and_then(|_| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match open() {
        // Left behind by a process that had our pid and was killed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            open()?
        }
        opened => opened?,
    };
    file.write_all(content)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            format: FORMAT,
            rt_version: "1".into(),
            id: "box".into(),
            oci_version: "1.3.0".into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-01T00:00:00Z".into(),
            annotations: BTreeMap::new(),
            ready: true,
            init: Some(ProcessId { pid: 7, start_time: 9 }),
            cgroup: Cgroup::plan(Some(Path::new("/box")), "box", false, false).unwrap(),
            asked: None,
            rdt: None,
            no_new_keyring: false,
            baseline: None,
            end: None,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::read(dir.path()).unwrap().is_none());
        record().write(dir.path()).unwrap();
        let mut changed = Record::read(dir.path()).unwrap().unwrap();
        assert_eq!(changed.init, Some(ProcessId { pid: 7, start_time: 9 }));
        changed.ready = false;
        changed.write(dir.path()).unwrap();
        assert!(!Record::read(dir.path()).unwrap().unwrap().ready);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_newer_and_a_damaged_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            fs::write(dir.path().join(FILE), text).unwrap();
            Record::read(dir.path()).unwrap_err().to_string()
        };
        assert!(error(r#"{"format":99,"id":"box","new":{}}"#).contains("newer rt (format 99"));
        assert!(error("{").starts_with("cannot read /"));
    }
}
