//! How much memory this process may lock: what the `mlock` strategy needs.

use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, getrlimit};

/// Every uid of the host, in /proc/self/uid_map: this is no user namespace of its own.
const WHOLE_HOST: [&str; 3] = ["0", "0", "4294967295"];

/// Bytes that may be locked; no bound with CAP_IPC_LOCK, which counts on the host only (capable(), mm/mlock.c).
pub fn lockable_bytes() -> u64 {
    let capable = caps::has_cap(None, CapSet::Effective, Capability::CAP_IPC_LOCK).unwrap_or(false);
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if capable && map.split_whitespace().eq(WHOLE_HOST) {
        return u64::MAX;
    }
    getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(_, hard)| hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_capability_the_hard_limit_counts() {
        crate::sys::testing::succeeds_in_child(|| {
            caps::drop(None, CapSet::Effective, Capability::CAP_IPC_LOCK).unwrap();
            let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
            assert_eq!(lockable_bytes(), hard);
        });
    }
}
