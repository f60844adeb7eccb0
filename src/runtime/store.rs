//! The folder of all containers: one sub-folder each, with the state file, a copy of the config, and a lock.
//!
//! The lock is flock(2) on the container's folder. Commands that change a container hold it; those that only
//! look (`state`, `list`, `ps`, `events`) or signal (`kill`, `exec`) do not wait for it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::FlockArg;
use nix::unistd::geteuid;

use super::container::Container;
use super::error::{Result, RuntimeError};
pub use super::folder::Lock;
use super::folder::{self, Rest, is_busy, lock};
use super::kept::{Kept, OLD_FILTERS, OLD_RECEIPTS};
use super::record::Record;
use super::summary::{self, Lens, Summary};
use crate::cli::{Global, Rootless};

/// Where state is kept if nothing is said.
const DEFAULT_ROOT: &str = "/run/rt";

/// The root of the state folders.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// `--root` was given.
    explicit: bool,
    /// /run, or the user's own; None: there is neither for this user.
    run: Option<PathBuf>,
    /// `--systemd-cgroup`.
    pub systemd_cgroup: bool,
    /// Missing permissions for cgroups are tolerated.
    pub rootless_cgroups: bool,
}

impl Store {
    /// The store that `global` names. Nothing is created.
    ///
    /// # Errors
    /// None today; a root that is no folder shows up at its first use.
    pub fn open(global: &Global) -> Result<Self> {
        let explicit = global.root.is_some();
        let is_rootless = is_rootless();
        let run = run_dir(is_rootless);
        // In a user namespace without a folder of its own, too.
        let default = || run.as_deref().map_or_else(|| PathBuf::from(DEFAULT_ROOT), |run| run.join("rt"));
        Ok(Self {
            root: global.root.clone().unwrap_or_else(default),
            explicit,
            run,
            systemd_cgroup: global.systemd_cgroup,
            rootless_cgroups: match global.rootless {
                Rootless::True => true,
                Rootless::False => false,
                Rootless::Auto => is_rootless,
            },
        })
    }

