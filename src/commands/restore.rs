//! `restore`: makes a container from a bundle and the images of a checkpoint.

use std::path::Path;

use anyhow::{Context, bail};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::checkpoint::{warn_without_root, with_hint};
use crate::cli::{Global, RestoreArgs};
use crate::exit::ExitStatus;
use crate::runtime::cgroups::Place;
use crate::runtime::criu::{ContainerEvents, Subject, cgroup_binds, restore};
use crate::runtime::foreground::Foreground;
use crate::runtime::{Container, Status, Store};

/// Restores the container; without `--detach` waits for it and returns its status.
#[inline(never)]
pub fn run(global: &Global, args: &RestoreArgs) -> anyhow::Result<ExitStatus> {
    warn_without_root();
    let bundle = args.bundle.as_deref().unwrap_or(Path::new("."));
    let bundle = bundle.canonicalize().with_context(|| format!("cannot find bundle {}", bundle.display()))?;
    let store = Store::open(global)?;
    let mut container = store.prepare(&args.container_id, &bundle)?;
    let foreground = if args.detach {
        None
    } else {
        Some(Foreground::prepare(has_terminal(container.spec()?), !args.no_subreaper)?)
    };
    let master = start(&mut container, args);
    if master.is_err()
        && let Err(second) = container.destroy()
    {
        tracing::warn!("{second:#}");
    }
    match (master?, foreground) {
        (master, Some(foreground)) => Ok(container.wait_and_delete(&store, foreground, master)?),
        (_, None) => Ok(ExitStatus::SUCCESS),
    }
}

fn start(container: &mut Container, args: &RestoreArgs) -> anyhow::Result<Option<std::os::fd::OwnedFd>> {
    let spec = container.spec()?.clone();
    let terminal = has_terminal(&spec);
    if args.detach && terminal && args.console_socket.is_none() {
        bail!("cannot allocate tty if rt will detach without setting console socket");
    }
    if args.console_socket.is_some() && !(args.detach && terminal) {
        bail!("cannot use console socket if rt will not detach or allocate tty");
    }
    let mut cgroup = container.cgroup().clone();
    cgroup.create(container.asked_resources(), container.annotations())?;
    let binds = cgroup_binds(&spec, &cgroup);
    let (bundle, rootfs) = (container.bundle().to_owned(), container.rootfs().to_owned());
    let (scratch, state) = (container.directory().to_owned(), container.oci_state(Status::Creating));
    let subject = Subject { spec: &spec, rootfs: &rootfs, cgroup_binds: &binds, freezer: None };
    let mut events = ContainerEvents {
        cgroup: &cgroup,
        place: Place::default(),
        hooks: spec.hooks().as_ref(),
        bundle: &bundle,
        state: &|init: Pid| state.with_pid(init),
        console_socket: args.console_socket.as_deref(),
        master: None,
        save: &mut |init: Pid| container.set_running(init, args.pid_file.as_deref()),
    };
    with_hint(restore(args, &subject, &scratch, &mut events))?;
    Ok(events.master)
}

fn has_terminal(spec: &Spec) -> bool {
    spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false)
}
