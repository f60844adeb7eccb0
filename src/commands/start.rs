//! `start`: lets a created container's init execute its program.

use crate::cli::{ContainerArgs, Global};
use crate::exit::ExitStatus;
use crate::runtime::{Store, start};

/// Starts the container.
#[inline(never)]
pub fn run(global: &Global, args: &ContainerArgs) -> anyhow::Result<ExitStatus> {
    start::start(&Store::open(global)?, &args.container_id)?;
    Ok(ExitStatus::SUCCESS)
}
