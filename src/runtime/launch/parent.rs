//! The parent's side: makes the child, serves what it asks, and sees it through to its program. Whatever goes wrong,
//! no child is left.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};
use oci_spec::runtime::{Hook, Spec};

use super::channel::{Answer, Channel, Request};
use super::init::InitJob;
use super::namespaces::Plan;
use super::tenant::TenantJob;
use super::{idmap, stage};
use crate::runtime::cgroups::{Cgroup, Entered, SubCgroups};
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::gate::Gate;
use crate::runtime::hooks::{HookRun, run_all};
use crate::runtime::network;
use crate::runtime::oci_state::OciState;
use crate::runtime::rootfs::open_source;
use crate::runtime::seccomp::{Filter, send_listener};
use crate::runtime::store::Lock;
use crate::sys::clone::{CloneOptions, clone_process, pidfd_getfd, set_dumpable, set_process_name, setns};
use crate::sys::process::pidfd_open;

/// What the child is called until it executes its program.
pub const INIT_NAME: &CStr = c"rt:[2:INIT]";

/// What the parent needs for what a child may ask.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    pub spec: &'a Spec,
    pub bundle: &'a Path,
    pub state: &'a OciState,
    pub filter: Option<&'a Filter>,
    pub cgroup: &'a Cgroup,
}

/// A child of ours that is the container's process now.
#[derive(Debug)]
pub struct Launched {
    pub pid: Pid,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

/// Kills and reaps the children unless they are let go.
#[derive(Default)]
struct Children(Vec<Pid>);

impl Children {
    fn let_go(&mut self) {
        self.0.clear();
    }

    fn reap(&mut self, pid: Pid) -> Option<WaitStatus> {
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

/// What the caller does for the process. A failure kills it.
pub trait Settle {
    /// As soon as it is there.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn record(&mut self, _process: Pid) -> Result<()> {
        Ok(())
    }

    /// Puts init, or the stage of an exec, into the rest of the cgroup, beside what it has entered by itself.
    ///
    /// # Errors
    /// The cgroup does not take it.
    fn enter(&mut self, pid: Pid, entered: Entered) -> Result<()>;

    /// Sets the limits that are a process's own, before it does anything.
    ///
    /// # Errors
    /// One cannot be set.
    fn limit(&mut self, process: Pid) -> Result<()>;
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
    let staged = plan.needs_stage();
    let whole = SubCgroups::default();
    let cradle = service.cgroup.cradle(&whole);
    let options = CloneOptions {
        namespaces: if staged { CloneFlags::empty() } else { plan.at_birth() },
        sibling: false,
        cgroup: cradle.as_ref().filter(|_| !staged).map(AsFd::as_fd),
    };
    let child = clone_process(options, |in_cgroup| {
        enter_child(&channel, lock);
        let doors = service.cgroup.doors(&whole);
        let run = |in_cgroup: bool| {
            let entered = doors.enter(cradle.as_ref().filter(|_| in_cgroup));
            cradle.as_ref().inspect(|cradle| cradle.close_in_child());
            job.run(&plan, &theirs, entered, gate);
        };
        if staged {
            return stage::before_init(job.spec, &plan, cradle.as_ref(), &theirs, run);
        }
        tracing::debug!("nsexec container setup");
        let _ = set_dumpable(false);
        run(in_cgroup);
        1
    })
    .map_err(|error| RuntimeError::Start(plan.not_born(&error)))?;
    drop(theirs);
    let mut run = Run { channel, service, children: Children(vec![child]), kind: Kind::Init };
    let launched = run.serve(if staged { None } else { Some(child) }, child, settle)?;
    run.children.let_go();
    Ok(launched)
}

/// Makes a process in the namespaces of the process `init` behind `target` and in the cgroup that `sub` names, and serves
/// it until it executes its program. The caller's later children are in the container's pid namespace too.
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
    let plan = Plan::of(service.spec).map_err(RuntimeError::start)?;
    let flags: CloneFlags = plan.flags_towards(init.as_raw());
    let (channel, theirs) = Channel::pair().map_err(RuntimeError::call("socketpair"))?;
    let cradle = service.cgroup.cradle(sub);
    let options = CloneOptions { cgroup: cradle.as_ref().map(AsFd::as_fd), ..CloneOptions::default() };
    // A user namespace takes the right to enter others with it, so it needs a process of its own. Without one the
    // process is made at once; the container must not look into it, not even before it says so itself.
    let staged = flags.contains(CloneFlags::CLONE_NEWUSER) || !geteuid().is_root();
    if !staged {
        let _ = set_dumpable(false);
        if flags.contains(CloneFlags::CLONE_NEWPID) {
            setns(target, libc::CLONE_NEWPID).map_err(|error| RuntimeError::Start(stage::refused(&error)))?;
        }
    }
    let child = clone_process(options, |in_cgroup| {
        enter_child(&channel, None);
        let entered = service.cgroup.doors(sub).enter(cradle.as_ref().filter(|_| in_cgroup));
        cradle.as_ref().inspect(|cradle| cradle.close_in_child());
        let run = || job.run(&theirs);
        if staged {
            return stage::before_tenant(target, flags, entered, &theirs, run);
        }
        stage::as_tenant(target, flags - CloneFlags::CLONE_NEWPID, entered, &theirs, run)
    })
    .map_err(RuntimeError::call("clone"));
    if !staged {
        let _ = set_dumpable(true);
    }
    let child = child?;
    drop(theirs);
    let mut run = Run { channel, service, children: Children(vec![child]), kind: Kind::Tenant };
    let launched = run.serve(if staged { None } else { Some(child) }, child, settle)?;
    run.children.let_go();
    Ok(launched)
}

/// The first thing a child does: gives up what is the parent's alone.
fn enter_child(parents_end: &Channel, lock: Option<&Lock>) {
    parents_end.close_in_child();
    if let Some(lock) = lock {
        lock.close_in_child();
    }
    // The sealed binary has no name of its own.
    set_process_name(INIT_NAME);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Tenant,
}

struct Run<'a> {
    channel: Channel,
    service: &'a Service<'a>,
    children: Children,
    kind: Kind,
}

