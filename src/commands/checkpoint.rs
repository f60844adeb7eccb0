//! `checkpoint`: saves a running container by criu, and deletes it unless it is to run on.

use anyhow::{Context, bail};
use nix::unistd::{Pid, geteuid};

use crate::cli::{CheckpointArgs, Global};
use crate::exit::ExitStatus;
use crate::log::Hint;
use crate::runtime::criu::{CriuError, Subject, cgroup_binds, dump};
use crate::runtime::{Status, Store};

/// Saves the container into the folder of `--image-path`.
#[inline(never)]
pub fn run(global: &Global, args: &CheckpointArgs) -> anyhow::Result<ExitStatus> {
    warn_without_root();
    let mut container = Store::open(global)?.load_locked(&args.container_id)?;
    let status = container.status()?;
    if matches!(status, Status::Created | Status::Stopped) {
        bail!("Container cannot be checkpointed in {status} state");
    }
    let spec = container.spec()?;
    let binds = cgroup_binds(spec, container.cgroup());
    let subject = Subject {
        spec,
        rootfs: container.rootfs(),
        cgroup_binds: &binds,
        freezer: container.cgroup().path_of("freezer"),
    };
    with_hint(dump(args, &subject, Pid::from_raw(container.init_pid())))?;
    if !args.leave_running
        && !args.pre_dump
        && let Err(error) = container.destroy()
    {
        tracing::warn!("{error:#}");
    }
    Ok(ExitStatus::SUCCESS)
}

/// criu needs privileges for nearly everything.
pub(super) fn warn_without_root() {
    if !geteuid().is_root() {
        tracing::warn!("checkpoint and restore are untested with rootless containers");
    }
}

/// What can be done where criu itself is the trouble.
pub(super) fn with_hint<T>(result: Result<T, CriuError>) -> anyhow::Result<T> {
    let hint = match &result {
        Err(CriuError::Missing) => "install criu, 3.0 or newer",
        Err(CriuError::TooOld { .. }) => "install a newer criu",
        Err(CriuError::MissingFeature(_) | CriuError::Failed(_)) => "see what 'criu check --all' says",
        _ => return Ok(result?),
    };
    result.context(Hint(hint.to_owned()))
}
