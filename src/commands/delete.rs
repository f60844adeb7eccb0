//! `delete`: removes what is left of a container.

use crate::cli::{DeleteArgs, Global};
use crate::exit::ExitStatus;
use crate::receipt::End;
use crate::runtime::{Container, Store, delete};

/// Deletes the container.
#[inline(never)]
pub fn run(global: &Global, args: &DeleteArgs) -> anyhow::Result<ExitStatus> {
    delete::delete(&Store::open(global)?, &args.container_id, args.force)?;
    Ok(ExitStatus::SUCCESS)
}

/// Deletes a container whose process has just ended, or with `keep` notes how it did; somebody else may have deleted
/// it already.
pub(super) fn after_end(store: &Store, container: &Container, end: End, keep: bool) {
    let done = if keep {
        delete::note_end(store, container, end)
    } else {
        delete::delete_ended(store, container, end)
    };
    if let Err(error) = done
        && !error.is_absence()
    {
        tracing::warn!("{error}");
    }
}
