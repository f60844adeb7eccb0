//! The working directory: made where it is missing, entered before or after the user changes, and proven to be
//! inside the container (CVE-2024-21626).

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::chdir;

use super::reason::Reason;
use crate::sys::process::getcwd;

/// Why the directory was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CwdError {
    /// It could not be made.
    #[error("mkdir {path}: {reason}", path = path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
    /// It could not be entered.
    #[error("chdir to cwd ({path:?}) set in config.json failed: {reason}")]
    Enter {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
    /// The directory is not below the root of the mount namespace.
    #[error(
        "current working directory is outside of container mount namespace root -- possible container breakout detected"
    )]
    Outside,
    /// It is not known where the process is.
    #[error("failed to verify if current working directory is safe: getwd: {0}")]
    Unknown(Reason),
}

/// Makes the directory with its parents. Only for the init process, after the root was changed.
pub fn create(path: &Path) -> Result<(), CwdError> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| CwdError::Create { path: path.to_owned(), reason: Reason::of(&error) })
}

/// Enters the directory, once with the rights of rt and, where these do not suffice, again with the user's.
#[derive(Debug)]
pub struct Entering<'a> {
    /// None: already there, or nothing asked for.
    left: Option<&'a Path>,
}

impl<'a> Entering<'a> {
    /// The first try, before the user changes: rt may enter a folder that the user cannot.
    pub fn as_runtime(path: &'a Path) -> Result<Self, CwdError> {
        if path.as_os_str().is_empty() {
            return Ok(Self { left: None });
        }
        match chdir(path) {
            Ok(()) => Ok(Self { left: None }),
            // A volume can belong to the user and be closed to a runtime without CAP_DAC_OVERRIDE.
            Err(Errno::EACCES | Errno::EPERM) => Ok(Self { left: Some(path) }),
            Err(errno) => Err(CwdError::Enter { path: path.to_owned(), reason: errno.into() }),
        }
    }

    /// The second try, after the user changed, and the proof of where the process is.
    pub fn as_user(self) -> Result<(), CwdError> {
        if let Some(path) = self.left {
            chdir(path).map_err(|errno| CwdError::Enter { path: path.to_owned(), reason: errno.into() })?;
        }
        verify()
    }
}

/// The kernel names a directory outside of the root "(unreachable)/…", and a removed one not at all.
pub fn verify() -> Result<(), CwdError> {
    match getcwd() {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => Err(CwdError::Outside),
        Err(errno) => Err(CwdError::Unknown(errno.into())),
    }
}
