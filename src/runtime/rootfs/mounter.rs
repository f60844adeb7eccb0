//! Mounts what the spec lists, in its order, below the root.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;

use super::error::{FailedCall, MountFailure, RootfsError};
use super::options::flag_names;
use super::request::{Request, SourceProvider};
use super::resolve::{Missing, Place, Root};
use super::{Rootfs, bind, cgroup, filesystem};

/// A mount that is to be read-only, and stays writable until everything is in place. Held by its descriptor: its path may
/// lead elsewhere by then (CVE-2026-115521).
#[derive(Debug)]
pub struct StillWritable {
    pub(super) mount: OwnedFd,
    pub(super) destination: PathBuf,
}

/// The container's root while mounts are made in it.
pub(super) struct Mounter<'a> {
    pub rootfs: &'a Rootfs<'a>,
    pub root: Root<'a>,
    pub sources: &'a mut dyn SourceProvider,
    start: Option<OwnedFd>,
    still_writable: RefCell<Vec<StillWritable>>,
}

impl<'a> Mounter<'a> {
    pub fn new(rootfs: &'a Rootfs<'a>, sources: &'a mut dyn SourceProvider) -> Result<Self, RootfsError> {
        let root = Root::open(rootfs.root)
            .map_err(FailedCall::at("open", rootfs.root))
            .map_err(RootfsError::Prepare)?;
        // A user namespace may have no access to the directory it was started in: then no relative source
        // can be reached either.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let start = open(".", flags, Mode::empty()).ok();
        Ok(Self { rootfs, root, sources, start, still_writable: RefCell::default() })
    }

    /// Has `mount`, which `request` made, become read-only in the end.
    pub fn finish_later(&self, mount: OwnedFd, request: &Request<'_>) {
        let destination = request.destination.to_owned();
        self.still_writable.borrow_mut().push(StillWritable { mount, destination });
    }

    pub fn into_still_writable(self) -> Vec<StillWritable> {
        self.still_writable.into_inner()
    }

    /// The directory to which relative sources belong.
    pub fn start(&self) -> BorrowedFd<'_> {
        self.start.as_ref().map_or(AT_FDCWD, AsFd::as_fd)
    }

    /// Whether [`Self::start`] is the directory it should be.
    pub fn has_start(&self) -> bool {
        self.start.is_some()
    }

    /// Goes back to the directory that was the working directory before mounts were made.
    pub fn return_to_start(&self) {
        if let Some(Err(errno)) = self.start.as_ref().map(fchdir) {
            tracing::debug!("cannot return to the working directory: {errno}");
        }
    }

    pub fn mount_all(&mut self) -> Result<(), RootfsError> {
        for (index, mount) in self.rootfs.spec.mounts().iter().flatten().enumerate() {
            let request = Request::new(index, mount);
            self.mount(&request).map_err(|cause| RootfsError::Mount {
                origin: request.origin.to_owned(),
                destination: request.destination.to_owned(),
                cause: Box::new(cause),
            })?;
        }
        Ok(())
    }

    fn mount(&mut self, request: &Request<'_>) -> Result<(), MountFailure> {
        match request.kind {
            "bind" if request.options.flags & libc::MS_REMOUNT == 0 => bind::bind(self, request),
            "cgroup" => cgroup::mount(self, request),
            "proc" | "sysfs" => filesystem::mount_pseudo(self, request),
            _ => filesystem::mount(self, request),
        }
    }

    /// The place at the destination of `request`, created if need be.
    pub fn mountpoint(
        &self,
        request: &Request<'_>,
        missing: impl FnOnce() -> Result<Missing, Errno>,
    ) -> Result<Place, MountFailure> {
        let relative = self.root.relative(request.destination);
        let place = self
            .root
            .resolve(&relative, missing)
            .map_err(FailedCall::at("make mountpoint", request.destination))
            .map_err(MountFailure::from)
            .and_then(|place| self.below_root(place))
            .map_err(|cause| MountFailure::Mountpoint {
                destination: request.destination.to_owned(),
                cause: Box::new(cause),
            })?;
        Ok(place)
    }

    /// Fails if `place` is the root itself: a mount there would hide the tree that is being made.
    pub fn below_root(&self, place: Place) -> Result<Place, MountFailure> {
        if place.path == Path::new("") {
            return Err(MountFailure::OnTopOfRoot { root: self.root.path().to_owned() });
        }
        Ok(place)
    }

    /// The error for a mount call that failed, with all that it was given.
    pub fn failed_mount(&self, call: &'static str, request: &Request<'_>, errno: Errno) -> FailedCall {
        let mut target = format!("src={}, dst={}", request.origin.display(), request.destination.display());
        if request.options.flags != 0 {
            target.push_str(", flags=");
            target.push_str(&flag_names(request.options.flags));
        }
        if !request.options.data.is_empty() {
            target.push_str(", data=");
            target.push_str(&request.options.data);
        }
        FailedCall::new(call, target, errno)
    }
}
