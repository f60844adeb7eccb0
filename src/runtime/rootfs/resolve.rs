//! Paths below the container's root, resolved through descriptors so that symlinks of a hostile image never
//! lead out of it. What is missing is created on the way; a symlink is read as if the root were "/".

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

/// As many symlinks as path resolution in user space follows before it is called a loop (40 in the kernel).
const MAX_SYMLINKS: u32 = 255;
/// openat2 answers EAGAIN when something was renamed meanwhile; busy hosts may need some tries.
const MAX_RETRIES: u32 = 128;

/// What stands where `stat` says.
pub(super) fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// What to make of a path's missing components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make directories.
    Directory,
    /// Make directories, and an empty file in the end.
    File,
    /// Fail with `ENOENT`.
    Fail,
}

/// A place below the root.
#[derive(Debug)]
pub(super) struct Place {
    /// Opened with `O_PATH`.
    pub fd: OwnedFd,
    /// Where it is without symlinks, relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// Whether its last component was created on the way.
    pub created: bool,
}

/// The root of a container, held open.
#[derive(Debug)]
pub(super) struct Root<'a> {
    fd: OwnedFd,
    path: &'a Path,
}

impl<'a> Root<'a> {
    /// Opens the directory at the absolute, canonical `path` as it is mounted now.
    pub fn open(path: &'a Path) -> Result<Self, Errno> {
        let fd = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { fd, path })
    }

    /// Its path on the host.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// `path` relative to the root: without `.`, `..` and repeated slashes, and without the root's own path,
    /// which some callers put in front.
    pub fn relative(&self, path: &Path) -> PathBuf {
        let clean = clean(path);
        match Path::new("/").join(&clean).strip_prefix(self.path) {
            Ok(stripped) => stripped.to_owned(),
            Err(_) => clean,
        }
    }

    /// Opens `relative` if that is possible without following a symlink, and nothing is missing.
    pub fn open_plain(&self, relative: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        if relative.as_os_str().is_empty() {
            return openat(&self.fd, ".", flags | OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        }
        let how = OpenHow::new()
            .flags(flags | OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let mut retries = 0;
        loop {
            match openat2(&self.fd, relative, how) {
                Err(Errno::EAGAIN) if retries < MAX_RETRIES => retries += 1,
                result => return result,
            }
        }
    }

    /// The place at `relative`, following symlinks inside the root.
    ///
    /// One system call when there is no symlink on the way and nothing is missing; else (or where openat2 is
    /// missing or forbidden) one component after the other.
    /// `missing` is asked only then.
    pub fn resolve(
        &self,
        relative: &Path,
        missing: impl FnOnce() -> Result<Missing, Errno>,
    ) -> Result<Place, Errno> {
        match self.open_plain(relative, OFlag::empty()) {
            Ok(fd) => Ok(Place { fd, path: relative.to_owned(), created: false }),
            Err(_) => Walk::new(self.fd.as_fd()).run(relative, missing()?),
        }
    }

    /// The directory in which `relative` is, and the last component, which is not looked at. Missing
    /// directories are created.
    pub fn resolve_parent(&self, relative: &Path) -> Result<(Place, OsString), Errno> {
        let name = relative.file_name().ok_or(Errno::EISDIR)?.to_owned();
        let parent = relative.parent().unwrap_or_else(|| Path::new(""));
        Ok((self.resolve(parent, || Ok(Missing::Directory))?, name))
    }

    /// The directory at `relative`, whose last component must not be a symlink: `ENOTDIR` if it is one, or
    /// anything else but a directory. Missing directories are created.
    pub fn resolve_ordinary_directory(&self, relative: &Path) -> Result<Place, Errno> {
        let open = |path: &Path| self.open_plain(path, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW);
        if let Ok(fd) = open(relative) {
            return Ok(Place { fd, path: relative.to_owned(), created: false });
        }
        let (parent, name) = self.resolve_parent(relative)?;
        let mut walk = Walk::below(parent);
        walk.step_without_symlink(&name)?;
        walk.into_place()
    }
}

/// `path` without `.`, `..` and repeated slashes, relative to "/".
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    clean
}

