//! What a container may see but not touch, and what it may not even see. Applied inside, after the pivot.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::Rootfs;
use super::attach::{self, BindSource};
use super::console::verify_dev_null;
use super::error::{DevNullError, FailedCall, RootfsError};
use super::mounter::StillWritable;
use super::resolve::clean;
use crate::sys::mount::detached_read_only;

const DEV_NULL: &str = "/dev/null";
const READ_ONLY_TRIES: u32 = 5;
const READ_ONLY_PAUSE: Duration = Duration::from_millis(100);

/// Makes the mounts read-only that were kept writable, and the root if the spec says so.
pub(super) fn finish_read_only(rootfs: &Rootfs<'_>, mounts: &[StillWritable]) -> Result<(), RootfsError> {
    for StillWritable { mount, destination } in mounts {
        make_quiet_mount_read_only(mount.as_fd())
            .map_err(FailedCall::at("mount_setattr", destination))
            .map_err(|cause| RootfsError::ReadOnlyMount { path: destination.clone(), cause })?;
    }
    if rootfs.spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly) == Some(true) {
        attach::make_read_only(AT_FDCWD, Path::new("/"))
            .map_err(FailedCall::at("mount_setattr", "/"))
            .map_err(RootfsError::ReadOnlyRoot)?;
    }
    Ok(())
}

/// Makes a mount read-only, which a hook's last writer may still hold up for a moment.
fn make_quiet_mount_read_only(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    for _ in 1..READ_ONLY_TRIES {
        match attach::make_read_only(mount, c"") {
            Err(Errno::EBUSY) => std::thread::sleep(READ_ONLY_PAUSE),
            result => return result,
        }
    }
    attach::make_read_only(mount, c"")
}

/// Applies `readonlyPaths`, then `maskedPaths`.
pub(super) fn protect_paths(rootfs: &Rootfs<'_>) -> Result<(), RootfsError> {
    let Some(linux) = rootfs.spec.linux() else { return Ok(()) };
    for path in linux.readonly_paths().iter().flatten() {
        read_only_path(Path::new(path))
            .map_err(|cause| RootfsError::ReadOnlyPath { path: path.clone(), cause })?;
    }
    let mut masks = Masks { label: rootfs.mount_label(), null: None, empty: None, done: Vec::new() };
    for path in linux.masked_paths().iter().flatten() {
        masks.mask(path)?;
    }
    Ok(())
}

fn read_only_path(path: &Path) -> Result<(), FailedCall> {
    let none: Option<&str> = None;
    match mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none) {
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(FailedCall::at("bind mount", path)(errno)),
        Ok(()) => attach::make_read_only(AT_FDCWD, path).map_err(FailedCall::at("mount_setattr", path)),
    }
}

/// The things that cover masked paths: /dev/null for files, one empty read-only tmpfs for all directories.
struct Masks<'a> {
    label: &'a str,
    null: Option<(OwnedFd, Option<BindSource>)>,
    empty: Option<OwnedFd>,
    done: Vec<std::path::PathBuf>,
}

impl Masks<'_> {
    fn mask(&mut self, path: &str) -> Result<(), RootfsError> {
        let clean = clean(Path::new(path));
        // An empty path names nothing.
        if path.is_empty() || self.done.contains(&clean) {
            return Ok(());
        }
        self.done.push(clean);
        // The kernel tells a directory from a file when it is asked to put a file on it (EINVAL from
        // move_mount, ENOTDIR from mount), which saves a look at each path.
        match self.mask_file(Path::new(path))? {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EINVAL | Errno::ENOTDIR) if Path::new(path).is_dir() => {
                self.mask_directory(Path::new(path)).map_err(|errno| masked("dir", path, errno))
            }
            Err(errno) => Err(masked("path", path, errno)),
        }
    }

    /// The outer error is about /dev/null, the inner one about the path.
    fn mask_file(&mut self, path: &Path) -> Result<Result<(), Errno>, RootfsError> {
        let (null, copy) = match self.null.take() {
            Some(null) => null,
            None => (open_dev_null().map_err(RootfsError::MaskSource)?, None),
        };
        let copy = match copy {
            Some(copy) => copy,
            None => BindSource::open(null.as_fd(), c"", false)
                .map_err(FailedCall::at("open_tree", DEV_NULL))
                .map_err(|cause| RootfsError::MaskSource(cause.into()))?,
        };
        let result = copy.attach_to_path(path);
        // A copy that found no place is as good as new.
        let rest = if result.is_ok() { None } else { Some(copy) };
        self.null = Some((null, rest));
        Ok(result)
    }

    fn mask_directory(&mut self, path: &Path) -> Result<(), Errno> {
        let Some(empty) = &self.empty else { return self.mask_first_directory(path) };
        BindSource::open(empty.as_fd(), c"", false)?.attach_to_path(path)
    }

    fn mask_first_directory(&mut self, path: &Path) -> Result<(), Errno> {
        let label = CString::new(self.label).map_err(|_| Errno::EINVAL)?;
        let mut options = vec![(c"nr_blocks", c"1"), (c"nr_inodes", c"1")];
        if !self.label.is_empty() {
            options.push((c"context", &label));
        }
        match detached_read_only(c"tmpfs", &options) {
            Ok(tmpfs) => {
                crate::sys::mount::attach(tmpfs.as_fd(), AT_FDCWD, path, true)?;
                self.empty = Some(tmpfs);
                Ok(())
            }
            Err(Errno::ENOSYS) => mount_empty(path, self.label),
            Err(errno) => Err(errno),
        }
    }
}

/// An empty tmpfs of its own for `path`, before Linux 5.2.
fn mount_empty(path: &Path, label: &str) -> Result<(), Errno> {
    let mut data = "nr_blocks=1,nr_inodes=1".to_owned();
    if !label.is_empty() {
        data.push_str(&format!(",context=\"{label}\""));
    }
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, Some(data.as_str()))
}

fn masked(kind: &'static str, path: &str, errno: Errno) -> RootfsError {
    RootfsError::MaskPath { kind, path: path.to_owned(), cause: FailedCall::at("mount", path)(errno) }
}

/// The container's /dev/null, if it is the device: else a path would be covered by what the image put there
/// (CVE-2025-31133).
fn open_dev_null() -> Result<OwnedFd, DevNullError> {
    let fd = open(DEV_NULL, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(FailedCall::at("open", DEV_NULL))?;
    verify_dev_null(fd.as_fd())?;
    Ok(fd)
}
