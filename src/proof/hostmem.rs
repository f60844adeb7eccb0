//! What the host has left, and the settings of it that a proof must know.

use std::path::{Path, PathBuf};

use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use super::error::ProofError;

/// The host as it was before the proof.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub kernel: String,
    pub mem_total_bytes: u64,
    pub mem_available_bytes: u64,
    pub swap_free_bytes: u64,
    pub page_size: u64,
    /// CPUs online: each may hold a batch of charges that nobody uses yet.
    pub cpus: u64,
    /// vm.panic_on_oom: at 2 an OOM kill by a cgroup's limit panics the host too (mm/oom_kill.c).
    pub panic_on_oom: u64,
}

impl Host {
    /// Reads the host's state.
    pub fn read() -> Result<Self, ProofError> {
        let path = Path::new("/proc/meminfo");
        let meminfo = read(path)?;
        let field = |field| {
            kib_field(&meminfo, field).ok_or_else(|| ProofError::Field { path: path.to_owned(), field })
        };
        let setting = |var| sysconf(var).ok().flatten().and_then(|n| u64::try_from(n).ok());
        Ok(Self {
            kernel: read(Path::new("/proc/sys/kernel/osrelease"))?.trim_end().to_owned(),
            mem_total_bytes: field("MemTotal")?,
            mem_available_bytes: field("MemAvailable")?,
            swap_free_bytes: field("SwapFree")?,
            page_size: setting(SysconfVar::PAGE_SIZE).unwrap_or(4096),
            cpus: setting(SysconfVar::_NPROCESSORS_ONLN).unwrap_or(1).max(1),
            panic_on_oom: read(Path::new("/proc/sys/vm/panic_on_oom"))?.trim_end().parse().unwrap_or(0),
        })
    }

    /// What no proof may touch: 256 MiB or 5 % of the host, whichever is more.
    pub fn reserve_bytes(&self) -> u64 {
        (256 << 20).max(self.mem_total_bytes / 20)
    }

    /// How far usage may be off from what was written: 64 pages a CPU (MEMCG_CHARGE_BATCH, mm/memcontrol.c).
    pub fn charge_noise_bytes(&self) -> u64 {
        64 * self.page_size * self.cpus
    }
}

fn read(path: &Path) -> Result<String, ProofError> {
    std::fs::read_to_string(path).map_err(|source| ProofError::Read { path: PathBuf::from(path), source })
}

/// A `Name:   123 kB` field of /proc/meminfo or /proc/PID/status, in bytes.
pub fn kib_field(text: &str, field: &str) -> Option<u64> {
    let kib: u64 = self::field(text, field)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The first word of a `Name:\tvalue` field of such a file.
pub fn field<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_matched_whole() {
        let text = "MemTotal:  24684000 kB\nSwapFree:        0 kB\nVmRSS:\t  12 kB\n";
        assert_eq!(kib_field(text, "MemTotal"), Some(24_684_000 * 1024));
        assert_eq!(kib_field(text, "SwapFree"), Some(0));
        assert_eq!(kib_field(text, "VmRSS"), Some(12_288));
        assert_eq!(kib_field(text, "Mem"), None);
    }

    #[test]
    fn this_host_can_be_read() {
        let host = Host::read().unwrap();
        assert!(host.mem_total_bytes >= host.mem_available_bytes && host.cpus > 0 && host.page_size >= 4096);
    }
}
