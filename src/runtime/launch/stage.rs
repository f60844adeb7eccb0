//! The process between the parent and the container's process: enters the namespaces that only children are in, or
//! that take the parent's help, makes the process as a child of the parent, and ends. It is in no pid namespace of a
//! container itself, so that nobody there sees it; what it makes is born with nothing of the host open.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use super::channel::{Channel, StageRequest};
use super::idmap::read_id_map;
use super::namespaces::Plan;
use super::{Failure, call, granted};
use crate::runtime::cgroups::Cradle;
use crate::runtime::process::reason::Reason;
use crate::sys::clone::{CloneOptions, clone_process, set_dumpable, setns};
use crate::sys::process::close_number;

/// The stage before a container's init. Runs `init` in the new process, which is told whether it was born in `cradle`;
/// returns the stage's exit code.
pub fn before_init(
    spec: &Spec,
    plan: &Plan,
    cradle: Option<&Cradle>,
    channel: &Channel<StageRequest>,
    init: impl FnOnce(bool),
) -> i32 {
    let done = enter_for_init(spec, plan, channel).and_then(|()| {
        let options = CloneOptions {
            namespaces: plan.at_birth(),
            sibling: true,
            cgroup: cradle.map(AsFd::as_fd),
            ..CloneOptions::default()
        };
        spawn(options, channel, init, |error| plan.not_born(error))
    });
    told(done, channel)
}

/// The stage of an exec: enters the namespaces `flags` of the process behind `target`, which it closes. Runs `tenant` in
/// the new process; returns the stage's exit code.
pub fn before_tenant(
    target: &OwnedFd,
    flags: CloneFlags,
    channel: &Channel<StageRequest>,
    tenant: impl FnOnce(),
) -> i32 {
    let done = enter_for_tenant(target, flags).and_then(|()| {
        let options = CloneOptions { sibling: true, ..CloneOptions::default() };
        spawn(
            options,
            channel,
            |_| tenant(),
            |error| format!("unable to clone the container's process: {}", Reason::of(error)),
        )
    });
    told(done, channel)
}

/// The exit code of a stage, whose failure the parent is told.
pub fn told(done: Result<(), Failure>, channel: &Channel<StageRequest>) -> i32 {
    match done {
        Ok(()) => 0,
        Err(failure) => {
            let _ = channel.tell(&StageRequest::Failed(super::words(&failure)));
            1
        }
    }
}

fn spawn(
    options: CloneOptions<'_>,
    channel: &Channel<StageRequest>,
    child: impl FnOnce(bool),
    refused: impl FnOnce(&std::io::Error) -> String,
) -> Result<(), Failure> {
    let pid = clone_process(options, |in_cgroup| {
        channel.close_in_child();
        child(in_cgroup);
        1
    })
    .map_err(|error| refused(&error))?;
    Ok(channel.tell(&StageRequest::Child(pid))?)
}

fn enter_for_init(spec: &Spec, plan: &Plan, channel: &Channel<StageRequest>) -> Result<(), Failure> {
    tracing::debug!("nsexec container setup");
    let unprivileged = !geteuid().is_root();
    join(spec, plan)?;
    if plan.is_new(LinuxNamespaceType::User) {
        enter(plan, LinuxNamespaceType::User)?;
        ask_for_files(channel, &StageRequest::MapIds, unprivileged)?;
        become_root()?;
    }
    if plan.is_new(LinuxNamespaceType::Time) {
        enter(plan, LinuxNamespaceType::Time)?;
        ask_for_files(channel, &StageRequest::TimeOffsets, unprivileged)?;
    }
    Ok(())
}

/// Has the parent write to this process's files in /proc. Of an undumpable process they belong to root, which an ordinary
/// user's parent is not.
fn ask_for_files(
    channel: &Channel<StageRequest>,
    request: &StageRequest,
    unprivileged: bool,
) -> Result<(), Failure> {
    if unprivileged {
        set_dumpable(true)?;
    }
    let answer = channel.ask(request);
    set_dumpable(false)?;
    granted(answer?)
}

/// Joins by path. The user namespace comes late, because it takes away what joining others needs; those that belong to
/// it are tried again then.
fn join(spec: &Spec, plan: &Plan) -> Result<(), Failure> {
    let mut later = Vec::new();
    for namespace in plan.joined() {
        if namespace.typ() == LinuxNamespaceType::User {
            plan.enter(namespace)?;
            verify_maps(spec)?;
            become_root()?;
            continue;
        }
        match plan.enter(namespace) {
            Err(error) if error.errno == Errno::EPERM && plan.is_joined(LinuxNamespaceType::User) => {
                later.push(namespace);
            }
            entered => entered?,
        }
    }
    for namespace in later {
        plan.enter(namespace)?;
    }
    Ok(())
}

/// Maps beside a namespace to join must be those that it has.
fn verify_maps(spec: &Spec) -> Result<(), Failure> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let numbers = |maps: &[LinuxIdMapping]| -> Vec<[u32; 3]> {
        maps.iter().map(|map| [map.container_id(), map.host_id(), map.size()]).collect()
    };
    for (file, maps) in [("uid_map", linux.uid_mappings()), ("gid_map", linux.gid_mappings())] {
        let asked = numbers(maps.as_deref().unwrap_or_default());
        if !asked.is_empty() && read_id_map(file)? != asked {
            return Err(
                "user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one"
                    .into(),
            );
        }
    }
    Ok(())
}

fn enter_for_tenant(target: &OwnedFd, flags: CloneFlags) -> Result<(), Failure> {
    tracing::debug!("nsexec container setup");
    if !flags.is_empty() {
        setns(target, flags.bits()).map_err(|error| refused(&error))?;
    }
    let _ = close_number(target.as_raw_fd());
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        become_root()?;
    }
    Ok(())
}

/// What is said where a container's namespaces cannot be entered.
fn refused(error: &std::io::Error) -> String {
    format!("failed to setns into the container's namespaces: {}", Reason::of(error))
}

fn enter(plan: &Plan, kind: LinuxNamespaceType) -> Result<(), Failure> {
    match plan.find(kind) {
        Some(namespace) => Ok(plan.enter(namespace)?),
        None => Ok(()),
    }
}

/// Becomes the user namespace's root, which one that was joined may not have.
fn become_root() -> Result<(), Failure> {
    match setgroups(&[]) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(call("setgroups")(errno)),
    }
    let (gid, uid) = (Gid::from_raw(0), Uid::from_raw(0));
    setresgid(gid, gid, gid).map_err(|errno| match errno {
        Errno::EINVAL => "the user namespace has no mapping for gid 0".into(),
        errno => call("failed to become root group in user namespace")(errno),
    })?;
    setresuid(uid, uid, uid).map_err(|errno| match errno {
        Errno::EINVAL => "the user namespace has no mapping for uid 0".into(),
        errno => call("failed to become root in user namespace")(errno),
    })
}
