//! The child that becomes an exec's process: it is in the container's namespaces already.

use std::os::fd::OwnedFd;

use nix::unistd::setsid;

use super::channel::{Channel, Request};
use super::finish::{Finish, given};
use super::{Failure, call, console};
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
    /// Runs in the new process, whose limits are set, until it executes the program. Returns only on failure, which the parent was told.
    pub fn run(&self, channel: &Channel) {
        let failure = match self.prepare(channel) {
            Ok(program) => match channel.try_clone() {
                Ok(report) => {
                    let (failure, report) = self.finish.execute(&program, report.into());
                    let _ = Channel::from(report).tell(&Request::Failed(super::words(&failure)));
                    return;
                }
                Err(error) => error.into(),
            },
            Err(failure) => failure,
        };
        let _ = channel.tell(&Request::Failed(super::words(&failure)));
    }

    fn prepare(&self, channel: &Channel) -> Result<Program, Failure> {
        tracing::debug!("child process in init()");
        setsid().map_err(call("setsid"))?;
        self.join_keyring()?;
        if let Some(socket) = self.console {
            console::set_up(socket, self.finish.process, false)?;
        }
        let container = self.finish.spec.process().as_ref();
        let mask = |process: &oci_spec::runtime::Process| process.user().umask();
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
