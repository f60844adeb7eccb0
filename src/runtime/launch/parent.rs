//! The parent's side: makes the children and hears the stage out before it talks to the process. Whatever goes wrong, no
//! child is left.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};
use oci_spec::runtime::LinuxNamespaceType;

use super::channel::{Channel, StageRequest};
use super::init::{Birth, InitJob};
use super::namespaces::Plan;
use super::serve::{Held, Kind, Launched, Service, Settle, answer, died, done};
use super::tenant::TenantJob;
use super::{child, idmap, stage};
use crate::log;
use crate::runtime::cgroups::SubCgroups;
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::gate::Gate;
use crate::runtime::store::Lock;
use crate::sys::clone::{CloneOptions, clone_process, set_dumpable};

/// Kills and reaps the children unless they are let go.
#[derive(Default)]
pub struct Children(Vec<Pid>);

impl Children {
    pub fn let_go(&mut self) {
        self.0.clear();
    }

    pub fn reap(&mut self, pid: Pid) -> Option<WaitStatus> {
        self.0.retain(|known| *known != pid);
        wait(pid)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGKILL);
            wait(*pid);
        }
    }
}

fn wait(pid: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            status => return status.ok(),
        }
    }
}

/// Makes a container's init and serves it until it waits to be started.
///
/// # Errors
/// [`RuntimeError::Start`] with the child's words, or what `settle` said. No process is left then.
pub fn launch_init(
    job: &InitJob<'_>,
    gate: Gate,
    service: &Service<'_>,
    lock: Option<&Lock>,
    settle: &mut dyn Settle,
) -> Result<Launched> {
    let plan = Plan::of(job.spec).map_err(RuntimeError::start)?;
    let (channel, theirs) = Channel::pair().map_err(RuntimeError::call("socketpair"))?;
    let whole = SubCgroups::default();
    // The folder would be open in init at its birth, where another container of the pid namespace could follow it.
    let cradle = service.cgroup.cradle(&whole).filter(|_| !plan.is_joined(LinuxNamespaceType::Pid));
    let begin = || {
        channel.close_in_child();
        lock.inspect(|lock| lock.close_in_child());
        (service.cgroup.doors(&whole), job.variables_for_hooks())
    };
    let mut children = Children::default();
    let pid = if plan.needs_stage() {
        let make = |stages: &Channel<StageRequest>, _| {
            let (doors, variables) = begin();
            if let Err(failure) = child::hide(stages.as_fd(), job.oom_score_adj()) {
                return stage::told(Err(failure), stages);
            }
            stage::before_init(job.spec, &plan, cradle.as_ref(), stages, |in_cgroup| {
                let entered = doors.enter(cradle.as_ref().filter(|_| in_cgroup));
                cradle.as_ref().inspect(|cradle| cradle.close_in_child());
                job.run(Birth { plan: &plan, entered, variables, hidden: Ok(()) }, &theirs, gate);
            })
        };
        made_by_stage(Kind::Init, CloneOptions::default(), make, &mut children, service)?
    } else {
        let cgroup = cradle.as_ref().map(AsFd::as_fd);
        let options = CloneOptions { namespaces: plan.at_birth(), cgroup, ..CloneOptions::default() };
        let pid = clone_process(options, |in_cgroup| {
            let (doors, variables) = begin();
            let hidden = child::hide(theirs.as_fd(), job.oom_score_adj());
            tracing::debug!("nsexec container setup");
            let entered = doors.enter(cradle.as_ref().filter(|_| in_cgroup));
            cradle.as_ref().inspect(|cradle| cradle.close_in_child());
            job.run(Birth { plan: &plan, entered, variables, hidden }, &theirs, gate);
            1
        });
        let pid = pid.map_err(|error| RuntimeError::Start(plan.not_born(&error)))?;
        children.0.push(pid);
        pid
    };
    drop(theirs);
    Held::new(pid, Kind::Init, channel, children, service)?.launch(settle)
}

/// Makes a process in the namespaces of the process `init` behind `target` and in the cgroup that `sub` names, and serves
/// it until it executes its program.
///
/// # Errors
/// As [`launch_init`].
pub fn launch_tenant(
    job: &TenantJob<'_>,
    (target, init): (&OwnedFd, Pid),
    sub: &SubCgroups,
    service: &Service<'_>,
    settle: &mut dyn Settle,
) -> Result<Launched> {
    let flags = Plan::of(service.spec).map_err(RuntimeError::start)?.flags_towards(init.as_raw());
    let (channel, theirs) = Channel::pair().map_err(RuntimeError::call("socketpair"))?;
    let cradle = service.cgroup.cradle(sub);
    let make = |stages: &Channel<StageRequest>, in_cgroup: bool| {
        channel.close_in_child();
        let entered = service.cgroup.doors(sub).enter(cradle.as_ref().filter(|_| in_cgroup));
        cradle.as_ref().inspect(|cradle| cradle.close_in_child());
        if let Err(failure) = child::hide(stages.as_fd(), job.oom_score_adj()) {
            return stage::told(Err(failure), stages);
        }
        stage::before_tenant(target, flags, stages, || job.run(entered, &theirs))
    };
    // What a stage does to its memory (it has no environment any more, and is undumpable) is no harm to the rest of an exec.
    // An ordinary user's needs the environment, and a time namespace takes only who shares memory with nobody (setns(2)).
    let shares_memory = geteuid().is_root() && !flags.intersects(ALONE);
    let options =
        CloneOptions { cgroup: cradle.as_ref().map(AsFd::as_fd), shares_memory, ..CloneOptions::default() };
    let mut children = Children::default();
    let pid = made_by_stage(Kind::Tenant, options, make, &mut children, service);
    if shares_memory {
        log::back_in_parent();
        let _ = set_dumpable(true);
    }
    let pid = pid?;
    drop(theirs);
    Held::new(pid, Kind::Tenant, channel, children, service)?.launch(settle)
}

/// Namespaces that are entered by a stage with memory of its own.
const ALONE: CloneFlags = CloneFlags::CLONE_NEWUSER.union(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME));

/// Has a stage make the process, which is then one of `children`: runs `make` in it, with whether it was born in the cgroup
/// of `options`, serves it, and waits for its end.
fn made_by_stage(
    kind: Kind,
    options: CloneOptions<'_>,
    make: impl FnOnce(&Channel<StageRequest>, bool) -> i32,
    children: &mut Children,
    service: &Service<'_>,
) -> Result<Pid> {
    let (channel, stages) = Channel::pair().map_err(RuntimeError::call("socketpair"))?;
    let stage = clone_process(options, |in_cgroup| {
        channel.close_in_child();
        make(&stages, in_cgroup)
    })
    .map_err(RuntimeError::call("clone"))?;
    children.0.push(stage);
    drop(stages);
    loop {
        let help = match channel.next().map_err(RuntimeError::call("read from the stage"))? {
            Some(StageRequest::Child(pid)) => {
                children.0.push(pid);
                children.reap(stage);
                return Ok(pid);
            }
            Some(StageRequest::MapIds) => done(idmap::write_id_maps(service.spec, stage)),
            Some(StageRequest::TimeOffsets) => done(idmap::write_time_offsets(service.spec, stage)),
            Some(StageRequest::Failed(words)) => return Err(kind.failed(words)),
            None => return Err(died(children.reap(stage), service.cgroup)),
        };
        answer(&channel, &help)?;
    }
}
