//! Runs another process in a container: in all of its namespaces, and with what the config saved at create says.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::unistd::{Pid, geteuid};
use oci_spec::runtime::{Process, Spec};

use super::cgroups::{Entered, Place, SubCgroups};
use super::container::Container;
use super::error::{Result, RuntimeError};
use super::launch::{Finish, Launched, Service, Settle, TenantJob, launch_tenant};
use super::process::affinity::{ExecAffinity, current_mask};
use super::process::descriptors::Passed;
use super::process::{oom_score_adj, rlimits};
use super::status::Status;
use super::{pid_file, saved, sockets, validate};
use crate::sys::process::pidfd_open;

/// What is asked of `exec`.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    pub process: Process,
    pub sub_cgroups: SubCgroups,
    pub console: Option<&'a OwnedFd>,
    pub pidfd_socket: Option<&'a OwnedFd>,
    pub pid_file: Option<&'a Path>,
    pub passed: Passed,
}

/// Fails if nothing can be executed in the container now.
///
/// # Errors
/// [`RuntimeError::Status`].
pub fn check(container: &Container, ignore_paused: bool) -> Result<()> {
    let text = match container.status()? {
        Status::Stopped => "cannot exec in a stopped container",
        Status::Paused if !ignore_paused => {
            "cannot exec in a paused container (use --ignore-paused to override)"
        }
        Status::Creating => "cannot exec in a container that is being created",
        _ => return Ok(()),
    };
    Err(RuntimeError::Status(text.to_owned()))
}

/// Makes the process. It executes its program when this returns.
///
/// # Errors
/// In runc's words; no process is left.
pub fn exec(container: &Container, request: &ExecRequest<'_>) -> Result<Launched> {
    let spec = container.spec()?;
    let process = with_defaults(request.process.clone(), spec);
    validate::validate_process(&process)?;
    let affinity =
        ExecAffinity::from_spec(process.exec_cpu_affinity().as_ref()).map_err(RuntimeError::invalid)?;
    let init = container.init().ok_or(RuntimeError::NotRunning)?;
    let target = pidfd_open(init.pid).map_err(RuntimeError::call("pidfd_open"))?;
    // The descriptor names one process; if that is not init, init is gone.
    if !init.is_alive()? {
        return Err(RuntimeError::Status("cannot exec in a stopped container".to_owned()));
    }
    let filter = saved::filter(container.directory(), container.record().saved)?;
    let state = container.oci_state(container.status()?);
    let service = Service {
        spec,
        bundle: container.bundle(),
        state: &state,
        filter: filter.as_ref(),
        cgroup: container.cgroup(),
    };
    let job = TenantJob {
        id: container.id(),
        finish: Finish {
            spec,
            process: &process,
            filter: filter.as_ref(),
            passed: request.passed,
            rootless: !geteuid().is_root(),
        },
        console: request.console,
        no_new_keyring: container.record().no_new_keyring,
    };
    let init = Pid::from_raw(init.pid);
    // The stage inherits it, and is pinned before it does anything.
    affinity.apply_initial(0).map_err(RuntimeError::start)?;
    if let Ok(mask) = current_mask() {
        tracing::debug!("nsexec-0[{}]: affinity: 0x{mask:x}", std::process::id());
    }
    let sub = &request.sub_cgroups;
    let beside = (init, target.as_fd());
    let mut settle = Tenant { container, job: &job, sub, beside, affinity: &affinity };
    let launched = launch_tenant(&job, (&target, init), sub, &service, &mut settle)?;
    if let Err(error) = finish(&launched, request) {
        let _ = crate::sys::clone::pidfd_send_signal(&launched.pidfd, libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(launched.pid, None);
        return Err(error);
    }
    Ok(launched)
}

/// What has to be before the process does anything.
struct Tenant<'a> {
    container: &'a Container,
    job: &'a TenantJob<'a>,
    sub: &'a SubCgroups,
    /// Init, and its pidfd.
    beside: (Pid, BorrowedFd<'a>),
    affinity: &'a ExecAffinity,
}

impl Settle for Tenant<'_> {
    fn enter(&mut self, pid: Pid, entered: Entered) -> Result<Place> {
        let cgroup = self.container.cgroup();
        let place =
            cgroup.join_sub(pid, self.sub, Some(self.beside), entered).map_err(RuntimeError::start)?;
        self.affinity.apply_final(pid.as_raw()).map_err(RuntimeError::start)?;
        Ok(place)
    }

    fn limit(&mut self, pid: Pid) -> Result<()> {
        if let Some(group) = &self.container.record().rdt {
            group.join(pid.as_raw()).map_err(RuntimeError::start)?;
        }
        if let Some(score) = self.job.oom_score_adj() {
            oom_score_adj::verify(pid.as_raw(), score).map_err(RuntimeError::start)?;
        }
        rlimits::apply(self.job.finish.process.rlimits().as_deref().unwrap_or_default(), pid.as_raw())
            .map_err(RuntimeError::start)
    }
}

fn finish(launched: &Launched, request: &ExecRequest<'_>) -> Result<()> {
    if let Some(socket) = request.pidfd_socket {
        sockets::send_pidfd(socket, "setns", launched.pidfd.as_fd())?;
    }
    match request.pid_file {
        Some(path) => pid_file::write(path, launched.pid),
        None => Ok(()),
    }
}

/// What the process does not say is the container's.
fn with_defaults(mut process: Process, spec: &Spec) -> Process {
    let Some(own) = spec.process() else { return process };
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.no_new_privileges().is_none() {
        process.set_no_new_privileges(own.no_new_privileges());
    }
    if process.apparmor_profile().as_ref().is_none_or(String::is_empty) {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if process.selinux_label().as_ref().is_none_or(String::is_empty) {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(own.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*own.io_priority());
    }
    process
}
