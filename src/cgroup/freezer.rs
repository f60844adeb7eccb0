//! Whether a process is frozen: a worker that joins a frozen v2 cgroup would never run.

use super::error::CgroupError;
use super::locate::{self, Version};
use super::{read, v1, v2};

/// True where the cgroup of `pid` is frozen, in either version.
pub fn frozen(pid: i32) -> Result<bool, CgroupError> {
    let membership = locate::membership_of(pid)?;
    let mounts = locate::mounts()?;
    for controller in ["freezer", ""] {
        // "freezer" finds the v1 hierarchy or, without one, the unified; "" the unified alone.
        let Ok(location) = locate::locate_in(&membership, &mounts, controller) else { continue };
        let is_frozen = match location.version {
            Version::V1 => read::text_if_there(&location.dir.join(v1::FREEZER_STATE))?
                .is_some_and(|state| state.trim_end() != "THAWED"),
            // `frozen` counts frozen ancestors too.
            Version::V2 => read::text_if_there(&location.dir.join(v2::CGROUP_EVENTS))?
                .is_some_and(|events| read::keyed(&events, "frozen") == Some(1)),
        };
        if is_frozen {
            return Ok(true);
        }
    }
    Ok(false)
}
