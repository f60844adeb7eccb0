//! Where rt keeps what is no container: receipts of deleted ones, and compiled seccomp filters. Outside of the root, since runc
//! takes every folder in it for a container and warns of those that are none; by the root's path, below a folder in which
//! nobody else can make anything.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// In /run, or in $XDG_RUNTIME_DIR.
const BASE: &str = "rt-kept";
const RECEIPTS: &str = "receipts";
const FILTERS: &str = "seccomp-cache";

/// Where both were, in the root: no container may have these names.
pub(super) const OLD_RECEIPTS: &str = ".receipts";
pub(super) const OLD_FILTERS: &str = ".seccomp-cache";

/// The kept things of one root.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    root: PathBuf,
    /// None where there is no such place: then they are in the root.
    outside: Option<PathBuf>,
}

impl Kept {
    /// Of `root`, below `run`, which is /run or a user's $XDG_RUNTIME_DIR; None: this user has neither.
    pub fn of(root: &Path, run: Option<&Path>) -> Self {
        let real = fs::canonicalize(root).or_else(|_| std::path::absolute(root));
        let name = real.ok().map(|real| escaped(&real)).filter(|name| name.len() <= 255);
        let outside = run.zip(name).map(|(run, name)| run.join(BASE).join(name));
        Self { root: root.to_owned(), outside }
    }

    pub fn receipts(&self) -> PathBuf {
        self.outside.as_ref().map_or_else(|| self.old_receipts(), |dir| dir.join(RECEIPTS))
    }

    /// Where an older rt kept them.
    pub fn old_receipts(&self) -> PathBuf {
        self.root.join(OLD_RECEIPTS)
    }

    pub fn filters(&self) -> PathBuf {
        match &self.outside {
            Some(dir) => dir.join(FILTERS),
            None => self.root.join(OLD_FILTERS),
        }
    }

    /// Makes the folder of receipts. What an older rt kept in the root moves there, and what is kept of roots that are gone, goes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self) -> io::Result<()> {
        let Some(dir) = &self.outside else { return make_dir(&self.receipts()) };
        let base = dir.parent().unwrap_or(dir);
        make_dir(base)?;
        make_dir(dir)?;
        forget_gone(base);
        let _ = fs::remove_dir_all(self.root.join(OLD_FILTERS));
        // EXDEV comes before ENOENT: it does not say that there is anything to move.
        match fs::rename(self.old_receipts(), self.receipts()) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::CrossesDevices => return make_dir(&self.receipts()),
            Err(_) => make_dir(&self.receipts())?,
        }
        // Another may be moving them as well.
        match copy_folders(&self.old_receipts(), &self.receipts())
            .and_then(|()| fs::remove_dir_all(self.old_receipts()))
        {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// That nobody else can have made what is in `dir`, a folder of receipts.
    ///
    /// # Errors
    /// Somebody could.
    pub fn check(&self, dir: &Path) -> io::Result<()> {
        match self.outside.as_ref().and_then(|outside| outside.parent()) {
            Some(base) => is_own(base),
            None => is_own(&self.receipts()).and_then(|()| is_own(dir)),
        }
    }
}

fn is_own(dir: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(dir)?;
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("'{}' is no folder of this user alone", dir.display())))
}

pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Copies the files of the folders in `from`, one for each container, to folders of the same names.
fn copy_folders(from: &Path, to: &Path) -> io::Result<()> {
    for folder in fs::read_dir(from)? {
        let folder = folder?;
        let copied = to.join(folder.file_name());
        make_dir(&copied)?;
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            if file.file_type()?.is_file() {
                fs::copy(file.path(), copied.join(file.file_name()))?;
            }
        }
    }
    Ok(())
}

/// Removes what is kept of roots that are not there any more.
fn forget_gone(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if matches!(unescaped(&entry.file_name()).try_exists(), Ok(false)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// An absolute path as one name: `/` as `-`, and what would be taken for that, as systemd-escape(1) has them.
fn escaped(path: &Path) -> OsString {
    let mut name = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' => name.push(b'-'),
            b'-' => name.extend(b"\\x2d"),
            b'\\' => name.extend(b"\\x5c"),
            byte => name.push(*byte),
        }
    }
    OsString::from_vec(name)
}

fn unescaped(name: &OsStr) -> PathBuf {
    let mut path = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'\\', [b'x', b'2', b'd', after @ ..]) => (b'-', after),
            (b'\\', [b'x', b'5', b'c', after @ ..]) => (b'\\', after),
            (b'-', after) => (b'/', after),
            (byte, after) => (*byte, after),
        };
        path.push(byte);
        rest = after;
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_name_and_back() {
        for path in ["/", "/run/rt", "/a-b/c\\d/.e", "/-/x2d"] {
            let name = escaped(Path::new(path));
            assert!(!name.as_bytes().contains(&b'/'), "{name:?}");
            assert_eq!(unescaped(&name), Path::new(path));
        }
        assert_eq!(escaped(Path::new("/run/r-t")), OsStr::new("-run-r\\x2dt"));
    }

    #[test]
    fn what_was_in_the_root_moves_out_and_what_is_of_no_root_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let (root, run) = (tmp.path().join("root"), tmp.path().join("run"));
        fs::create_dir(&run).unwrap();
        for folder in [".receipts/box", ".seccomp-cache"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let kept = Kept::of(&root, Some(&run));
        fs::create_dir(tmp.path().join("gone")).unwrap();
        let gone = Kept::of(&tmp.path().join("gone"), Some(&run));
        gone.make().unwrap();
        fs::remove_dir(tmp.path().join("gone")).unwrap();
        kept.make().unwrap();
        assert!(kept.receipts().join("box").is_dir() && !gone.receipts().exists());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        kept.check(&kept.receipts()).unwrap();
        kept.make().unwrap();
    }

    /// /run is a filesystem of its own on most machines, and the root may be elsewhere.
    #[test]
    fn receipts_move_to_another_filesystem_and_none_is_no_error() {
        let (tmp, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let kept = Kept::of(tmp.path(), Some(run.path()));
        kept.make().unwrap();
        let old = tmp.path().join(OLD_RECEIPTS).join("box");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("receipt"), "{}").unwrap();
        kept.make().unwrap();
        assert_eq!(fs::read(kept.receipts().join("box/receipt")).unwrap(), b"{}");
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_another_could_have_made_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let tmp = tempfile::tempdir().unwrap();
        let kept = Kept::of(tmp.path(), Some(tmp.path()));
        kept.make().unwrap();
        let base = tmp.path().join(BASE);
        fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(kept.check(&kept.receipts()).is_err());
        let inside = Kept::of(tmp.path(), None);
        assert_eq!(inside.receipts(), tmp.path().join(".receipts"), "this user has no such place");
    }
}
