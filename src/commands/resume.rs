//! `resume`: lets a paused container run again.

use anyhow::ensure;

use crate::cli::{ContainerArgs, Global};
use crate::exit::ExitStatus;
use crate::runtime::{Status, Store};

/// Thaws a paused container.
#[inline(never)]
pub fn run(global: &Global, args: &ContainerArgs) -> anyhow::Result<ExitStatus> {
    let container = Store::open(global)?.load_locked(&args.container_id)?;
    ensure!(container.status()? == Status::Paused, "container not paused");
    container.cgroup().thaw()?;
    Ok(ExitStatus::SUCCESS)
}
