//! Which containers live, asked again and again: what has not changed since is not opened again.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::cgroups::Cgroup;
use super::error::Result;
use super::record::{FILE, FORMAT};
use super::status::ProcessId;
use super::store::Store;
use crate::cgroup::MemoryCgroup;
use crate::small_file;

/// Times of files come from the clock's last tick, 10 ms at most: what changed just before a look may change again
/// without another time.
const SETTLED: Duration = Duration::from_secs(1);

/// A container whose init runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    pub id: String,
    /// The host's pid of its init.
    pub init_pid: i32,
    pub annotations: BTreeMap<String, String>,
    /// Its memory cgroup, as it was given at create.
    pub cgroup: Option<MemoryCgroup>,
}

/// What was seen at the look before.
#[derive(Debug, Default)]
pub struct Census {
    root: Option<Stamp>,
    /// In order; not each need be a container.
    names: Vec<String>,
    /// Those that do not live, by their records; `None` where there is none. None lives again unless its record is written again.
    dead: HashMap<String, Option<Stamp>>,
}

/// Which file it is, and when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|found| Self::from(&found))
    }

    /// As it is, unless it is too new to tell by it whether it changes again.
    fn settled(self, now: SystemTime) -> Option<Self> {
        let (seconds, nanos) = self.changed;
        let changed = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
        let age = now.duration_since(UNIX_EPOCH).ok()?.checked_sub(changed)?;
        (age >= SETTLED).then_some(self)
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl Census {
    /// Containers of the store that live and are not `known`, which is in order.
    ///
    /// # Errors
    /// The root was given and cannot be read.
    pub fn look<'a>(&mut self, store: &Store, known: impl Iterator<Item = &'a str>) -> Result<Vec<Living>> {
        let now = SystemTime::now();
        let root = Stamp::of(store.root());
        if self.root.is_none() || self.root != root {
            self.names = store.names()?;
            self.root = root.and_then(|root| root.settled(now));
            let names = &self.names;
            self.dead.retain(|id, _| names.binary_search(id).is_ok());
        }
        let mut found = Vec::new();
        let mut known = known.peekable();
        for id in &self.names {
            while known.next_if(|other| *other < id.as_str()).is_some() {}
            if known.next_if(|other| *other == id.as_str()).is_some() {
                continue;
            }
            let path = store.root().join(id).join(FILE);
            if self.dead.get(id).is_some_and(|dead| *dead == Stamp::of(&path)) {
                continue;
            }
            self.dead.remove(id);
            let (stamp, brief) = read(&path);
            match brief.map_or(Ok(None), |brief| living(id, brief)) {
                Ok(Some(living)) => found.push(living),
                Ok(None) if stamp.is_none_or(|stamp| stamp.settled(now).is_some()) => {
                    self.dead.insert(id.clone(), stamp);
                }
                Ok(None) => {}
                // The next look may tell.
                Err(error) => tracing::debug!("{error}"),
            }
        }
        Ok(found)
    }
}

/// The part of a [`super::record::Record`] that this takes, read in a third of the time.
#[derive(Debug, Deserialize)]
struct Brief {
    format: u32,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    init: Option<ProcessId>,
    #[serde(default)]
    cgroup: Option<Cgroup>,
}

impl Brief {
    /// `None`: it is none that this rt understands.
    fn read(file: &File) -> Option<Self> {
        let text = small_file::short(file).ok()?;
        serde_json::from_slice::<Self>(&text).ok().filter(|brief| brief.format <= FORMAT)
    }
}

/// A record, and which one: it is only ever replaced, so the file that was opened stays as it is.
fn read(path: &Path) -> (Option<Stamp>, Option<Brief>) {
    let Ok(file) = File::open(path) else { return (Stamp::of(path), None) };
    let stamp = file.metadata().ok().map(|found| Stamp::from(&found));
    (stamp, Brief::read(&file))
}

fn living(id: &str, brief: Brief) -> Result<Option<Living>> {
    let Brief { annotations, ready, init, cgroup, .. } = brief;
    match init.filter(|_| ready) {
        Some(init) if init.is_alive()? => {
            let cgroup = cgroup.and_then(|cgroup| cgroup.memory());
            Ok(Some(Living { id: id.to_owned(), init_pid: init.pid, annotations, cgroup }))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Global;
    use crate::runtime::status::ProcessId;

    fn write(root: &Path, id: &str, init: Option<ProcessId>, ready: bool) {
        let dir = root.join(id);
        fs::create_dir_all(&dir).unwrap();
        let init = serde_json::to_value(init).unwrap();
        let record =
            serde_json::json!({ "format": 1, "ready": ready, "init": init, "annotations": { "a": id } });
        super::super::record::replace(&dir.join(FILE), record.to_string().as_bytes(), 0o600).unwrap();
    }

    fn ids(found: &[Living]) -> Vec<&str> {
        found.iter().map(|living| living.id.as_str()).collect()
    }

    #[test]
    fn containers_are_found_as_they_come_to_life_and_not_when_known() {
        let tmp = tempfile::tempdir().unwrap();
        let global = Global { root: Some(tmp.path().to_owned()), ..Global::default() };
        let store = Store::open(&global).unwrap();
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).ok();
        let gone = own.map(|own| ProcessId { start_time: own.start_time + 1, ..own });
        let mut census = Census::default();
        assert!(census.look(&store, [].into_iter()).unwrap().is_empty());
        write(tmp.path(), "b", own, true);
        write(tmp.path(), "half", own, false);
        write(tmp.path(), "over", gone, true);
        fs::create_dir(tmp.path().join("foreign")).unwrap();
        let found = census.look(&store, [].into_iter()).unwrap();
        assert_eq!((ids(&found), found[0].annotations["a"].as_str()), (vec!["b"], "b"));
        assert_eq!(ids(&census.look(&store, ["a", "b", "c"].into_iter()).unwrap()), [""; 0]);
        assert_eq!(
            ids(&census.look(&store, [].into_iter()).unwrap()),
            ["b"],
            "one that could not be watched"
        );
        write(tmp.path(), "half", own, true);
        write(tmp.path(), "foreign", own, true);
        assert_eq!(ids(&census.look(&store, ["b"].into_iter()).unwrap()), ["foreign", "half"]);
        fs::remove_dir_all(tmp.path().join("b")).unwrap();
        assert_eq!(ids(&census.look(&store, ["foreign", "half"].into_iter()).unwrap()), [""; 0]);
    }

    #[test]
    fn what_does_not_live_is_not_read_again_until_it_changes() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("x");
        fs::write(&path, "1").unwrap();
        let stamp = Stamp::of(&path).unwrap();
        let now = SystemTime::now();
        assert_eq!(stamp.settled(now), None, "too new");
        assert_eq!(stamp.settled(now + Duration::from_secs(2)), Some(stamp));
        assert_eq!(stamp.settled(now - Duration::from_secs(3600)), None, "a clock that was put back");
        super::super::record::replace(&path, b"2", 0o600).unwrap();
        assert_ne!(Stamp::of(&path), Some(stamp));
        assert_eq!(Stamp::of(&tmp.path().join("none")), None);
    }

    #[test]
    fn a_newer_record_is_not_understood() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join(FILE);
        let text = r#"{"format":99,"ready":true,"init":{"pid":1,"startTime":0}}"#;
        fs::write(&path, text).unwrap();
        assert!(matches!(read(&path), (Some(_), None)));
        fs::write(&path, text.replace("99", "1")).unwrap();
        assert!(read(&path).1.is_some_and(|brief| brief.ready));
        assert!(matches!(read(&tmp.path().join("none")), (None, None)));
    }
}
