//! What can go wrong in the life of a container. Engines match some of these words: they are runc's
//! (docs/compatibility.md).

use std::io;
use std::path::PathBuf;

use super::cgroups::CgroupError;
use super::process::reason::Reason;

/// A failure of a lifecycle command, with the path or container it is about.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("container id cannot be empty")]
    EmptyId,
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    #[error("container does not exist")]
    NotFound,
    /// The folder of that name in the root is another runtime's.
    #[error("container does not exist: {} was made by {runtime}", path.display())]
    Foreign { path: PathBuf, runtime: &'static str },
    #[error("container with given ID already exists")]
    Exists,
    #[error("container not running")]
    NotRunning,
    /// Whether a process runs cannot be found out. Nothing is done to it, or to what it needs.
    #[error("cannot tell whether process {pid} is alive: {cause}")]
    Unknown { pid: i32, cause: String },
    /// What was asked does not go with the container's status.
    #[error("{0}")]
    Status(String),

    /// config.json or process.json asks for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    #[error("JSON specification file {} not found", .0.display())]
    NoConfig(PathBuf),
    /// A file that create saved for later commands was changed since.
    #[error("{} is not what create saved", .0.display())]
    Altered(PathBuf),
    #[error("cannot read {}: {cause}", path.display())]
    Parse { path: PathBuf, cause: String },
    #[error(
        "the state of container {id} was written by a newer rt ({by}, format {found}); this is {}, which knows format {known}",
        env!("CARGO_PKG_VERSION")
    )]
    NewerFormat { id: String, found: u32, by: String, known: u32 },

    /// A system call on a file.
    #[error("{doing} {}: {}", path.display(), Reason::of(error))]
    File { doing: &'static str, path: PathBuf, error: io::Error },
    /// A system call on something without a path.
    #[error("{doing}: {}", Reason::of(error))]
    Call { doing: &'static str, error: io::Error },

    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Hook(#[from] super::hooks::HookError),
    #[error(transparent)]
    Node(#[from] super::node::NodeError),
    #[error(transparent)]
    Seal(#[from] super::seal::SealError),

    /// The container's process could not be made; its own words, or what became of it.
    #[error("unable to start container process: {0}")]
    Start(String),
    /// A startContainer hook failed, in init's words.
    #[error("unable to start container process: {0}")]
    StartHook(String),
    /// A limit that this user may not set; what would change that.
    #[error("unable to start container process: {text}")]
    NotDelegated { text: String, remedy: Option<String> },
    /// `delete` of a container that is not stopped.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped { id: String, status: String },
    #[error("{0}")]
    Other(String),
}

impl RuntimeError {
    /// rt has no such container, whoever else may have one.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound | Self::Foreign { .. })
    }

    /// For `map_err` on a call that concerns a file.
    pub fn file<E: Into<io::Error>>(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |error| Self::File { doing, path, error: error.into() }
    }

    /// For `map_err` on any other call.
    pub fn call<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Call { doing, error: error.into() }
    }

    /// For `map_err` while the container's process is made.
    pub fn limit(error: CgroupError) -> Self {
        let text = error.to_string();
        match error {
            CgroupError::NotDelegated(denied) => Self::NotDelegated { text, remedy: denied.remedy },
            _ => Self::Start(text),
        }
    }

    /// For `map_err` where init is made or started.
    pub fn start(error: impl std::fmt::Display) -> Self {
        Self::Start(error.to_string())
    }

    /// For `map_err` on a check of the configuration.
    pub fn invalid(error: impl std::fmt::Display) -> Self {
        Self::Invalid(error.to_string())
    }
}

pub type Result<T> = std::result::Result<T, RuntimeError>;
