//! The last part of becoming the container's process, the same for init and for exec: from a privileged process inside
//! the namespaces to the program, in runc's order. What it forbids cannot be undone, so the order matters.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::prctl;
use nix::sys::signal::SigSet;
use oci_spec::runtime::{Process, Spec};

use super::channel::{Channel, Request};
use super::{Failure, call, granted};
use crate::runtime::process::capabilities::CapabilitySets;
use crate::runtime::process::descriptors::Passed;
use crate::runtime::process::env::{Environment, listen_variables};
use crate::runtime::process::identity::Identity;
use crate::runtime::process::memory_policy::MemoryPolicy;
use crate::runtime::process::program::Program;
use crate::runtime::process::{apparmor, io_priority, personality, scheduler, selinux};
use crate::runtime::seccomp::{self, Filter};
use crate::runtime::userdb;
use crate::sys::clone::{relocate, reset_signal};

/// What a process of a container is given.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    pub spec: &'a Spec,
    pub process: &'a Process,
    pub filter: Option<&'a Filter>,
    pub passed: Passed,
    /// rt was started by an ordinary user.
    pub rootless: bool,
}

impl Finish<'_> {
    /// no_new_privs, scheduling, personality, memory policy.
    pub fn restrict(&self) -> Result<(), Failure> {
        if self.has_no_new_privileges() {
            prctl::set_no_new_privs().map_err(call("prctl(SET_NO_NEW_PRIVS)"))?;
        }
        let linux = self.spec.linux().as_ref();
        if let Some(wish) = self.process.scheduler() {
            let cpu = linux.and_then(|linux| linux.resources().as_ref()).and_then(|r| r.cpu().as_ref());
            let confined = cpu.and_then(|cpu| cpu.cpus().as_ref()).is_some_and(|cpus| !cpus.is_empty());
            scheduler::apply(wish, confined)?;
        }
        if let Some(wish) = self.process.io_priority() {
            io_priority::apply(wish)?;
        }
        if let Some(wish) = linux.and_then(|linux| linux.personality().as_ref()) {
            personality::apply(wish)?;
        }
        if let Some(wish) = linux.and_then(|linux| linux.memory_policy().as_ref()) {
            MemoryPolicy::from_spec(wish)?.apply()?;
        }
        Ok(())
    }

    /// Labels, filter, user and capabilities; finds the program with the user's rights. `apparmor` is set here for
    /// exec only: init has it earlier.
    pub fn become_user(
        &self,
        channel: &Channel<Request>,
        with_apparmor: bool,
    ) -> Result<(Program, Environment), Failure> {
        if let Some(label) = given(self.process.selinux_label()) {
            selinux::apply_exec_label(label)?;
        }
        // Without no_new_privs loading takes a privilege. With it, the filter comes as late as can be.
        if !self.has_no_new_privileges() {
            self.load_filter(channel)?;
        }
        let capabilities = self.process.capabilities().as_ref().map(CapabilitySets::from_spec);
        let identity = Identity {
            user: self.process.user(),
            capabilities: capabilities.as_ref(),
            cwd: self.process.cwd(),
            rootless: self.rootless,
        };
        identity.assume()?;
        if with_apparmor {
            self.apply_apparmor()?;
        }
        let environment = self.environment()?;
        let program = Program::prepare(self.process.args().as_deref().unwrap_or_default(), &environment)?;
        if self.has_no_new_privileges() {
            self.load_filter(channel)?;
        }
        Ok((program, environment))
    }

    pub fn apply_apparmor(&self) -> Result<(), Failure> {
        if let Some(profile) = given(self.process.apparmor_profile()) {
            apparmor::apply(profile)?;
        }
        Ok(())
    }

    /// Replaces the process. Nothing of rt's is open any more by then but `report`, which closes with the exec: a
    /// program path like /proc/self/fd/N must not find a file of the host (CVE-2024-21626). Returns only on failure,
    /// with where to tell it.
    pub fn execute(&self, program: &Program, report: OwnedFd) -> (Failure, OwnedFd) {
        let report = match relocate(report, self.passed.first_own()) {
            Ok(report) => report,
            Err((error, report)) => return (error.into(), report),
        };
        let ready = reset_signals().and_then(|()| Ok(self.passed.with_one_more().close_others()?));
        if let Err(failure) = ready {
            return (failure, report);
        }
        match program.execute() {
            Err(error) => (error.into(), report),
            Ok(never) => match never {},
        }
    }

    fn has_no_new_privileges(&self) -> bool {
        self.process.no_new_privileges().unwrap_or(false)
    }

    fn environment(&self) -> Result<Environment, Failure> {
        let listen = listen_variables(self.passed.listen);
        let user = self.process.user().uid();
        let home = || match File::open("/") {
            Ok(root) => userdb::home_or_default(root, user),
            Err(_) => "/".into(),
        };
        let own = self.process.env().as_deref().unwrap_or_default();
        Ok(if listen.is_empty() {
            Environment::prepare(own, home)?
        } else {
            Environment::prepare(&[own, &listen].concat(), home)?
        })
    }

    fn load_filter(&self, channel: &Channel<Request>) -> Result<(), Failure> {
        let Some(filter) = self.filter else { return Ok(()) };
        let Some(listener) = seccomp::load(filter)? else { return Ok(()) };
        // The parent takes the descriptor out of this process, since sending one may be filtered by now.
        granted(channel.ask(&Request::Listener(listener.as_raw_fd()))?)
    }
}

/// rt blocks signals to relay them, and Rust ignores SIGPIPE: the program gets neither.
fn reset_signals() -> Result<(), Failure> {
    reset_signal(libc::SIGPIPE);
    SigSet::empty().thread_set_mask().map_err(call("sigprocmask"))
}

/// A text of the spec that is not empty.
pub fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}
