//! The parent's conversation with the container's process: it is admitted once the kernel says that it is where its limits
//! are, then served until it waits to be started (init) or executes its program (exec).

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Spec};

use super::channel::{Answer, Channel, Request, Words};
use super::parent::Children;
use crate::runtime::cgroups::{Cgroup, Entered, Place};
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::hooks::{HookRun, run_all};
use crate::runtime::network;
use crate::runtime::oci_state::OciState;
use crate::runtime::rootfs::open_source;
use crate::runtime::seccomp::{Filter, send_listener};
use crate::sys::clone::pidfd_getfd;
use crate::sys::process::pidfd_open;

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

/// What the caller does for the process. A failure kills it.
pub trait Settle {
    /// As soon as it is there.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn record(&mut self, _process: Pid) -> Result<()> {
        Ok(())
    }

    /// Puts it into the rest of the cgroup, beside what it has entered by itself. Returns where it then has to be.
    ///
    /// # Errors
    /// The cgroup does not take it.
    fn enter(&mut self, process: Pid, entered: Entered) -> Result<Place>;

    /// Sets the limits that are a process's own, before it does anything.
    ///
    /// # Errors
    /// One cannot be set.
    fn limit(&mut self, process: Pid) -> Result<()>;
}

/// Which process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Init,
    Tenant,
}

impl Kind {
    /// The child's words as an error.
    pub fn failed(self, mut words: String) -> RuntimeError {
        // The kernel refuses memory rather than kill where no process is to blame.
        if words.ends_with("cannot allocate memory") {
            words.push_str(" (memory limit too low?)");
        }
        match self {
            Self::Init => RuntimeError::Start(format!("error during container init: {words}")),
            Self::Tenant => RuntimeError::Start(words),
        }
    }
}

/// The container's process, which waits to be admitted.
pub struct Held<'a> {
    channel: Channel<Request>,
    service: &'a Service<'a>,
    children: Children,
    kind: Kind,
    process: Launched,
}

impl<'a> Held<'a> {
    /// `pid` is one of `children`.
    pub fn new(
        pid: Pid,
        kind: Kind,
        channel: Channel<Request>,
        children: Children,
        service: &'a Service<'a>,
    ) -> Result<Self> {
        let pidfd = pidfd_open(pid.as_raw()).map_err(RuntimeError::call("pidfd_open"))?;
        Ok(Self { channel, service, children, kind, process: Launched { pid, pidfd } })
    }

    /// Sees the process through: nothing of the container's is done before the kernel says that it is in all of its
    /// cgroups, and nobody is let start an init that is not there any more.
    pub fn launch(mut self, settle: &mut dyn Settle) -> Result<Launched> {
        let place = self.admit(settle)?;
        self.serve()?;
        if self.kind == Kind::Init {
            self.verify(&place)?;
        }
        self.children.let_go();
        Ok(self.process)
    }

    fn admit(&mut self, settle: &mut dyn Settle) -> Result<Place> {
        let pid = self.process.pid;
        settle.record(pid)?;
        let entered = match self.next()? {
            Some(Request::Entered(entered)) => entered,
            Some(Request::Failed(words)) => return Err(self.kind.failed(words)),
            Some(_) => return Err(unexpected()),
            None => return Err(self.died()),
        };
        let place = settle.enter(pid, entered)?;
        settle.limit(pid)?;
        self.verify(&place)?;
        answer(&self.channel, &Answer::Done)?;
        Ok(place)
    }

    fn verify(&self, place: &Place) -> Result<()> {
        place.verify(self.process.pid).map_err(RuntimeError::start)
    }

    fn next(&mut self) -> Result<Option<Request>> {
        self.channel.next().map_err(|error| match error.kind() {
            ErrorKind::ConnectionReset => self.died(),
            _ => RuntimeError::call("read from the container's process")(error),
        })
    }

    fn serve(&mut self) -> Result<()> {
        loop {
            match (self.next()?, self.kind) {
                (Some(Request::Failed(words)), kind) => return Err(kind.failed(words)),
                (Some(Request::Ready), Kind::Init) | (None, Kind::Tenant) => return Ok(()),
                (None, Kind::Init) => return Err(self.died()),
                (Some(request), _) => self.help(&request)?,
            }
        }
    }

    /// Does what the child asks for. Where that fails it is the child's failure too.
    fn help(&self, request: &Request) -> Result<()> {
        let pid = self.process.pid;
        let help = match request {
            Request::NamespacesReady => done(self.namespaces_ready(pid)),
            Request::MountSource(index) => match open_source(self.service.spec, *index, pid) {
                Ok(descriptor) => Answer::Descriptor(descriptor),
                Err(error) => Answer::Refused(error.to_string()),
            },
            Request::Listener(number) => done(self.pass_listener(*number)),
            Request::Entered(_) | Request::Ready | Request::Failed(_) => return Err(unexpected()),
        };
        answer(&self.channel, &help)
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

    fn pass_listener(&self, number: i32) -> Result<()> {
        let listener = self.service.filter.and_then(|filter| filter.listener.as_ref());
        let Some(listener) = listener else {
            return Err(RuntimeError::start("seccomp listenerPath is not set"));
        };
        let Launched { pid, pidfd } = &self.process;
        let descriptor = pidfd_getfd(pidfd, number).map_err(RuntimeError::call("pidfd_getfd"))?;
        let state = match self.kind {
            Kind::Init => self.service.state.with_pid(*pid),
            Kind::Tenant => serde_json::to_vec(self.service.state).unwrap_or_default(),
        };
        send_listener(listener, pid.as_raw(), &state, descriptor).map_err(RuntimeError::start)
    }

    /// It ended without a word.
    fn died(&mut self) -> RuntimeError {
        died(self.children.reap(self.process.pid), self.service.cgroup)
    }
}

/// What is said of an init that its own memory limit did not let live.
pub const OOM_KILLED: &str = "container init was OOM-killed (memory limit too low?)";

/// A child that ended without a word.
pub fn died(status: Option<WaitStatus>, cgroup: &Cgroup) -> RuntimeError {
    if matches!(status, Some(WaitStatus::Signaled(_, Signal::SIGKILL, _)))
        && cgroup.oom_kills().is_ok_and(|kills| kills > 0)
    {
        return RuntimeError::start(OOM_KILLED);
    }
    RuntimeError::Start(match status {
        Some(WaitStatus::Exited(_, code)) => format!("container init exited with status {code}"),
        Some(WaitStatus::Signaled(_, signal, _)) => format!("container init was killed by {signal}"),
        _ => "container init is gone".to_owned(),
    })
}

fn unexpected() -> RuntimeError {
    RuntimeError::start("unexpected message from the container's process")
}

/// Answers a child.
pub fn answer<W: Words>(channel: &Channel<W>, answer: &Answer) -> Result<()> {
    match channel.answer(answer) {
        // It is gone: the next read says so, perhaps after its last words.
        Err(error) if error.raw_os_error() == Some(libc::EPIPE) => Ok(()),
        sent => sent.map_err(RuntimeError::call("write to the container's process")),
    }
}

/// What was done for a child, as the answer.
pub fn done(result: Result<()>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        // The child's failure is wrapped again where it arrives.
        Err(RuntimeError::Start(text)) => Answer::Refused(text),
        Err(error) => Answer::Refused(error.to_string()),
    }
}
