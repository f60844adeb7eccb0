//! The program of a container process: found through the container's PATH with runc's words, then executed.
//! Engines match these words to tell "not found" (127) from "not executable" (126).

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{FileStat, SFlag, stat};
use nix::unistd::{AccessFlags, execve, faccessat};

use super::env::Environment;
use super::reason::Reason;

/// Why a program cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// `process.args` is empty.
    #[error("process args must not be empty")]
    NoArguments,
    /// A name with a slash that does not exist.
    #[error("exec: {name:?}: stat {name}: {reason}")]
    Stat {
        /// As asked for.
        name: String,
        /// The kernel's answer.
        reason: Reason,
    },
    /// A name with a slash that is there but cannot be executed.
    #[error("exec: {name:?}: {reason}")]
    NotExecutable {
        /// As asked for.
        name: String,
        /// The kernel's answer.
        reason: Reason,
    },
    /// A name without a slash in no folder of PATH.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotFound(String),
    /// Found in a relative folder of PATH.
    #[error("exec: {0:?}: cannot run executable found relative to current directory")]
    Relative(String),
    /// An argument that cannot be passed on.
    #[error("exec: {0:?}: argument contains nul byte (\\x00)")]
    Nul(String),
    /// execve(2) failed.
    #[error("exec {path}: {reason}", path = path.display())]
    Execute {
        /// The resolved program.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
}

/// Finds the program of `name` with the rights of the caller, in the container's root and working directory.
pub fn resolve(name: &str, search: Option<&OsStr>) -> Result<PathBuf, ProgramError> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(Refusal::Missing(reason)) => Err(ProgramError::Stat { name: name.to_owned(), reason }),
            Err(Refusal::Closed(reason)) => {
                Err(ProgramError::NotExecutable { name: name.to_owned(), reason })
            }
        };
    }
    let search = search.unwrap_or_default().as_bytes();
    for folder in search.split(|byte| *byte == b':').filter(|_| !search.is_empty()) {
        let path = match folder {
            b"" => PathBuf::from(name),
            folder => Path::new(OsStr::from_bytes(folder)).join(name),
        };
        if executable(&path).is_ok() {
            return if path.is_absolute() { Ok(path) } else { Err(ProgramError::Relative(name.to_owned())) };
        }
    }
    Err(ProgramError::NotFound(name.to_owned()))
}

enum Refusal {
    Missing(Reason),
    Closed(Reason),
}

/// A file that the effective user can execute, by its capabilities too: a mode of 0700 is no obstacle to
/// CAP_DAC_OVERRIDE.
fn executable(path: &Path) -> Result<(), Refusal> {
    let found = stat(path).map_err(|errno| Refusal::Missing(errno.into()))?;
    if kind(&found) == SFlag::S_IFDIR {
        return Err(Refusal::Closed(Reason(Errno::EISDIR)));
    }
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(()),
        // A kernel before 5.8, or a seccomp filter: the mode bits have to do.
        Err(Errno::ENOSYS | Errno::EPERM) if found.st_mode & 0o111 != 0 => Ok(()),
        Err(Errno::ENOSYS | Errno::EPERM) => Err(Refusal::Closed(Reason(Errno::EACCES))),
        Err(errno) => Err(Refusal::Closed(errno.into())),
    }
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

/// Everything execve(2) takes, made ready early so that nothing is left to do once a filter is loaded.
#[derive(Debug, Clone)]
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Resolves `arguments[0]` and prepares the call.
    pub fn prepare(arguments: &[String], environment: &Environment) -> Result<Self, ProgramError> {
        let name = arguments.first().ok_or(ProgramError::NoArguments)?;
        let path = resolve(name, environment.get("PATH"))?;
        let c_string = |text: &OsStr| {
            CString::new(text.as_bytes()).map_err(|_| ProgramError::Nul(text.to_string_lossy().into_owned()))
        };
        Ok(Self {
            path: c_string(path.as_os_str())?,
            arguments: arguments.iter().map(|text| c_string(OsStr::new(text))).collect::<Result<_, _>>()?,
            environment: environment.to_c_strings(),
        })
    }

    /// Replaces the process; returns only when that failed.
    pub fn execute(&self) -> Result<Infallible, ProgramError> {
        loop {
            match execve(&self.path, &self.arguments, &self.environment) {
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let path = OsString::from(OsStr::from_bytes(self.path.as_bytes()));
                    return Err(ProgramError::Execute { path: path.into(), reason: errno.into() });
                }
                Ok(never) => match never {},
            }
        }
    }
}
