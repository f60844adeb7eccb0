//! `create`: makes a container whose init waits for `start`.

use super::making::make;
use crate::cli::{CreateArgs, Global};
use crate::exit::ExitStatus;

/// Makes the container and leaves it.
#[inline(never)]
pub fn run(global: &Global, args: &CreateArgs) -> anyhow::Result<ExitStatus> {
    make(global, args, true, false)?;
    Ok(ExitStatus::SUCCESS)
}
