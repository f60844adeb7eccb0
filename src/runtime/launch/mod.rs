//! How a container's process comes to be: the parent (rt create, run or exec) and the child that becomes the process.
//!
//! libcontainer's own init is not used, because its order is fixed and what engines and the spec ask for has no place
//! in it: mount sources opened by the parent, hooks and seccomp agents served in between, exec into every namespace,
//! errors in runc's words, limits written before the child runs. Its `Namespaces` enter and make the namespaces, and
//! libcgroups writes the limits.
//!
//! ```text
//! parent ──clone──▶ init                              no user or time namespace, no pid namespace to join
//! parent ──clone──▶ stage ──clone sibling──▶ init     else: the stage enters them and ends; so does exec's, where
//!                                                     the container has a user namespace
//! ```
//! Both sides talk over a socket pair of packets ([`channel`]). When the parent dies, the child sees the end of the
//! socket and ends too. The child is a fork of a process with one thread: it may allocate and log.

mod channel;
mod console;
mod finish;
mod idmap;
mod init;
mod namespaces;
mod parent;
mod stage;
mod tenant;

use std::error::Error;

pub use console::{SocketError, connect, send_descriptor};
pub use finish::Finish;
pub use init::InitJob;
pub use parent::{INIT_NAME, Launched, OOM_KILLED, Service, Settle, launch_init, launch_tenant};
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

/// A failed system call as a failure: "sethostname: operation not permitted".
fn call(name: &'static str) -> impl Fn(nix::errno::Errno) -> Failure {
    move |errno| format!("{name}: {}", super::process::reason::Reason(errno)).into()
}
