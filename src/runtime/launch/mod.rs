//! How a container's process comes to be: the parent (rt create, run or exec) and the child that becomes the process.
//!
//! libcontainer's own init is not used, because its order is fixed and what engines and the spec ask for has no place
//! in it: mount sources opened by the parent, hooks and seccomp agents served in between, exec into every namespace,
//! errors in runc's words, limits written before the child runs. Its `Namespaces` enter and make the namespaces, and
//! libcgroups writes the limits.
//!
//! ```text
//! parent ──clone──▶ init                              no user or time namespace, no pid namespace to join
//! parent ──clone──▶ stage ──clone sibling──▶ init     else: the stage enters them and ends
//! parent ──clone──▶ stage ──clone sibling──▶ tenant   exec: the stage enters all namespaces of the container
//! ```
//! The parent talks to each child over a socket pair of its own ([`channel`]), in this order and no other: to the stage
//! until that has made the process ([`parent`]); then to the process, which waits with its first word until the kernel says
//! that it is in its cgroup, with its limits set ([`serve`]). When the parent dies, a child sees the end of its
//! socket and ends too. A child is a fork of a process with one thread: it may allocate and log.
//!
//! What a container could see of rt is undumpable until it executes the program ([`child`]).

mod channel;
mod child;
mod console;
mod finish;
mod idmap;
mod init;
mod namespaces;
mod parent;
mod serve;
mod stage;
mod tenant;

use std::error::Error;

pub use child::INIT_NAME;
pub use console::{SocketError, connect, send_descriptor};
pub use finish::Finish;
pub use init::InitJob;
pub use parent::{launch_init, launch_tenant};
pub use serve::{Launched, OOM_KILLED, Service, Settle};
pub use tenant::TenantJob;

/// Why the child did not become the process; told to the parent as text.
type Failure = Box<dyn Error>;

/// The words of a failure and of what caused it, each once.
fn words(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

/// An answer that is not a refusal.
fn granted(answer: channel::Answer) -> Result<(), Failure> {
    match answer {
        channel::Answer::Refused(text) => Err(text.into()),
        _ => Ok(()),
    }
}

/// A failed system call as a failure: "sethostname: operation not permitted".
fn call(name: &'static str) -> impl Fn(nix::errno::Errno) -> Failure {
    move |errno| format!("{name}: {}", super::process::reason::Reason(errno)).into()
}
