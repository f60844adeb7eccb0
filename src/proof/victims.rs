//! Who would die: the kernel's choice (oom_badness, mm/oom_kill.c) between the worker and the container's processes.
//! Measured against it: at a 64 MiB limit inits of 50 MiB/adj 500, 50/900, 40/990 and 40/999 died in the
//! place of a worker with adj 1000; 50/0, 40/500 and 20/999 lived.

use std::path::PathBuf;

use super::hostmem::{field, kib_field};
use crate::cgroup::{CgroupError, MemoryCgroup};

/// What the kernel weighs of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub pid: i32,
    /// Its process group: a worker and its children are one.
    pub group: i32,
    /// Resident memory, swap and page tables, in bytes.
    pub bytes: u64,
    pub oom_score_adj: i64,
}

impl Candidate {
    /// Reads what the kernel would weigh; `None` where the process has gone or is going.
    pub fn read(pid: i32) -> Option<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let oom_score_adj =
            std::fs::read_to_string(proc.join("oom_score_adj")).ok()?.trim_end().parse().ok()?;
        let status = std::fs::read_to_string(proc.join("status")).ok()?;
        // One that has given back its memory on its way out is no candidate for the kernel either.
        kib_field(&status, "VmRSS")?;
        let group = group_in(&status).unwrap_or(0);
        let bytes = ["VmRSS", "VmSwap", "VmPTE"].iter().filter_map(|name| kib_field(&status, name)).sum();
        Some(Self { pid, group, bytes, oom_score_adj })
    }

    /// The kernel's points, in bytes, under a limit of `total` bytes (memory and swap); `None`: never chosen.
    fn points(&self, total: u64) -> Option<i128> {
        (self.oom_score_adj > -1000)
            .then(|| i128::from(self.bytes) + i128::from(self.oom_score_adj) * i128::from(total) / 1000)
    }
}

fn group_in(status: &str) -> Option<i32> {
    field(status, "NSpgid")?.parse().ok()
}

/// The process group of a process; `None` where it has gone.
pub fn group_of(pid: i32) -> Option<i32> {
    group_in(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// The first of `others` that the kernel could choose instead of a worker that wrote `worker_bytes` when the
/// limit was hit.
///
/// Processes with an adj of at most 0 are compared exactly: they cannot have more points than the limit. With a
/// higher adj a margin of 1 MiB and 1/64 of the limit is kept, since they may grow until then.
pub fn endangered(others: &[Candidate], worker_bytes: u64, total: u64) -> Option<Candidate> {
    let worker = Candidate { pid: 0, group: 0, bytes: worker_bytes, oom_score_adj: 1000 }.points(total)?;
    let margin = i128::from((1 << 20) + total / 64);
    others.iter().copied().find(|other| {
        let spare = if other.oom_score_adj > 0 { margin } else { 0 };
        other.points(total).is_some_and(|points| points + spare >= worker)
    })
}

/// The candidates of a limiter's subtree, without the workers and their children.
pub fn candidates(limiter: &MemoryCgroup, workers: &[i32]) -> Result<Vec<Candidate>, CgroupError> {
    let pids = limiter.processes()?;
    let others = pids.into_iter().filter(|pid| !workers.contains(pid)).filter_map(Candidate::read);
    Ok(others.filter(|other| !workers.contains(&other.group)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    /// The measured cases: limit 64 MiB, an init of so many MiB and that adj, the worker gets the rest.
    #[test]
    fn the_measured_victims_are_foreseen() {
        for (mib, adj, dies) in [
            (50, 500, true),
            (50, 900, true),
            (40, 990, true),
            (40, 999, true),
            (50, 0, false),
            (60, 0, false),
            (60, -500, false),
            (40, 500, false),
            (20, 999, false),
            (63, -1000, false),
        ] {
            let init = Candidate { pid: 1, group: 0, bytes: mib * MIB, oom_score_adj: adj };
            let worker = (64 - mib) * MIB;
            assert_eq!(endangered(&[init], worker, 64 * MIB).is_some(), dies, "{mib} MiB, adj {adj}");
        }
    }

    #[test]
    fn this_process_can_be_weighed() {
        let me = Candidate::read(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.bytes > 0);
        assert_eq!(Candidate::read(i32::MAX), None);
    }
}
