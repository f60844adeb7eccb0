//! `delete`: removes what is left of a container.

use crate::cli::{DeleteArgs, Global};
use crate::exit::ExitStatus;
use crate::runtime::{RuntimeError, Store, delete};

/// Deletes the container.
pub fn run(global: &Global, args: &DeleteArgs) -> anyhow::Result<ExitStatus> {
    delete::delete(&Store::open(global)?, &args.container_id, args.force)?;
    Ok(ExitStatus::SUCCESS)
}

/// Deletes a container whose process has just ended; somebody else may have done so already.
pub(super) fn after_end(global: &Global, id: &str) -> anyhow::Result<()> {
    match delete::delete(&Store::open(global)?, id, false) {
        Ok(()) | Err(RuntimeError::NotFound) => Ok(()),
        Err(error) => {
            tracing::warn!("{error}");
            Ok(())
        }
    }
}