    /// The root folder, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn ensure_root(&self) -> Result<&Path> {
        if !self.root.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.root)
                .map_err(RuntimeError::file("mkdir", &self.root))?;
            if !self.explicit && geteuid().as_raw() != 0 {
                // The sticky bit keeps cleaners of $XDG_RUNTIME_DIR away (XDG base directory specification).
                let _ = fs::set_permissions(&self.root, Permissions::from_mode(0o1700));
            }
        }
        Ok(&self.root)
    }

    /// The root folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is kept beside the containers.
    pub(super) fn kept_beside(&self) -> Kept {
        Kept::of(&self.root, self.run.as_deref())
    }

    /// Makes the folder of a new container and takes its lock.
    ///
    /// # Errors
    /// The id is not allowed or taken, or the folder cannot be made.
    pub fn create_folder(&self, id: &str) -> Result<(PathBuf, Lock)> {
        check_id(id)?;
        self.ensure_root()?;
        let dir = self.root.join(id);
        // What was cut short left a folder in which nothing is recorded, and that nobody holds: take it over.
        for _ in 0..2 {
            match DirBuilder::new().mode(0o711).create(&dir) {
                Ok(()) => return Self::hold_new(&dir).map(|lock| (dir.clone(), lock)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => remove_scraps(&dir)?,
                Err(error) => return Err(RuntimeError::File { doing: "mkdir", path: dir, error }),
            }
        }
        Err(RuntimeError::Exists)
    }

    /// The lock of a folder that was just made, which is removed where it cannot be had.
    fn hold_new(dir: &Path) -> Result<Lock> {
        let held = lock(dir, FlockArg::LockExclusive).and_then(|held| {
            // Before the lock was taken another may have taken this folder for such a rest, and made its own container.
            let lock = held.ok_or(RuntimeError::Exists)?;
            let mut entries = fs::read_dir(dir).map_err(RuntimeError::file("read", dir))?;
            if entries.next().is_none() { Ok(lock) } else { Err(RuntimeError::Exists) }
        });
        if held.as_ref().is_err_and(|error| !matches!(error, RuntimeError::Exists)) {
            // It goes only if it is empty, whoever made it.
            let _ = fs::remove_dir(dir);
        }
        held
    }

    /// The container, for looking at it.
    ///
    /// # Errors
    /// There is none of that name, or its state cannot be read.
    pub fn load(&self, id: &str) -> Result<Container> {
        let dir = self.folder(id)?;
        let Some(record) = Record::read(&dir)? else { return Err(absent(&dir)) };
        Ok(Container::new(dir, record, None))
    }

    /// The container, for changing it: waits until no other command does.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_locked(&self, id: &str) -> Result<Container> {
        let dir = self.folder(id)?;
        let held = lock(&dir, FlockArg::LockExclusive)?.ok_or(RuntimeError::NotFound)?;
        let Some(record) = Record::read(&dir)? else { return Err(absent(&dir)) };
        Ok(Container::new(dir, record, Some(held)))
    }

    /// The container whose record is of a newer format, for ending it: no more is known of it than that takes.
    ///
    /// # Errors
    /// There is none of that name, or its record has not even that.
    pub fn load_newer(&self, id: &str) -> Result<Container> {
        let dir = self.folder(id)?;
        let held = lock(&dir, FlockArg::LockExclusive)?.ok_or(RuntimeError::NotFound)?;
        match Record::read_core(&dir)? {
            Some(record) => Ok(Container::new(dir, record, Some(held))),
            None => Err(Record::read(&dir).err().unwrap_or(RuntimeError::NotFound)),
        }
    }

    /// As [`Self::load_locked`], without waiting: `None` if another command changes the container.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn try_load_locked(&self, id: &str) -> Result<Option<Container>> {
        let dir = self.folder(id)?;
        let held = match lock(&dir, FlockArg::LockExclusiveNonblock) {
            Ok(held) => held.ok_or(RuntimeError::NotFound)?,
            Err(error) if is_busy(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(record) = Record::read(&dir)? else { return Err(absent(&dir)) };
        Ok(Some(Container::new(dir, record, Some(held))))
    }

    /// The folder of that name, whatever it has, for removing it: waits until no other command changes it. `None` if
    /// there is none.
    ///
    /// # Errors
    /// The id is not allowed, or the folder cannot be opened.
    pub(super) fn hold(&self, id: &str) -> Result<Option<(PathBuf, Lock)>> {
        let dir = self.folder(id)?;
        Ok(lock(&dir, FlockArg::LockExclusive)?.map(|held| (dir, held)))
    }

    /// All containers, in the order of their names. Folders without our state file are none of ours.
    ///
    /// # Errors
    /// The root was given and cannot be read.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let Some(root) = self.read_root()? else { return Ok(Vec::new()) };
        let folder = File::open(&self.root).map_err(RuntimeError::file("open", &self.root))?;
        let (mut containers, mut lens) = (Vec::new(), Lens::default());
        for entry in root {
            let entry = entry.map_err(RuntimeError::file("read", &self.root))?;
            match summary::of(&folder, &self.root, &entry.file_name(), &mut lens) {
                Ok(container) => containers.extend(container),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        containers.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Ok(containers)
    }

    /// What containers may be called here, in order: nothing is opened, so not each need be one.
    ///
    /// # Errors
    /// The root was given and cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.read_root()?.into_iter().flatten() {
            let name = entry.map_err(RuntimeError::file("read", &self.root))?.file_name();
            names.extend(name.into_string().ok().filter(|id| check_id(id).is_ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// `None`: there is no default root yet.
    fn read_root(&self) -> Result<Option<fs::ReadDir>> {
        match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.explicit => Ok(None),
            entries => entries.map(Some).map_err(RuntimeError::file("open", &self.root)),
        }
    }

    fn folder(&self, id: &str) -> Result<PathBuf> {
        check_id(id)?;
        Ok(self.root.join(id))
    }
}

/// Why a folder without our state file is no container of ours.
fn absent(dir: &Path) -> RuntimeError {
    match Rest::of(dir) {
        Ok(Some(Rest::Foreign(runtime))) => RuntimeError::Foreign { path: dir.to_owned(), runtime },
        Ok(_) => RuntimeError::NotFound,
        Err(error) => error,
    }
}

/// Removes a folder in which nothing is recorded; anything else is another container.
fn remove_scraps(dir: &Path) -> Result<()> {
    let held = match lock(dir, FlockArg::LockExclusiveNonblock) {
        Ok(held) => held,
        Err(error) if is_busy(&error) => return Err(RuntimeError::Exists),
        Err(error) => return Err(error),
    };
    match Rest::of(dir)? {
        // It went meanwhile.
        None => Ok(()),
        Some(Rest::Scraps) if held.is_some() => folder::remove(dir),
        Some(_) => Err(RuntimeError::Exists),
    }
}

/// runc's rule: word characters, `+`, `-` and `.`, and no name that means another folder.
pub(super) fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(RuntimeError::EmptyId);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if !id.chars().all(allowed) || matches!(id, "." | ".." | OLD_FILTERS | OLD_RECEIPTS) || id.len() > 255 {
        return Err(RuntimeError::InvalidId(id.to_owned()));
    }
    Ok(())
}

/// /run is root's; a user's is $XDG_RUNTIME_DIR. A name in /tmp could be another's.
fn run_dir(is_rootless: bool) -> Option<PathBuf> {
    if !is_rootless {
        return Some(PathBuf::from("/run"));
    }
    let honours_xdg = std::env::var_os("USER").is_none_or(|user| user != "root" || !geteuid().is_root());
    std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| honours_xdg && !dir.is_empty()).map(PathBuf::from)
}

