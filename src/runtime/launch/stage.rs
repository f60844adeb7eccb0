//! The process between the parent and the container's process: enters the namespaces that only children are in, or
//! that take the parent's help, makes the process as a child of the parent, and ends.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use super::channel::{Answer, Channel, Request};
use super::idmap::read_id_map;
use super::namespaces::Plan;
use super::{Failure, call};
use crate::runtime::cgroups::{Cradle, Entered};
use crate::runtime::process::reason::Reason;
use crate::sys::clone::{CloneOptions, clone_process, set_dumpable, setns};

/// The stage before a container's init. Runs `init` in the new process, which is told whether it was born in `cradle`;
/// returns the stage's exit code.
pub fn before_init(
    spec: &Spec,
    plan: &Plan,
    cradle: Option<&Cradle>,
    channel: &Channel,
    init: impl FnOnce(bool),
) -> i32 {
    let done = enter_for_init(spec, plan, channel).and_then(|()| {
        let options =
            CloneOptions { namespaces: plan.at_birth(), sibling: true, cgroup: cradle.map(AsFd::as_fd) };
        spawn(options, channel, init, |error| plan.not_born(error))
    });
    told(done, channel)
}

/// The stage of an exec, which is in these hierarchies of the cgroup already: enters the namespaces `flags` of the process
/// behind `target`. `tenant` runs in the new process once its limits are set.
pub fn before_tenant(
    target: &OwnedFd,
    flags: CloneFlags,
    entered: Entered,
    channel: &Channel,
    tenant: impl FnOnce(),
) -> i32 {
    let done = enter_for_tenant(target, flags, entered, channel).and_then(|()| {
        let tenant = |_| match channel.wait_for_answer() {
            Ok(_) => tenant(),
            Err(error) => drop(told(Err(error.into()), channel)),
        };
        spawn(CloneOptions { sibling: true, ..CloneOptions::default() }, channel, tenant, |error| {
            format!("unable to clone the container's process: {}", Reason::of(error))
        })
    });
    told(done, channel)
}

/// An exec without a stage: this process is in the pid namespace since its birth, and enters the other ones.
pub fn as_tenant(
    target: &OwnedFd,
    flags: CloneFlags,
    entered: Entered,
    channel: &Channel,
    tenant: impl FnOnce(),
) -> i32 {
    match enter_for_tenant(target, flags, entered, channel) {
        Ok(()) => tenant(),
        failed => drop(told(failed, channel)),
    }
    1
}

fn told(done: Result<(), Failure>, channel: &Channel) -> i32 {
    match done {
        Ok(()) => 0,
        Err(failure) => {
            let _ = channel.tell(&Request::Failed(super::words(&failure)));
            1
        }
    }
}

fn spawn(
    options: CloneOptions<'_>,
    channel: &Channel,
    child: impl FnOnce(bool),
    refused: impl FnOnce(&std::io::Error) -> String,
) -> Result<(), Failure> {
    let pid = clone_process(options, |in_cgroup| {
        child(in_cgroup);
        1
    })
    .map_err(|error| refused(&error))?;
    Ok(channel.tell(&Request::Child(pid))?)
}

fn enter_for_init(spec: &Spec, plan: &Plan, channel: &Channel) -> Result<(), Failure> {
    tracing::debug!("nsexec container setup");
    // Another process of a joined pid or user namespace must not look into this one.
    set_dumpable(false)?;
    join(spec, plan)?;
    if plan.is_new(LinuxNamespaceType::User) {
        enter(plan, LinuxNamespaceType::User)?;
        // The parent writes to files of /proc that otherwise belong to the host's root, which it may not be.
        set_dumpable(true)?;
        done(channel.ask(&Request::MapIds)?)?;
        become_root()?;
    }
    if plan.is_new(LinuxNamespaceType::Time) {
        enter(plan, LinuxNamespaceType::Time)?;
        set_dumpable(true)?;
        done(channel.ask(&Request::TimeOffsets)?)?;
    }
    // Changing the user made it undumpable; inside a new user namespace only the container itself can look, and init
    // needs its own files in /proc.
    set_dumpable(plan.is_new(LinuxNamespaceType::User))?;
    Ok(())
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

fn enter_for_tenant(
    target: &OwnedFd,
    flags: CloneFlags,
    entered: Entered,
    channel: &Channel,
) -> Result<(), Failure> {
    tracing::debug!("nsexec container setup");
    done(channel.ask(&Request::Entered(entered))?)?;
    set_dumpable(false)?;
    if !flags.is_empty() {
        setns(target, flags.bits()).map_err(|error| refused(&error))?;
    }
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        become_root()?;
    }
    Ok(())
}

/// What is said where a container's namespaces cannot be entered.
pub fn refused(error: &std::io::Error) -> String {
    format!("failed to setns into the container's namespaces: {}", Reason::of(error))
}

fn enter(plan: &Plan, kind: LinuxNamespaceType) -> Result<(), Failure> {
    match plan.find(kind) {
        Some(namespace) => Ok(plan.enter(namespace)?),
        None => Ok(()),
    }
}

/// Becomes the user namespace's root.
fn become_root() -> Result<(), Failure> {
    match setgroups(&[]) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(call("setgroups")(errno)),
    }
    let (gid, uid) = (Gid::from_raw(0), Uid::from_raw(0));
    setresgid(gid, gid, gid).map_err(call("failed to become root group in user namespace"))?;
    setresuid(uid, uid, uid).map_err(call("failed to become root in user namespace"))
}

fn done(answer: Answer) -> Result<(), Failure> {
    match answer {
        Answer::Refused(text) => Err(text.into()),
        _ => Ok(()),
    }
}
