//! The child that becomes a container's init: namespaces, mounts, hooks, restrictions, in runc's order.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{getpid, sethostname, setsid};
use oci_spec::runtime::{Hook, LinuxNamespaceType, Process, Spec};

use super::channel::{Answer, Channel, Request};
use super::child::Variables;
use super::finish::{Finish, given};
use super::namespaces::{Plan, flag};
use super::{Failure, call, console, granted};
use crate::log;
use crate::runtime::cgroups::Entered;
use crate::runtime::gate::{self, Gate};
use crate::runtime::hooks::{HookRun, run_all};
use crate::runtime::network;
use crate::runtime::oci_state::OciState;
use crate::runtime::process::descriptors::Passed;
use crate::runtime::process::env::Environment;
use crate::runtime::process::program::Program;
use crate::runtime::process::{cwd, keyring, selinux, sysctl, umask};
use crate::runtime::rootfs::{Rootfs, SourceProvider, StillWritable};
use crate::runtime::seccomp::Filter;
use crate::runtime::status::Status;
use crate::runtime::store::in_user_namespace;
use crate::runtime::validate::has_namespace;
use crate::sys::clone::{end_on, set_domain_name};

/// What init is made of.
#[derive(Debug)]
pub struct InitJob<'a> {
    pub spec: &'a Spec,
    pub process: &'a Process,
    pub id: &'a str,
    /// Absolute and without symlinks.
    pub rootfs: &'a Path,
    pub filter: Option<&'a Filter>,
    pub cgroup_v1_paths: &'a [(String, PathBuf)],
    /// Its directory on the host's cgroup v2, which need not be there.
    pub cgroup2_path: Option<&'a Path>,
    pub state: &'a OciState,
    pub console: Option<&'a OwnedFd>,
    pub passed: Passed,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub rootless: bool,
}

/// What init brings along.
pub struct Birth<'a> {
    pub plan: &'a Plan,
    /// The hierarchies of its cgroup that it has entered by itself.
    pub entered: Entered,
    /// The caller's environment, where a hook wants it.
    pub variables: Option<Variables>,
    /// Whether it could be hidden from the container.
    pub hidden: Result<(), Failure>,
}

/// Mount sources come from the parent.
struct Sources<'a>(&'a Channel<Request>);

impl SourceProvider for Sources<'_> {
    fn mount_source(&mut self, mount_index: usize) -> std::io::Result<OwnedFd> {
        match self.0.ask(&Request::MountSource(mount_index))? {
            Answer::Descriptor(descriptor) => Ok(descriptor),
            Answer::Refused(text) => Err(std::io::Error::other(text)),
            Answer::Done => Err(std::io::Error::other("no descriptor came")),
        }
    }
}

