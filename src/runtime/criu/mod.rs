//! Checkpoint and restore by the criu of the host, in the words of its RPC. What is handed to criu, and in
//! which order things happen, follows runc, so that images of one can be restored by the other.
//! Knows nothing of state folders: what is to be done with them is the caller's part.

mod container;
mod dump;
mod mounts;
mod name;
mod options;
mod quote;
mod restore;
mod session;
mod wire;

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

pub use container::{ContainerEvents, cgroup_binds};
pub use dump::dump;
pub use restore::{RestoreEvents, restore};

use session::{Kind, Response, ask, request};

/// The oldest criu that answers questions about itself.
const OLDEST: i32 = 30_000;

/// What criu is to save or bring back.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The container's config.json.
    pub spec: &'a Spec,
    /// Its root file system: absolute and canonical.
    pub rootfs: &'a Path,
    /// Its directories in cgroup v1 with the names they have below /sys/fs/cgroup; empty on a unified host and
    /// where the container has a cgroup namespace, because nothing is bind-mounted then.
    pub cgroup_binds: &'a [(String, PathBuf)],
    /// Its cgroup with a freezer, if there is one.
    pub freezer: Option<&'a Path>,
}

/// Why a checkpoint or a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum CriuError {
    /// There is no criu.
    #[error("CRIU version check failed: exec: \"criu\": executable file not found in $PATH")]
    Missing,
    /// The host's criu cannot do it.
    #[error("CRIU version {found} must be {needed} or higher")]
    TooOld {
        /// 10000·major + 100·minor + sublevel.
        found: i32,
        /// The same of the oldest that can.
        needed: i32,
    },
    /// criu or the kernel lacks a feature.
    #[error("criu is missing features: [{0}]")]
    MissingFeature(&'static str),
    /// criu says that it failed.
    #[error("criu failed: {0}")]
    Failed(String),
    /// criu ended in some other way than it should.
    #[error("criu failed: {0}")]
    Ended(String),
    /// What criu sent makes no sense.
    #[error("cannot understand criu: {0}")]
    Protocol(&'static str),
    /// An option, or something in config.json, that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Something could not be done with a file.
    #[error("{what} '{}'", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl CriuError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, path: path.to_owned(), source }
    }
}

/// The version of the host's criu, at least `needed`.
fn version(needed: i32) -> Result<i32, CriuError> {
    let Response { version: found, .. } = ask(&request(Kind::Version, None))?;
    tracing::debug!("using CRIU {found}");
    if found < needed { Err(CriuError::TooOld { found, needed }) } else { Ok(found) }
}
