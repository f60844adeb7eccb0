//! What can go wrong while the mount tree is made, in the words that engines and runc's tests expect.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

/// The kernel's text for `errno`, in the lower case in which runc's messages carry it.
pub(super) fn errno_text(errno: Errno) -> String {
    let text = errno.desc();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// A system call that failed: its name, what it was applied to, and the kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    pub call: &'static str,
    pub target: String,
    pub errno: Errno,
}

impl FailedCall {
    pub(super) fn new(call: &'static str, target: impl fmt::Display, errno: Errno) -> Self {
        Self { call, target: target.to_string(), errno }
    }

    /// For use in `map_err`: names the call and the path.
    pub(super) fn at(call: &'static str, path: impl AsRef<std::path::Path>) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::new(call, path.as_ref().display(), errno)
    }
}

impl fmt::Display for FailedCall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.call, self.target, errno_text(self.errno))
    }
}

impl std::error::Error for FailedCall {}

/// Why one mount could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountFailure {
    #[error("{0}")]
    Call(FailedCall),
    #[error("create mountpoint for {} mount: {cause}", .destination.display())]
    Mountpoint { destination: PathBuf, cause: Box<MountFailure> },
    #[error("make mountpoint {path:?}: {cause}")]
    MakeMountpoint { path: PathBuf, cause: FailedCall },
    #[error("mountpoint {:?} is on the top of rootfs {root:?}", .root)]
    OnTopOfRoot { root: PathBuf },
    #[error("filesystem {kind:?} must be mounted on ordinary directory")]
    NotAnOrdinaryDirectory { kind: String },
    #[error("{destination:?} cannot be mounted because it is not of type proc")]
    NotProc { destination: PathBuf },
    #[error("{destination:?} cannot be mounted because it is inside /proc")]
    InsideProc { destination: PathBuf },
    #[error("failed to set user-requested vfs flags on bind-mount: {0}")]
    BindFlags(Box<MountFailure>),
    #[error("cannot clear locked flags {flags}: {cause}")]
    ClearsLocked { flags: String, cause: FailedCall },
    #[error("cannot change locked atime flags {flags}: {cause}")]
    ChangesLockedAtime { flags: String, cause: FailedCall },
    #[error("remount with locked flags {flags} re-applied: {cause}")]
    LockedReapplied { flags: String, cause: FailedCall },
    #[error("change mount propagation: {0}")]
    Propagation(FailedCall),
    #[error("{0}")]
    SourceRequest(String),
    #[error("tmpcopyup: failed to copy {path}: {cause}")]
    CopyUp { path: String, cause: std::io::Error },
    #[error("{} exists and is not a symlink to {}", .path.display(), .target.display())]
    NotThatSymlink { path: PathBuf, target: PathBuf },
}

impl From<FailedCall> for MountFailure {
    fn from(failed: FailedCall) -> Self {
        Self::Call(failed)
    }
}

/// Why the mount tree could not be made. The text is complete: there is no further cause to print.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error("{0}")]
    Invalid(String),
    #[error("error preparing rootfs: {0}")]
    Prepare(FailedCall),
    #[error("error mounting {origin:?} to rootfs at {destination:?}: {cause}")]
    Mount { origin: PathBuf, destination: PathBuf, cause: Box<MountFailure> },
    #[error("configuring container /dev: {0}")]
    Dev(#[from] DevError),
    #[error("error jailing process inside rootfs: {0}")]
    Jail(FailedCall),
    #[error("unable to apply root propagation flags: {0}")]
    RootPropagation(FailedCall),
    #[error("error reopening /dev/null inside container: {0}")]
    ReopenDevNull(DevNullError),
    #[error("error setting rootfs as readonly: {0}")]
    ReadOnlyRoot(FailedCall),
    #[error("unable to mount {path:?} as readonly: {cause}")]
    ReadOnlyMount { path: PathBuf, cause: FailedCall },
    #[error("can't make {path:?} read-only: {cause}")]
    ReadOnlyPath { path: String, cause: FailedCall },
    #[error("can't mask paths: {0}")]
    MaskSource(DevNullError),
    #[error("can't mask {kind} {path:?}: {cause}")]
    MaskPath { kind: &'static str, path: String, cause: FailedCall },
    #[error("{0}")]
    Console(#[from] ConsoleError),
    #[error("failed to open the source of mount {origin:?}: {cause}")]
    Source { origin: PathBuf, cause: SourceFailure },
}

/// Why a device or a link in /dev could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error("error creating device nodes: {0}")]
    Node(FailedCall),
    #[error("error creating device nodes: a is not a valid device type for device {path:?}")]
    NotADevice { path: PathBuf },
    #[error("error creating device nodes: new device inode {path:?} is not the device that was made")]
    Replaced { path: PathBuf },
    #[error("error setting up ptmx: {0}")]
    Ptmx(FailedCall),
    #[error("error setting up /dev symlinks: {0}")]
    Links(FailedCall),
}

/// Why the container's /dev/null cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DevNullError {
    #[error("{0}")]
    Call(#[from] FailedCall),
    #[error("can't reopen /dev/null: container's /dev/null is invalid")]
    NotTheDevice,
}

/// Why the console could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error("create {} mount target: {cause}", .path.display())]
    Target { path: PathBuf, cause: FailedCall },
    #[error("{} is neither a file nor a device: nothing can be mounted on it", .path.display())]
    BadTarget { path: PathBuf },
    #[error("the console is not a pseudo terminal of a devpts mount")]
    NotAPty,
    #[error("mount the console on {}: {cause}", .path.display())]
    Mount { path: PathBuf, cause: FailedCall },
}

/// Why the parent could not open the source of a mount for the container.
#[derive(Debug, thiserror::Error)]
pub enum SourceFailure {
    #[error("{0}")]
    Call(#[from] FailedCall),
    #[error("there is no mount number {0}")]
    NoSuchMount(usize),
    #[error("failed to create userns for id-mapping: {0}")]
    UserNamespace(std::io::Error),
    #[error("failed to set MOUNT_ATTR_IDMAP: {}{}", errno_text(*.0), idmap_hint(*.0))]
    IdMap(Errno),
}

fn idmap_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EINVAL => " (maybe the filesystem used doesn't support idmap mounts on this kernel?)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_carry_the_kernel_text_in_lower_case() {
        let failed = FailedCall::new("mount", "/x", Errno::EPERM);
        assert_eq!(failed.to_string(), "mount /x: operation not permitted");
    }
}