/// Not root, or root of a user namespace only.
pub fn is_rootless() -> bool {
    !geteuid().is_root() || in_user_namespace()
}

/// Whether this process runs in a user namespace that does not map every id (user_namespaces(7)).
pub fn in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let mut fields = map.split_whitespace();
        !(fields.next() == Some("0") && fields.next() == Some("0") && fields.next() == Some("4294967295"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(root: &Path) -> Store {
        let global = Global { root: Some(root.to_owned()), ..Global::default() };
        Store::open(&global).unwrap()
    }

    #[test]
    fn a_name_is_taken_once_and_an_abandoned_folder_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let (dir, held) = store.create_folder("box").unwrap();
        assert!(matches!(store.create_folder("box"), Err(RuntimeError::Exists)));
        assert!(folder::is_locked(&dir).unwrap());
        drop(held);
        fs::write(dir.join("rt-proofs.jsonl"), "{}").unwrap();
        let (dir, _held) = store.create_folder("box").unwrap();
        fs::write(dir.join("x"), "").unwrap();
        drop(_held);
        assert!(matches!(store.create_folder("box"), Err(RuntimeError::Exists)));
    }

    #[test]
    fn foreign_folders_are_no_containers() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        fs::create_dir_all(root.path().join("other")).unwrap();
        fs::write(root.path().join("other/state.json"), "{}").unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert!(store.list().unwrap().is_empty());
        fs::create_dir_all(root.path().join("empty")).unwrap();
        for id in ["file", "none", "empty"] {
            assert!(matches!(store.load(id), Err(RuntimeError::NotFound)), "{id}");
            assert!(matches!(store.load_locked(id), Err(RuntimeError::NotFound)), "{id}");
        }
        let error = store.load_locked("other").unwrap_err();
        assert!(error.is_absence());
        let words = error.to_string();
        assert!(
            words.starts_with("container does not exist: /") && words.ends_with("other was made by runc"),
            "{words}"
        );
    }

    #[test]
    fn ids_are_runcs() {
        for id in ["", ".", "..", "a/b", "a b", "ä", OLD_FILTERS, OLD_RECEIPTS] {
            assert!(check_id(id).is_err(), "{id}");
        }
        for id in ["a", ".a", "a+b-c_d.1"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
    }
}