/// A walk from the root, one component after the other. It holds every directory it came through, so that
/// ".." is the way it came, wherever that directory has been moved meanwhile.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    below: Option<OwnedFd>,
    base: PathBuf,
    steps: Vec<(OwnedFd, OsString)>,
    created: bool,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, below: None, base: PathBuf::new(), steps: Vec::new(), created: false }
    }

    fn below(place: Place) -> Walk<'static> {
        // The descriptor is never used: `below` is.
        Walk {
            root: nix::fcntl::AT_FDCWD,
            below: Some(place.fd),
            base: place.path,
            steps: Vec::new(),
            created: false,
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        match (self.steps.last(), &self.below) {
            (Some((fd, _)), _) | (None, Some(fd)) => fd.as_fd(),
            (None, None) => self.root,
        }
    }

    fn run(mut self, path: &Path, missing: Missing) -> Result<Place, Errno> {
        let mut pending: VecDeque<OsString> = components(path).collect();
        let mut symlinks = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                self.steps.pop();
                continue;
            }
            self.created = false;
            match self.look(&name)? {
                Some((fd, SFlag::S_IFLNK)) => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(Errno::ELOOP);
                    }
                    let target = PathBuf::from(readlinkat(&fd, "")?);
                    if target.is_absolute() {
                        self.steps.clear();
                    }
                    for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        pending.push_front(component);
                    }
                }
                Some((fd, _)) => self.steps.push((fd, name)),
                None if missing == Missing::Fail => return Err(Errno::ENOENT),
                None if missing == Missing::File && pending.is_empty() => self.make_file(name)?,
                None => self.make_directory(name)?,
            }
        }
        self.into_place()
    }

    /// Opens `name` where the walk is, without following it; `None` if it does not exist.
    fn look(&self, name: &OsStr) -> Result<Option<(OwnedFd, SFlag)>, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(self.here(), name, flags, Mode::empty()) {
            Ok(fd) => {
                let kind = file_type(&fstat(&fd)?);
                Ok(Some((fd, kind)))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn make_directory(&mut self, name: OsString) -> Result<(), Errno> {
        match mkdirat(self.here(), name.as_os_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) => self.created = true,
            // Somebody else was faster; what it is shows when it is opened.
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(self.here(), name.as_os_str(), flags, Mode::empty())?;
        self.steps.push((fd, name));
        Ok(())
    }

    fn make_file(&mut self, name: OsString) -> Result<(), Errno> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(self.here(), name.as_os_str(), flags, Mode::from_bits_truncate(0o644))?;
        self.created = true;
        self.steps.push((fd, name));
        Ok(())
    }

    fn step_without_symlink(&mut self, name: &OsStr) -> Result<(), Errno> {
        match self.look(name)? {
            Some((fd, SFlag::S_IFDIR)) => self.steps.push((fd, name.to_owned())),
            Some(_) => return Err(Errno::ENOTDIR),
            None => self.make_directory(name.to_owned())?,
        }
        Ok(())
    }

    fn into_place(mut self) -> Result<Place, Errno> {
        let mut path = std::mem::take(&mut self.base);
        path.extend(self.steps.iter().map(|(_, name)| name));
        let created = self.created;
        let fd = match (self.steps.pop(), self.below) {
            (Some((fd, _)), _) | (None, Some(fd)) => fd,
            (None, None) => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                openat(self.root, ".", flags, Mode::empty())?
            }
        };
        Ok(Place { fd, path, created })
    }
}

fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn inode(fd: impl AsFd) -> u64 {
        fstat(fd).unwrap().st_ino
    }

    #[test]
    fn clean_removes_dots_and_stays_below_the_root() {
        assert_eq!(clean(Path::new("//a/./b/../../../c/")), Path::new("c"));
        assert_eq!(clean(Path::new("tmp/x")), Path::new("tmp/x"));
        assert_eq!(clean(Path::new("/..")), Path::new(""));
    }

    #[test]
    fn a_destination_that_names_the_root_is_stripped() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert_eq!(root.relative(&directory.path().join("a/b")), Path::new("a/b"));
        assert_eq!(root.relative(Path::new("/a")), Path::new("a"));
        assert_eq!(root.relative(Path::new("/")), Path::new(""));
    }

    #[test]
    fn symlinks_stay_inside_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        fs::create_dir_all(directory.path().join("etc/real")).unwrap();
        symlink("/etc/real", directory.path().join("absolute")).unwrap();
        symlink("../../../../etc", directory.path().join("upwards")).unwrap();
        let real = fs::metadata(directory.path().join("etc/real")).unwrap().ino();
        for (path, expected) in [("absolute", "etc/real"), ("upwards/real", "etc/real")] {
            let place = root.resolve(Path::new(path), || Ok(Missing::Fail)).unwrap();
            assert_eq!((place.path.as_path(), inode(&place.fd)), (Path::new(expected), real));
        }
    }

    #[test]
    fn dangling_symlinks_lead_to_what_is_created() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        symlink("/tmp/foo/bar", directory.path().join("jump")).unwrap();
        symlink("/jump/baz/hosts", directory.path().join("etc/hosts")).unwrap();
        let place = root.resolve(Path::new("etc/hosts"), || Ok(Missing::File)).unwrap();
        assert_eq!(place.path, Path::new("tmp/foo/bar/baz/hosts"));
        assert!(place.created && directory.path().join("tmp/foo/bar/baz/hosts").is_file());
    }

    #[test]
    fn a_loop_of_symlinks_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert_eq!(root.resolve(Path::new("a"), || Ok(Missing::Directory)).unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn a_symlink_is_no_ordinary_directory() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        symlink("/elsewhere", directory.path().join("proc")).unwrap();
        assert_eq!(root.resolve_ordinary_directory(Path::new("proc")).unwrap_err(), Errno::ENOTDIR);
        assert_eq!(root.resolve_ordinary_directory(Path::new("a/b")).unwrap().path, Path::new("a/b"));
        fs::create_dir(directory.path().join("c")).unwrap();
        symlink("c", directory.path().join("d")).unwrap();
        assert_eq!(root.resolve_ordinary_directory(Path::new("d/sys")).unwrap().path, Path::new("c/sys"));
    }

    #[test]
    fn what_is_missing_fails_only_if_nothing_shall_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert_eq!(root.resolve(Path::new("a/b"), || Ok(Missing::Fail)).unwrap_err(), Errno::ENOENT);
        assert!(root.resolve(Path::new("a/b"), || Ok(Missing::Directory)).unwrap().created);
        assert!(!root.resolve(Path::new("a/b"), || Ok(Missing::Directory)).unwrap().created);
    }
}
