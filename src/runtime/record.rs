//! The state file of a container: what later commands need to know of it. Written as a whole, by renaming.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cgroups::{Before, Cgroup};
use super::error::{Result, RuntimeError};
use super::intel_rdt::RdtGroup;
use super::saved::Saved;
use super::status::ProcessId;
use crate::receipt::{Baseline, End};
use crate::small_file;

/// The name of the state file: our own, so that folders of other runtimes under the same root are never
/// taken for ours.
pub const FILE: &str = "rt-state.json";

/// The version of what is in the file, by a rule (docs/compatibility.md): a field that an older rt may ignore is added
/// without a new version and is optional when read; a new version is one that an older rt must not touch.
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
    /// An update is being made, or was cut short: what the control files said before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Before>,
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
    /// What was saved for later commands; an older rt did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Saved>,
    /// Fields that a later rt added: kept when the file is written again.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// What every format has in this form, so that any rt can end a container of any other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Core {
    format: u32,
    rt_version: String,
    id: String,
    #[serde(default)]
    bundle: PathBuf,
    #[serde(default)]
    init: Option<ProcessId>,
    cgroup: Cgroup,
}

impl Record {
    /// The record in the state folder `dir`; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or was written by a newer rt.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let Some(text) = text_in(dir)? else { return Ok(None) };
        Self::parse(&text).map(Some).map_err(|error| match error {
            Unreadable::Newer(head) => RuntimeError::NewerFormat {
                id: head.id,
                found: head.format,
                by: head.rt_version,
                known: FORMAT,
            },
            Unreadable::Damaged(error) => {
                RuntimeError::Parse { path: dir.join(FILE), cause: error.to_string() }
            }
        })
    }

    /// What can be read of the record whatever its format is and where it is cut, for ending the container; `None` if that is
    /// too little.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_core(dir: &Path) -> Result<Option<Self>> {
        let Some(text) = text_in(dir)? else { return Ok(None) };
        Ok(serde_json::from_slice::<Core>(&text).ok().or_else(|| Core::salvage(&text)).map(Self::from))
    }

    /// The init that a record has, however damaged that is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_init(dir: &Path) -> Result<Option<ProcessId>> {
        Ok(text_in(dir)?.and_then(|text| salvage(&text, "init")))
    }

    pub(super) fn parse(text: &[u8]) -> std::result::Result<Self, Unreadable> {
        let read = serde_json::from_slice::<Self>(text);
        match read {
            Ok(record) if record.format <= FORMAT => Ok(record),
            // A newer format may have anything in the place of what is known here.
            _ => match serde_json::from_slice::<Head>(text) {
                Ok(head) if head.format > FORMAT => Err(Unreadable::Newer(head)),
                _ => read.map_err(Unreadable::Damaged),
            },
        }
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

impl Core {
    /// Of a record that was cut: all that comes before the end of the cgroup.
    fn salvage(text: &[u8]) -> Option<Self> {
        Some(Self {
            format: salvage(text, "format")?,
            rt_version: salvage(text, "rtVersion")?,
            id: salvage(text, "id")?,
            bundle: salvage(text, "bundle")?,
            init: salvage(text, "init"),
            cgroup: salvage(text, "cgroup")?,
        })
    }
}

/// The first whole value of this type with this name. Inside of a string the quotes would be escaped.
fn salvage<T: DeserializeOwned>(text: &[u8], name: &str) -> Option<T> {
    let key = format!("\"{name}\":");
    let ends = text.windows(key.len()).enumerate().filter(|(_, window)| *window == key.as_bytes());
    let mut values = ends.filter_map(|(at, _)| {
        let rest = text.get(at + key.len()..)?;
        serde_json::Deserializer::from_slice(rest).into_iter::<T>().next()?.ok()
    });
    values.next()
}

impl From<Core> for Record {
    fn from(core: Core) -> Self {
        Self {
            format: core.format,
            rt_version: core.rt_version,
            id: core.id,
            oci_version: String::new(),
            bundle: core.bundle,
            rootfs: PathBuf::new(),
            created: String::new(),
            annotations: BTreeMap::new(),
            ready: true,
            init: core.init,
            cgroup: core.cgroup,
            asked: None,
            undo: None,
            rdt: None,
            no_new_keyring: false,
            baseline: None,
            end: None,
            saved: None,
            more: serde_json::Map::new(),
        }
    }
}

/// By which version of which rt a record is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub format: u32,
    #[serde(default)]
    rt_version: String,
    #[serde(default)]
    id: String,
}

