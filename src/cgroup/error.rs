//! What can go wrong while the kernel's accounting is read. Each variant names the file.

use std::io;
use std::path::{Path, PathBuf};

/// A failure to read, understand or join a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cannot read '{}'", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("'{}' holds '{text}', which is not {wanted}", path.display())]
    Parse { path: PathBuf, text: String, wanted: &'static str },
    #[error("process {pid} does not exist")]
    NoProcess { pid: i32 },
    #[error("no {controller} cgroup in '{membership}'")]
    NoController { controller: String, membership: String },
    #[error("cgroup '{path}' lies outside the cgroup mounts seen from here")]
    NotMounted { path: String },
    #[error("'{}' is no cgroup of the memory controller", path.display())]
    NoMemoryCgroup { path: PathBuf },
    #[error("the kernel accounts no memory for cgroup '{}'", path.display())]
    NotAccounted { path: PathBuf },
    #[error("cannot join process {pid} to cgroup '{}'", path.display())]
    Join { path: PathBuf, pid: i32, source: io::Error },
}

impl CgroupError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn parse(path: &Path, text: &str, wanted: &'static str) -> Self {
        let text = text.trim_end().chars().take(80).collect();
        Self::Parse { path: path.to_owned(), text, wanted }
    }

    /// True where the file or folder is not there: the cgroup was removed, or this kernel lacks the file.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Join { source, .. } => {
                // ENODEV: a kept descriptor of a removed cgroup.
                source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(nix::libc::ENODEV)
            }
            _ => false,
        }
    }
}