impl InitJob<'_> {
    /// The bias of the OOM killer.
    pub fn oom_score_adj(&self) -> Option<i32> {
        self.process.oom_score_adj()
    }

    /// The caller's environment, if there are hooks that run in init and bring none: they inherit it, as in runc.
    pub fn variables_for_hooks(&self) -> Option<Variables> {
        let brings_none = |hook: &Hook| hook.env().is_none();
        self.inside_hooks().iter().any(brings_none).then(|| std::env::vars_os().collect())
    }

    fn inside_hooks(&self) -> &[Hook] {
        let hooks = self.spec.hooks().as_ref();
        hooks.and_then(|hooks| hooks.create_container().as_deref()).unwrap_or_default()
    }

    /// Runs in the new process until it executes the program. Returns only on failure; what fails after the container
    /// was ready is told to its starter, not to the parent.
    pub fn run(&self, birth: Birth<'_>, channel: &Channel<Request>, gate: Gate) {
        let (finish, program, environment) = match self.prepare(birth, channel) {
            Ok(prepared) => prepared,
            Err(failure) => {
                let _ = channel.tell(&Request::Failed(super::words(&failure)));
                return;
            }
        };
        tracing::debug!("init: closing the pipe to signal completion");
        if channel.tell(&Request::Ready).is_err() {
            return;
        }
        // Its end would be seen only with the exec.
        log::end_in_child();
        channel.close_in_child();
        // `kill` of a created container ends it. The program gets the default actions again.
        end_on(&[libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM]);
        let mut waiting = gate;
        let started = waiting.wait().map_err(Failure::from).and_then(|()| self.start_hooks(&environment));
        let (failure, why, report) = match started {
            Ok(()) => {
                let (failure, report) = finish.execute(&program, waiting.into_result());
                (failure, gate::Failed::Program as fn(String) -> _, report)
            }
            Err(failure) => (failure, gate::Failed::Hook as fn(String) -> _, waiting.into_result()),
        };
        gate::report(report, &why(super::words(&failure)));
    }

    fn prepare(
        &self,
        birth: Birth<'_>,
        channel: &Channel<Request>,
    ) -> Result<(Finish<'_>, Program, Environment), Failure> {
        let Birth { plan, entered, variables, hidden } = birth;
        hidden?;
        // Answered when this process is wholly in its cgroup, and its limits are set.
        granted(channel.ask(&Request::Entered(entered))?)?;
        log::to_parent(channel.as_fd());
        tracing::debug!("child process in init()");
        setsid().map_err(call("setsid"))?;
        self.join_keyring()?;
        plan.enter_all(|kind| !is_entered_before(plan, kind))?;
        if plan.is_new(LinuxNamespaceType::Network) {
            network::loopback_up()?;
        }
        let rootfs = self.rootfs(plan);
        let still_writable = self.prepare_rootfs(&rootfs, channel, variables.as_deref())?;
        if let Some(socket) = self.console {
            console::set_up(socket, self.process, true)?;
        }
        rootfs.reopen_dev_null()?;
        if plan.has(LinuxNamespaceType::Mount) {
            rootfs.finalize(still_writable)?;
            umask::apply_to_init(self.process.user().umask());
        }
        self.set_names()?;
        let finish = Finish {
            spec: self.spec,
            process: self.process,
            filter: self.filter,
            passed: self.passed,
            rootless: self.rootless,
        };
        finish.apply_apparmor()?;
        if let Some(sysctls) = self.spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()) {
            sysctl::apply(sysctls)?;
        }
        rootfs.protect_paths()?;
        finish.restrict()?;
        let (program, environment) = finish.become_user(channel, false)?;
        Ok((finish, program, environment))
    }

    fn rootfs(&self, plan: &Plan) -> Rootfs<'_> {
        Rootfs {
            spec: self.spec,
            root: self.rootfs,
            user_namespace: plan.has(LinuxNamespaceType::User) || in_user_namespace(),
            cgroup_namespace: plan.has(LinuxNamespaceType::Cgroup),
            mount_namespace: plan.has(LinuxNamespaceType::Mount),
            no_pivot: self.no_pivot,
            cgroup_v1_paths: self.cgroup_v1_paths,
            cgroup2_path: self.cgroup2_path,
        }
    }

    fn join_keyring(&self) -> Result<(), Failure> {
        if self.no_new_keyring {
            return Ok(());
        }
        let label = given(self.process.selinux_label());
        if let Some(label) = label {
            selinux::apply_key_label(label)?;
        }
        keyring::join_as_init(self.id, has_namespace(self.spec, LinuxNamespaceType::User))?;
        if label.is_some() {
            selinux::apply_key_label("")?;
        }
        Ok(())
    }

    fn prepare_rootfs(
        &self,
        rootfs: &Rootfs<'_>,
        channel: &Channel<Request>,
        variables: Option<&[(OsString, OsString)]>,
    ) -> Result<Vec<StillWritable>, Failure> {
        let still_writable = rootfs.prepare(&mut Sources(channel))?;
        let hooks = self.spec.hooks().as_ref();
        let parents =
            hooks.is_some_and(|hooks| is_given(hooks.prestart()) || is_given(hooks.create_runtime()));
        let devices = self.spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
        if parents || devices.is_some_and(|devices| !devices.is_empty()) {
            granted(channel.ask(&Request::NamespacesReady)?)?;
        }
        let inside = self.inside_hooks();
        if !inside.is_empty() {
            let state = self.state.at(Status::Creating, getpid().as_raw());
            // As in runc, whose hooks reach the root file system by relative paths.
            let cwd = Some(self.rootfs);
            run_all(inside, &state, &HookRun { name: "createContainer", cwd, default_env: variables })?;
        }
        rootfs.pivot()?;
        cwd::create(self.process.cwd())?;
        Ok(still_writable)
    }

    fn set_names(&self) -> Result<(), Failure> {
        if let Some(name) = given(self.spec.hostname()) {
            sethostname(name).map_err(call("sethostname"))?;
        }
        if let Some(name) = given(self.spec.domainname()) {
            set_domain_name(name).map_err(call("setdomainname"))?;
        }
        Ok(())
    }

    fn start_hooks(&self, environment: &Environment) -> Result<(), Failure> {
        let hooks = self.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_deref());
        let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else { return Ok(()) };
        let state = self.state.at(Status::Created, getpid().as_raw());
        let pairs = environment.pairs();
        let run = HookRun { name: "startContainer", cwd: None, default_env: Some(&pairs) };
        Ok(run_all(hooks, &state, &run)?)
    }
}

fn is_given(hooks: &Option<Vec<Hook>>) -> bool {
    hooks.as_ref().is_some_and(|hooks| !hooks.is_empty())
}

/// What the stage, or the clone that made this process, has done already.
fn is_entered_before(plan: &Plan, kind: LinuxNamespaceType) -> bool {
    match kind {
        LinuxNamespaceType::User | LinuxNamespaceType::Time => true,
        _ if plan.is_joined(kind) => plan.needs_stage(),
        _ => plan.at_birth().contains(flag(kind)),
    }
}