impl Run<'_> {
    /// `process`: the process itself where it is known already; `first`: the child that was made.
    fn serve(&mut self, process: Option<Pid>, first: Pid, settle: &mut dyn Settle) -> Result<Launched> {
        let mut launched = process.map(|pid| recorded(pid, settle)).transpose()?;
        loop {
            let request =
                self.channel.next().map_err(RuntimeError::call("read from the container's process"))?;
            match (request, &launched) {
                (Some(Request::Child(pid)), None) => {
                    self.children.0.push(pid);
                    self.children.reap(first);
                    launched = Some(recorded(pid, settle)?);
                    // An exec's process is in the cgroup of its stage, and waits; an init says so itself.
                    if self.kind == Kind::Tenant {
                        settle.limit(pid)?;
                        self.answer(&Answer::Done)?;
                    }
                }
                (Some(Request::Entered(entered)), process) => {
                    settle.enter(process.as_ref().map_or(first, |found| found.pid), entered)?;
                    if let Some(process) = process {
                        settle.limit(process.pid)?;
                    }
                    self.answer(&Answer::Done)?;
                }
                (Some(Request::Failed(words)), _) => return Err(self.failed(words)),
                (Some(Request::Ready), Some(_)) => break,
                (None, Some(_)) if self.kind == Kind::Tenant => break,
                (None, process) => return Err(self.died(process.as_ref().map_or(first, |found| found.pid))),
                (Some(request), process) => self.help(&request, process.as_ref(), first)?,
            }
        }
        launched.ok_or_else(|| RuntimeError::start("no process was made"))
    }

    /// Does what the child asks for. Where that fails it is the child's failure too.
    fn help(&self, request: &Request, process: Option<&Launched>, stage: Pid) -> Result<()> {
        let pid = process.map_or(stage, |found| found.pid);
        let answer = match request {
            Request::MapIds => done(idmap::write_id_maps(self.service.spec, pid)),
            Request::TimeOffsets => done(idmap::write_time_offsets(self.service.spec, pid)),
            Request::NamespacesReady => done(self.namespaces_ready(pid)),
            Request::MountSource(index) => match open_source(self.service.spec, *index, pid) {
                Ok(descriptor) => Answer::Descriptor(descriptor),
                Err(error) => Answer::Refused(error.to_string()),
            },
            Request::Listener(number) => done(self.pass_listener(process, *number)),
            _ => return Err(RuntimeError::start("unexpected message from the container's process")),
        };
        self.answer(&answer)
    }

    fn answer(&self, answer: &Answer) -> Result<()> {
        match self.channel.answer(answer) {
            // It is gone: the next read says so, perhaps after its last words.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => Ok(()),
            sent => sent.map_err(RuntimeError::call("write to the container's process")),
        }
    }

    fn namespaces_ready(&self, pid: Pid) -> Result<()> {
        let spec = self.service.spec;
        if let Some(devices) = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref()) {
            network::move_devices(devices, pid.as_raw()).map_err(RuntimeError::start)?;
        }
        let Some(hooks) = spec.hooks() else { return Ok(()) };
        let state = self.service.state.with_pid(pid);
        let run = |name: &'static str, list: &Option<Vec<Hook>>| {
            let run = HookRun { name, cwd: Some(self.service.bundle), default_env: None };
            run_all(list.as_deref().unwrap_or_default(), &state, &run)
        };
        run("prestart", hooks.prestart())?;
        run("createRuntime", hooks.create_runtime())?;
        Ok(())
    }

    fn pass_listener(&self, process: Option<&Launched>, number: i32) -> Result<()> {
        let listener = self.service.filter.and_then(|filter| filter.listener.as_ref());
        let (Some(process), Some(listener)) = (process, listener) else {
            return Err(RuntimeError::start("seccomp listenerPath is not set"));
        };
        let descriptor = pidfd_getfd(&process.pidfd, number).map_err(RuntimeError::call("pidfd_getfd"))?;
        let state = match self.kind {
            Kind::Init => self.service.state.with_pid(process.pid),
            Kind::Tenant => serde_json::to_vec(self.service.state).unwrap_or_default(),
        };
        send_listener(listener, process.pid.as_raw(), &state, descriptor).map_err(RuntimeError::start)
    }

    fn failed(&self, mut words: String) -> RuntimeError {
        // The kernel refuses memory rather than kill where no process is to blame.
        if words.ends_with("cannot allocate memory") {
            words.push_str(" (memory limit too low?)");
        }
        match self.kind {
            Kind::Init => RuntimeError::Start(format!("error during container init: {words}")),
            Kind::Tenant => RuntimeError::Start(words),
        }
    }

    /// It ended without a word.
    fn died(&mut self, pid: Pid) -> RuntimeError {
        let status = self.children.reap(pid);
        if was_oom_killed(self.service.cgroup, status) {
            return RuntimeError::start(OOM_KILLED);
        }
        RuntimeError::Start(match status {
            Some(WaitStatus::Exited(_, code)) => format!("container init exited with status {code}"),
            Some(WaitStatus::Signaled(_, signal, _)) => format!("container init was killed by {signal}"),
            _ => "container init is gone".to_owned(),
        })
    }
}

fn recorded(pid: Pid, settle: &mut dyn Settle) -> Result<Launched> {
    let pidfd = pidfd_open(pid.as_raw()).map_err(RuntimeError::call("pidfd_open"))?;
    settle.record(pid)?;
    Ok(Launched { pid, pidfd })
}

/// What is said of an init that its own memory limit did not let live.
pub const OOM_KILLED: &str = "container init was OOM-killed (memory limit too low?)";

fn was_oom_killed(cgroup: &Cgroup, status: Option<WaitStatus>) -> bool {
    matches!(status, Some(WaitStatus::Signaled(_, Signal::SIGKILL, _)))
        && cgroup.oom_kills().is_ok_and(|kills| kills > 0)
}

fn done(result: Result<()>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        // The child's failure is wrapped again where it arrives.
        Err(RuntimeError::Start(text)) => Answer::Refused(text),
        Err(error) => Answer::Refused(error.to_string()),
    }
}