#[derive(Debug)]
pub(super) enum Unreadable {
    Newer(Head),
    Damaged(serde_json::Error),
}

/// The text of the state file, if there is one.
fn text_in(dir: &Path) -> Result<Option<Vec<u8>>> {
    let path = dir.join(FILE);
    match File::open(&path).and_then(|file| small_file::short(&file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(RuntimeError::File { doing: "read", path, error }),
    }
}

/// Writes a file as a whole: a reader sees the old content or the new one, and a failure leaves the old one.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    replace_by(&path.with_file_name(hidden), path, content, mode)
}

/// The same by a file of this name, which one that was killed may have left.
pub fn replace_by(temporary: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let written = write_new(temporary, content, mode).and_then(|_| fs::rename(temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(temporary);
    }
    written
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match open() {
        // Left behind by a process that was killed.
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
            undo: None,
            rdt: None,
            no_new_keyring: false,
            baseline: None,
            end: None,
            saved: None,
            more: serde_json::Map::new(),
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
        let newer = error(r#"{"format":99,"rtVersion":"7.5.1","id":"box","new":{}}"#);
        assert!(newer.contains("newer rt (7.5.1, format 99"), "{newer}");
        assert!(newer.contains(concat!("this is ", env!("CARGO_PKG_VERSION"))), "{newer}");
        assert!(error("{").starts_with("cannot read /"));
    }

    #[test]
    fn fields_of_a_later_rt_are_kept_and_those_an_older_one_lacked_are_not_missed() {
        let mut value = serde_json::to_value(record()).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.retain(|name, _| {
            !["annotations", "asked", "rdt", "noNewKeyring", "baseline", "end"].contains(&name.as_str())
        });
        fields.insert("later".into(), serde_json::json!({ "a": [1] }));
        let text = serde_json::to_vec(&value).unwrap();
        let read = Record::parse(&text).unwrap();
        assert!(read.annotations.is_empty() && read.asked.is_none() && read.end.is_none());
        let again = serde_json::to_value(&read).unwrap();
        assert_eq!(again["later"]["a"][0], 1);
    }

    #[test]
    fn the_core_of_a_newer_file_is_enough_to_end_its_container() {
        let dir = tempfile::tempdir().unwrap();
        let mut value = serde_json::to_value(record()).unwrap();
        value["format"] = 99.into();
        value["asked"] = "another type".into();
        value["created"] = serde_json::Value::Null;
        fs::write(dir.path().join(FILE), value.to_string()).unwrap();
        assert!(matches!(Record::read(dir.path()), Err(RuntimeError::NewerFormat { found: 99, .. })));
        let core = Record::read_core(dir.path()).unwrap().unwrap();
        assert_eq!((core.id.as_str(), core.init), ("box", Some(ProcessId { pid: 7, start_time: 9 })));
        let text = serde_json::to_vec(&record()).unwrap();
        let cgroup = text.windows(9).position(|window| window == b"\"cgroup\":").unwrap();
        let cut = |length: usize| fs::write(dir.path().join(FILE), &text[..length]).unwrap();
        cut(text.len() - 1);
        let core = Record::read_core(dir.path()).unwrap().unwrap();
        assert_eq!((core.id.as_str(), core.init), ("box", Some(ProcessId { pid: 7, start_time: 9 })));
        cut(cgroup + 20);
        assert!(Record::read_core(dir.path()).unwrap().is_none());
        assert_eq!(Record::read_init(dir.path()).unwrap(), Some(ProcessId { pid: 7, start_time: 9 }));
        value["cgroup"] = "elsewhere".into();
        fs::write(dir.path().join(FILE), value.to_string()).unwrap();
        assert!(Record::read_core(dir.path()).unwrap().is_none());
    }
}
