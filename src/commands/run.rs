//! `run`: `create` and `start` in one, and without `--detach` also the wait for the end and `delete`.

use super::making::{Made, make};
use crate::cli::{Global, RunArgs};
use crate::exit::ExitStatus;
use crate::runtime::delete::{destroy, destroy_unwatched};
use crate::runtime::start::release;

/// Runs the container; in the foreground the exit code is that of its process.
#[inline(never)]
pub fn run(global: &Global, args: &RunArgs) -> anyhow::Result<ExitStatus> {
    let Made { store, mut container, launched, foreground } =
        make(global, &args.create, args.detach, !args.no_subreaper && !args.detach)?;
    if let Err(error) = release(&container) {
        drop(foreground);
        if let Err(second) = destroy(&container) {
            tracing::warn!("{second}");
        }
        return Err(error.into());
    }
    let Some(foreground) = foreground else { return Ok(ExitStatus::SUCCESS) };
    // Other commands may change the container while it runs.
    container.unlock();
    let end = foreground.wait(&launched).inspect_err(|_| destroy_unwatched(&store, &container))?;
    super::delete::after_end(&store, &container, end, args.keep);
    Ok(end.into())
}
