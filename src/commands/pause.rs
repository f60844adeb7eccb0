//! `pause`: stops every process of a container.

use anyhow::bail;

use crate::cli::{ContainerArgs, Global};
use crate::exit::ExitStatus;
use crate::runtime::{Status, Store};

/// Freezes a running (or created) container.
#[inline(never)]
pub fn run(global: &Global, args: &ContainerArgs) -> anyhow::Result<ExitStatus> {
    let container = Store::open(global)?.load_locked(&args.container_id)?;
    match container.status()? {
        Status::Running | Status::Created => container.cgroup().freeze()?,
        _ => bail!("container not running"),
    }
    Ok(ExitStatus::SUCCESS)
}
