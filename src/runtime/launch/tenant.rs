//! The child that becomes an exec's process: it is in the container's namespaces since its birth, and has nothing of the
//! host open.

use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::setsid;
use oci_spec::runtime::Process;

use super::channel::{Channel, Request};
use super::finish::{Finish, given};
use super::{Failure, call, console, granted};
use crate::log;
use crate::runtime::cgroups::Entered;
use crate::runtime::process::program::Program;
use crate::runtime::process::{keyring, selinux, umask};

/// What an exec's process is made of.
#[derive(Debug)]
pub struct TenantJob<'a> {
    pub id: &'a str,
    pub finish: Finish<'a>,
    pub console: Option<&'a OwnedFd>,
    pub no_new_keyring: bool,
}

impl TenantJob<'_> {
    /// The bias of the OOM killer: its own, or the container's.
    pub fn oom_score_adj(&self) -> Option<i32> {
        let of = |process: &Process| process.oom_score_adj();
        of(self.finish.process).or_else(|| self.finish.spec.process().as_ref().and_then(of))
    }

    /// Runs in the new process, whose stage has entered these hierarchies of the cgroup, until it executes the program.
    /// Returns only on failure, which the parent was told.
    pub fn run(&self, entered: Entered, channel: &Channel<Request>) {
        log::to_parent(channel.as_fd());
        let failure = match self.prepare(entered, channel) {
            Ok(program) => match channel.try_clone() {
                Ok(report) => {
                    let (failure, report) = self.finish.execute(&program, report.into());
                    let _ = Channel::<Request>::from(report).tell(&Request::Failed(super::words(&failure)));
                    return;
                }
                Err(error) => error.into(),
            },
            Err(failure) => failure,
        };
        let _ = channel.tell(&Request::Failed(super::words(&failure)));
    }

    fn prepare(&self, entered: Entered, channel: &Channel<Request>) -> Result<Program, Failure> {
        // Answered when this process is wholly in its cgroup, and its limits are set.
        granted(channel.ask(&Request::Entered(entered))?)?;
        tracing::debug!("child process in init()");
        setsid().map_err(call("setsid"))?;
        self.join_keyring()?;
        if let Some(socket) = self.console {
            console::set_up(socket, self.finish.process, false)?;
        }
        let container = self.finish.spec.process().as_ref();
        let mask = |process: &Process| process.user().umask();
        umask::apply_to_exec(mask(self.finish.process).or_else(|| container.and_then(mask)));
        self.finish.restrict()?;
        tracing::debug!("setns_init: about to exec");
        let (program, _) = self.finish.become_user(channel, true)?;
        Ok(program)
    }

    fn join_keyring(&self) -> Result<(), Failure> {
        if self.no_new_keyring {
            return Ok(());
        }
        let label = given(self.finish.process.selinux_label());
        if let Some(label) = label {
            selinux::apply_key_label(label)?;
        }
        keyring::join_as_exec(self.id)?;
        if label.is_some() {
            selinux::apply_key_label("")?;
        }
        Ok(())
    }
}
