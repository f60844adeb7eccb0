//! The mount tree of a container: mounts, devices, masks, pivot.
//!
//! Written here because libcontainer 0.7's `RootFs` rejects or gets wrong what engines use (rootfsPropagation
//! with an `r`, mounts without source, idmapped mounts, tmpcopyup, options that clear flags on a locked or
//! read-only source, propagation of single mounts, a read-only /dev or cgroup v1, sources that a user
//! namespace cannot reach), and its `MountOptions` cannot be named from outside. The meaning follows runc
//! 1.4. Destinations are reached through descriptors only: see [`resolve`].

mod attach;
mod bind;
mod cgroup;
mod console;
mod copy_up;
mod devices;
mod error;
mod filesystem;
mod mounter;
mod options;
mod pivot;
mod proc_guard;
mod protect;
mod request;
mod resolve;
mod source;
mod validate;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

pub use console::mount_console;
pub use error::{ConsoleError, DevError, DevNullError, FailedCall, MountFailure, RootfsError, SourceFailure};
pub use options::{IdMap, MountOptions, known_mount_options};
pub use request::{SourceProvider, needs_parent};
pub use source::open_source;
pub use validate::validate;

pub use mounter::StillWritable;

use mounter::Mounter;

/// What the mount tree is made of. Used in the forked child, which is in the container's namespaces already.
/// In order: [`Self::prepare`], hooks, [`Self::pivot`], [`Self::reopen_dev_null`], the console,
/// [`Self::finalize`], [`Self::protect_paths`].
#[derive(Debug, Clone, Copy)]
pub struct Rootfs<'a> {
    pub spec: &'a Spec,
    /// Absolute and canonical, on the host.
    pub root: &'a Path,
    /// Whether the container has a user namespace, or the runtime runs in one.
    pub user_namespace: bool,
    /// Whether the container has a cgroup namespace.
    pub cgroup_namespace: bool,
    /// Whether the container has a mount namespace (new or joined): else the host's is changed, but only
    /// below `root`.
    pub mount_namespace: bool,
    /// Move the root instead of pivoting.
    pub no_pivot: bool,
    /// The container's cgroup v1 directories on the host, each with the name of its hierarchy's mount point
    /// (`memory`, `cpu,cpuacct`, `systemd`).
    pub cgroup_v1_paths: &'a [(String, PathBuf)],
    /// The container's cgroup v2 directory on the host, which need not be there.
    pub cgroup2_path: Option<&'a Path>,
}

impl Rootfs<'_> {
    fn has_new_network(&self) -> bool {
        let namespaces = self.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let is_new = |n: &LinuxNamespace| n.typ() == LinuxNamespaceType::Network && n.path().is_none();
        namespaces.is_some_and(|namespaces| namespaces.iter().any(is_new))
    }

    /// Makes the container's tree below the root: propagation, mounts in the order of the spec, devices, and
    /// links in /dev. Leaves the working directory and the umask as they were. Returns what [`Self::finalize`] takes.
    ///
    /// # Errors
    /// [`RootfsError`], whose text is what runc says; the mounts made so far stay.
    pub fn prepare(&self, sources: &mut dyn SourceProvider) -> Result<Vec<StillWritable>, RootfsError> {
        // The modes of what is created are meant as they are.
        let mask = umask(Mode::empty());
        let result = self.prepare_unmasked(sources);
        umask(mask);
        result
    }

    fn prepare_unmasked(&self, sources: &mut dyn SourceProvider) -> Result<Vec<StillWritable>, RootfsError> {
        pivot::prepare_root(self)?;
        let mut mounter = Mounter::new(self, sources)?;
        let result = mounter
            .mount_all()
            .and_then(|()| if self.makes_dev() { Ok(devices::set_up_dev(&mounter)?) } else { Ok(()) });
        mounter.return_to_start();
        result.map(|()| mounter.into_still_writable())
    }

    /// Makes the root the "/" of this process and of its mount namespace, and goes there. Applies the
    /// propagation of the spec in the end.
    ///
    /// # Errors
    /// [`RootfsError::Jail`] or [`RootfsError::RootPropagation`].
    pub fn pivot(&self) -> Result<(), RootfsError> {
        pivot::enter(self).map_err(RootfsError::Jail)?;
        pivot::apply_propagation(self)
    }

    /// Opens /dev/null again, inside the container, for those of the standard descriptors that are it.
    ///
    /// # Errors
    /// [`RootfsError::ReopenDevNull`] when the container's /dev/null is missing or another device.
    pub fn reopen_dev_null(&self) -> Result<(), RootfsError> {
        if self.makes_dev() {
            console::reopen_dev_null().map_err(RootfsError::ReopenDevNull)?;
        }
        Ok(())
    }

    /// Makes read-only what had to stay writable until now: /dev, tmpfs mounts, and the root.
    ///
    /// # Errors
    /// [`RootfsError::ReadOnlyMount`] or [`RootfsError::ReadOnlyRoot`].
    pub fn finalize(&self, mounts: Vec<StillWritable>) -> Result<(), RootfsError> {
        protect::finish_read_only(self, &mounts)
    }

    /// Applies `readonlyPaths` and `maskedPaths`. Paths that do not exist are skipped.
    ///
    /// # Errors
    /// [`RootfsError::ReadOnlyPath`], [`RootfsError::MaskPath`] or [`RootfsError::MaskSource`].
    pub fn protect_paths(&self) -> Result<(), RootfsError> {
        protect::protect_paths(self)
    }

    /// The SELinux label of mounts, empty for none.
    fn mount_label(&self) -> &str {
        self.spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref()).unwrap_or("")
    }

    /// Whether /dev is ours to fill: not if something is bind-mounted there.
    fn makes_dev(&self) -> bool {
        !self.spec.mounts().iter().flatten().enumerate().any(|(index, mount)| {
            resolve::clean(mount.destination()) == Path::new("dev")
                && request::Request::new(index, mount).kind == "bind"
        })
    }
}
