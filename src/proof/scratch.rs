//! Where the `file` strategy writes: a file without a name, in a folder of the container that has twice the room.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::error::ProofError;
use super::refusal::{Reason, Refusal};
use crate::units::Mib;

/// Folders that containers have for such files, in the order they are tried.
const IN_CONTAINER: [&str; 3] = ["/tmp", "/var/tmp", "/"];

/// Folders of the host, for a container that can be written to nowhere: page cache is charged to who writes, wherever.
const ON_HOST: [&str; 2] = ["/var/tmp", "/tmp"];

/// What keeps a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// Page cache is written back and reclaimed.
    Disk,
    /// The file is memory.
    Tmpfs,
}

/// A folder to write in.
#[derive(Debug)]
pub struct Scratch {
    /// As the container sees it, or the host where [`Scratch::on_host`].
    pub path: PathBuf,
    pub on_host: bool,
    pub medium: Medium,
    folder: OwnedFd,
}

impl Scratch {
    /// The folder `wanted`, or the usual ones, inside the root of process `init` (of the host where there is none);
    /// with room for twice `bytes`.
    pub fn find(init: Option<Pid>, wanted: Option<&Path>, bytes: u64) -> Result<Self, Refusal> {
        let container = init.map_or_else(|| PathBuf::from("/"), |pid| format!("/proc/{pid}/root").into());
        let mut tried = Vec::new();
        let mut look = |root: &Path, path: &Path| match Self::at(root, path, bytes) {
            Ok(scratch) => Some(Self { on_host: init.is_none() || root == Path::new("/"), ..scratch }),
            Err(why) => {
                tried.push(format!("{}: {why}", path.display()));
                None
            }
        };
        let found = match wanted {
            Some(path) => look(&container, path),
            None => IN_CONTAINER
                .iter()
                .find_map(|path| look(&container, path.as_ref()))
                .or_else(|| ON_HOST.iter().find_map(|path| look(Path::new("/"), path.as_ref()))),
        };
        found.ok_or_else(|| {
            Refusal::new(
                Reason::NoFolder,
                format!("no folder takes a file of {} ({})", Mib(bytes), tried.join("; ")),
                "name a folder with twice the room by --file-dir, or leave out the strategy file",
            )
        })
    }

    fn at(root: &Path, path: &Path, bytes: u64) -> Result<Self, String> {
        let words = |e: Errno| e.desc().to_lowercase();
        let folder = resolve(root, path).map_err(words)?;
        let room = fstatvfs(&folder).map_err(words)?;
        let free = room.blocks_available().saturating_mul(room.fragment_size());
        if free < bytes.saturating_mul(2) {
            return Err(format!("{} free, and twice as much as is written is kept free", Mib(free)));
        }
        let medium = match fstatfs(&folder).map_err(words)?.filesystem_type() {
            TMPFS_MAGIC => Medium::Tmpfs,
            _ => Medium::Disk,
        };
        // Whether it can be written to is known by doing it; nobody sees a file without a name.
        unnamed(&folder).map_err(words)?;
        Ok(Self { path: path.to_owned(), on_host: false, medium, folder })
    }

    /// A file of its own, which goes when the last descriptor of it is closed.
    pub fn file(&self) -> Result<File, ProofError> {
        unnamed(&self.folder).map_err(|e| ProofError::Scratch { path: self.path.clone(), source: e.into() })
    }
}

/// The folder `path` as it is inside `root`: no link leads out.
fn resolve(root: &Path, path: &Path) -> Result<OwnedFd, Errno> {
    let folder = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(root, OFlag::O_PATH | folder, Mode::empty())?;
    let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root, path, OpenHow::new().flags(OFlag::O_RDONLY | folder).resolve(inside))
}

fn unnamed(folder: impl AsFd) -> Result<File, Errno> {
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match openat(&folder, ".", flags | OFlag::O_TMPFILE, private) {
        // File systems without it, as overlayfs before Linux 6.1.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => {}
        opened => return opened.map(File::from),
    }
    let name = format!(".rt-proof-{}", std::process::id());
    let file = openat(&folder, name.as_str(), flags | OFlag::O_CREAT | OFlag::O_EXCL, private)?;
    unlinkat(&folder, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_file_has_no_name() {
        let tmp = tempfile::tempdir().unwrap();
        let scratch = Scratch::find(None, Some(tmp.path()), 4096).unwrap();
        let mut file = scratch.file().unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
        assert!(scratch.on_host);
    }

    #[test]
    fn disk_and_tmpfs_are_told_apart() {
        let shm = Scratch::find(None, Some(Path::new("/dev/shm")), 4096).unwrap();
        assert_eq!(shm.medium, Medium::Tmpfs);
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert_eq!(Scratch::find(None, Some(disk.path()), 4096).unwrap().medium, Medium::Disk);
    }

    #[test]
    fn a_link_does_not_lead_out_of_the_root() {
        let tmp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", tmp.path().join("tmp")).unwrap();
        assert!(resolve(tmp.path(), Path::new("/tmp")).is_err(), "the root has no /etc");
        std::fs::create_dir(tmp.path().join("etc")).unwrap();
        let inside = resolve(tmp.path(), Path::new("/tmp")).unwrap();
        let (found, wanted) =
            (nix::sys::stat::fstat(inside).unwrap(), tmp.path().join("etc").metadata().unwrap());
        assert_eq!(found.st_ino, wanted.ino());
    }

    #[test]
    fn a_folder_without_room_is_refused_with_its_name() {
        let refusal = Scratch::find(None, Some(Path::new("/dev/shm")), u64::MAX / 4).unwrap_err();
        assert_eq!(refusal.reason, Reason::NoFolder);
        assert!(refusal.sentence.contains("/dev/shm"), "{}", refusal.sentence);
        let refusal = Scratch::find(None, Some(Path::new("/nowhere")), 1).unwrap_err();
        assert!(refusal.sentence.contains("no such file"), "{}", refusal.sentence);
    }
}
