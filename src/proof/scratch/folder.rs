//! A folder as it is inside a root, and a file without a name in it. Any call here may block for as long as the file
//! system likes: only in a process that the prover can do without.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Medium;
use crate::units::Mib;

/// What keeps a file in the folder, or why it takes none of so many bytes.
pub(super) fn look(root: &Path, path: &Path, bytes: u64) -> Result<Medium, String> {
    let words = |e: Errno| e.desc().to_lowercase();
    let folder = resolve(root, path).map_err(words)?;
    let room = fstatvfs(&folder).map_err(words)?;
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    if free < bytes.saturating_mul(2) {
        return Err(format!("{} free, and twice as much as is written is kept free", Mib(free)));
    }
    // Whether it can be written to is known by doing it; nobody sees a file without a name.
    unnamed(&folder).map_err(words)?;
    medium(&folder).map_err(words)
}

/// A file of its own, which goes when the last descriptor of it is closed. The folder may be another one by now, but not on
/// another medium.
pub(in crate::proof) fn open_file(root: &Path, path: &Path, expected: Medium) -> io::Result<File> {
    let folder = resolve(root, path)?;
    if medium(&folder)? != expected {
        return Err(Errno::ESTALE.into());
    }
    Ok(unnamed(&folder)?)
}

fn medium(folder: &OwnedFd) -> Result<Medium, Errno> {
    Ok(match fstatfs(folder)?.filesystem_type() {
        TMPFS_MAGIC => Medium::Tmpfs,
        _ => Medium::Disk,
    })
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

    const ROOT: &str = "/";

    #[test]
    fn the_file_has_no_name() {
        let tmp = tempfile::tempdir().unwrap();
        let medium = look(ROOT.as_ref(), tmp.path(), 4096).unwrap();
        let mut file = open_file(ROOT.as_ref(), tmp.path(), medium).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
    }

    #[test]
    fn disk_and_tmpfs_are_told_apart() {
        let shm = Path::new("/dev/shm");
        assert_eq!(look(ROOT.as_ref(), shm, 4096), Ok(Medium::Tmpfs));
        assert!(open_file(ROOT.as_ref(), shm, Medium::Disk).is_err(), "not what was found");
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert_eq!(look(ROOT.as_ref(), disk.path(), 4096), Ok(Medium::Disk));
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
    fn a_folder_without_room_is_refused_with_the_reason() {
        let full = look(ROOT.as_ref(), Path::new("/dev/shm"), u64::MAX / 4).unwrap_err();
        assert!(full.contains("free"), "{full}");
        let missing = look(ROOT.as_ref(), Path::new("/nowhere"), 1).unwrap_err();
        assert!(missing.contains("no such file"), "{missing}");
    }
}
