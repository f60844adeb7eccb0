//! Seccomp filters: compiled by the parent from the spec into BPF, loaded by the container process, and their
//! notifications handed to an agent. Own code on the libseccomp crate: libcontainer compiles and loads in the
//! child in one step, knows no ENOSYS stub, and fails on architectures and flags that runc accepts.

mod bpf;
mod cache;
mod compact;
mod compile;
mod encode;
mod enosys;
#[cfg(test)]
mod interpreter;
mod join;
mod listener;
mod names;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::process::reason::Reason;
use crate::sys::seccomp as sys;

pub use cache::compile_cached;
pub use compile::compile;
pub use listener::send_listener;
pub use names::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS, supported_flags};

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter`s in host byte order, back to back.
    pub program: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_ bits.
    pub flags: u32,
    /// Where the notification descriptor goes; None: the filter notifies nobody.
    pub listener: Option<ListenerInfo>,
}

/// The agent that answers notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerInfo {
    /// A UNIX stream socket; "@name" is an abstract one.
    pub path: PathBuf,
    /// Opaque to rt.
    pub metadata: Option<String>,
}

/// Why a filter could not be compiled, loaded or handed over.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The default action notifies.
    #[error("SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyAsDefault,
    /// write(2) notifies: the process could never tell where its descriptor is.
    #[error("SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyWrite,
    /// Something notifies and nobody listens.
    #[error("seccomp listenerPath is not set")]
    NoListener,
    /// libseccomp or the kernel is too old.
    #[error(
        "seccomp notify unsupported: API level: got {0}, want at least 6. Please try with libseccomp >= 2.5.0 and Linux >= 5.7"
    )]
    NotifyUnsupported(u32),
    /// The kernel does not know a flag.
    #[error("seccomp flag {0} is not supported by this kernel")]
    UnsupportedFlag(&'static str),
    /// An argument index over 5.
    #[error("error creating seccomp syscall condition for syscall {syscall}: invalid argument index {index}")]
    ArgumentIndex {
        /// The system call.
        syscall: String,
        /// The index.
        index: usize,
    },
    /// An empty name.
    #[error("empty string is not a valid syscall")]
    EmptyName,
    /// SCMP_ACT_TRACE with a number of more than 16 bits.
    #[error("error in seccomp profile: {0} is no valid trace number")]
    TraceNumber(u32),
    /// libseccomp refused something.
    #[error("error {doing}: {source}")]
    Library {
        /// "adding architecture to seccomp filter" and the like.
        doing: String,
        /// Its answer.
        source: libseccomp::error::SeccompError,
    },
    /// The compiled program could not be read back.
    #[error("error exporting BPF: {0}")]
    Export(Reason),
    /// The program has more than 4096 instructions (BPF_MAXINSNS).
    #[error("error loading seccomp filter: the program has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
    /// Not what [`Filter::to_bytes`] made.
    #[error("not a stored seccomp filter")]
    Stored,
    /// seccomp(2) failed.
    #[error(
        "unable to init seccomp: error loading seccomp filter into kernel: error loading seccomp filter: {0}"
    )]
    Load(Reason),
    /// Nobody listens at the listener's path.
    #[error("failed to connect with seccomp agent specified in the seccomp profile: dial unix {path}: {reason}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
    /// The state is no JSON object.
    #[error("cannot marshall seccomp state: {0}")]
    State(#[source] serde_json::Error),
    /// The agent hung up.
    #[error("cannot send seccomp fd to {path}: {reason}", path = path.display())]
    Send {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
}

impl SeccompError {
    fn library(doing: impl Into<String>) -> impl FnOnce(libseccomp::error::SeccompError) -> Self {
        let doing = doing.into();
        |source| Self::Library { doing, source }
    }
}

/// Loads a filter into the calling process, with one system call. It needs no_new_privs, or CAP_SYS_ADMIN: the
/// caller loads it before capabilities are dropped or as late as possible, depending on that. The descriptor of
/// a notifying filter comes back; from then on even write(2) of the caller is filtered.
pub fn load(filter: &Filter) -> Result<Option<OwnedFd>, SeccompError> {
    sys::set_filter(&filter.program, filter.flags).map_err(|errno| SeccompError::Load(errno.into()))
}

#[cfg(test)]
mod tests;
