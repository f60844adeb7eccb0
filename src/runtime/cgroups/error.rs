//! What can go wrong with a cgroup. Wording follows runc where engines or its tests match on it.

use std::io;
use std::path::{Path, PathBuf};

use libcgroups::common::WrappedIoError;
use nix::errno::Errno;
use nix::unistd::Pid;

/// A failure, with the path and the value it is about. The cause is part of the message, so there is no
/// `source()` that would print it twice.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("open {}: {}", path.display(), reason(error))]
    Open { path: PathBuf, error: io::Error },
    #[error("read {}: {}", path.display(), reason(error))]
    Read { path: PathBuf, error: io::Error },
    #[error("failed to write {data:?}: write {}: {}", path.display(), reason(error))]
    Write { path: PathBuf, data: String, error: io::Error },
    #[error("mkdir {}: {}", path.display(), reason(error))]
    Mkdir { path: PathBuf, error: io::Error },
    #[error("failed to remove cgroup {}: {}", path.display(), reason(error))]
    Remove { path: PathBuf, error: io::Error },
    #[error("unable to parse {}: {text:?}", path.display())]
    Parse { path: PathBuf, text: String },

    #[error("no cgroup mount found in mountinfo")]
    NoMount,
    #[error("mountpoint for {0} not found")]
    NoHierarchy(String),
    #[error(
        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {0:?} instead"
    )]
    NotSliceForm(String),
    #[error("invalid slice name: {0}")]
    InvalidSlice(String),
    #[error("systemd not running on this host, cannot use systemd cgroups manager")]
    NoSystemd,
    #[error("cannot use rootless systemd cgroups manager on cgroup v1")]
    RootlessSystemdV1,
    #[error("systemd unit {unit}: {reason}")]
    Systemd { unit: String, reason: String },

    #[error("annotation {key}={text} value parse error: {reason}")]
    Annotation { key: String, text: String, reason: String },

    #[error("unable to apply cgroup configuration: {0}")]
    Apply(Box<CgroupError>),
    #[error("container's cgroup is not empty: {0} process(es) found")]
    NotEmpty(usize),
    #[error("container's cgroup unexpectedly frozen")]
    UnexpectedlyFrozen,
    #[error("rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {0}")]
    NotDelegated(Box<super::Denied>),
    #[error("rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {0}")]
    RootlessLimits(Box<CgroupError>),
    #[error("cannot enter cgroupv2 {:?} with domain controllers -- it is in {state}", path)]
    NotDomain { path: PathBuf, state: String },

    #[error("invalid configuration: cannot use unified on cgroup v1")]
    UnifiedOnV1,
    #[error("cannot set {0} limit: container could not join or create cgroup")]
    NoController(String),
    #[error("{0}")]
    InvalidLimit(String),
    #[error("{0}")]
    Crate(String),
    #[error("cannot load or attach the device filter of {}: {reason}", path.display())]
    DeviceFilter { path: PathBuf, reason: String },

    #[error("process {pid} is not in the container's cgroup {}, but in {}", dir.display(), found.display())]
    Outside { pid: Pid, dir: PathBuf, found: PathBuf },
    #[error("error adding pid {pid} to cgroups: {reason}")]
    Join { pid: Pid, reason: Box<CgroupError> },
    #[error("bad sub cgroup path: {0}")]
    BadSubCgroup(String),
    #[error("unknown controller {0} in SubCgroupPaths")]
    UnknownController(String),
    #[error("invalid --cgroup argument: {0}")]
    SubCgroupArgument(String),

    #[error("cannot toggle freezer: cgroups not configured for container")]
    NoFreezer,
    #[error("freezer not supported: {0}")]
    FreezerUnsupported(Box<CgroupError>),
    #[error("unable to freeze")]
    UnableToFreeze,
    #[error("cgroup not exist")]
    NotExist,
    #[error("memory controller missing")]
    NoMemoryController,
    #[error("cannot watch {}: {errno}", path.display())]
    Watch { path: PathBuf, errno: Errno },
}

impl CgroupError {
    /// The kernel's error number behind this failure, when there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { error, .. }
            | Self::Read { error, .. }
            | Self::Write { error, .. }
            | Self::Mkdir { error, .. }
            | Self::Remove { error, .. } => error.raw_os_error().map(Errno::from_raw),
            Self::Apply(inner) | Self::RootlessLimits(inner) | Self::FreezerUnsupported(inner) => {
                inner.errno()
            }
            Self::Join { reason, .. } => reason.errno(),
            Self::Watch { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// The cgroup (or the file in it) is gone, or its controller has been taken away meanwhile.
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENOENT | Errno::ENODEV)) || matches!(self, Self::NotExist)
    }

    /// Permission in the loose sense: what an unprivileged user sees on a cgroup file system.
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(Errno::EPERM | Errno::EACCES | Errno::EROFS))
    }

    /// Takes over an error of the crate, with its path and value where it names them.
    pub(super) fn from_crate(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(current) = cause {
            if let Some(io) = current.downcast_ref::<WrappedIoError>() {
                return Self::from_wrapped(io);
            }
            cause = current.source();
        }
        Self::Crate(error.to_string())
    }

    fn from_wrapped(error: &WrappedIoError) -> Self {
        // io::Error cannot be cloned; the number is all that is needed.
        let copy = |e: &io::Error| match e.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(e.kind(), e.to_string()),
        };
        match error {
            WrappedIoError::Open { err, path } => Self::Open { path: path.clone(), error: copy(err) },
            WrappedIoError::Read { err, path } | WrappedIoError::Other { err, path } => {
                Self::Read { path: path.clone(), error: copy(err) }
            }
            WrappedIoError::Write { err, path, data } => {
                Self::Write { path: path.clone(), data: data.clone(), error: copy(err) }
            }
            WrappedIoError::CreateDir { err, path } => Self::Mkdir { path: path.clone(), error: copy(err) },
        }
    }

    pub(super) fn parse(path: &Path, text: &str) -> Self {
        Self::Parse { path: path.to_path_buf(), text: text.trim_end().to_owned() }
    }
}

/// The kernel's words alone ("permission denied"), as Go prints them and engines match them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_use_the_words_that_engines_match() {
        let error = CgroupError::Apply(Box::new(CgroupError::Mkdir {
            path: "/sys/fs/cgroup/x".into(),
            error: io::Error::from_raw_os_error(libc::EACCES),
        }));
        assert_eq!(
            error.to_string(),
            "unable to apply cgroup configuration: mkdir /sys/fs/cgroup/x: permission denied"
        );
        assert!(error.is_permission());
        let busy = CgroupError::Write {
            path: "/c/cgroup.procs".into(),
            data: "7".into(),
            error: io::Error::from_raw_os_error(libc::EBUSY),
        };
        assert_eq!(busy.to_string(), "failed to write \"7\": write /c/cgroup.procs: device or resource busy");
    }
}
