//! Who would die: the kernel's choice (oom_badness, mm/oom_kill.c) between the worker and the container's processes.
//! Measured against it: at a 64 MiB limit inits of 50 MiB/adj 500, 50/900, 40/990 and 40/999 died in the
//! place of a worker with adj 1000; 50/0, 40/500 and 20/999 lived. At 121 MiB a process of 119.5 MiB/adj 0 died.

use std::path::PathBuf;

use nix::unistd::{SysconfVar, sysconf};

use super::hostmem::{field, kib_field};
use super::strategy::Strategy;
use crate::cgroup::{CgroupError, MemoryCgroup};

const PAGE: u64 = super::strategy::PAGE as u64;

/// What the kernel weighs of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub pid: i32,
    /// When it began, in ticks since boot: with the pid, no other process has it.
    pub started: u64,
    /// The command, at most 15 bytes.
    pub name: String,
    /// Its process group: a worker and its children are one.
    pub group: i32,
    /// Resident memory of every kind, swap and page tables, in bytes.
    pub bytes: u64,
    /// How far the kernel's own count of them may be above that.
    pub drift_bytes: u64,
    pub oom_score_adj: i64,
}

/// The fields of /proc/PID/stat that are looked at here.
struct Stat {
    name: String,
    state: char,
    group: i32,
    threads: u64,
    started: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (front, rest) = text.rsplit_once(')')?;
        let (_, name) = front.split_once('(')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        // The third field of proc_pid_stat(5) is the first one here.
        let number = |n: usize| fields.get(n - 3)?.parse().ok();
        Some(Self {
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            group: fields.get(2)?.parse().ok()?,
            threads: number(20)?,
            started: number(22)?,
            resident_pages: number(24)?,
        })
    }
}

impl Candidate {
    /// Reads what the kernel would weigh; `None` where the process has gone or is going.
    fn read(pid: i32, counting: Counting) -> Option<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let oom_score_adj =
            std::fs::read_to_string(proc.join("oom_score_adj")).ok()?.trim_end().parse().ok()?;
        let stat = Stat::read(pid)?;
        let status = std::fs::read_to_string(proc.join("status")).ok()?;
        // One that has given back its memory on its way out is no candidate for the kernel either.
        let exact = kib_field(&status, "VmRSS")?;
        // As the kernel itself counts it when it chooses; the exact sum is told elsewhere only (since Linux 6.16).
        let resident = exact.max(stat.resident_pages.saturating_mul(PAGE));
        let beside: u64 = ["VmSwap", "VmPTE"].iter().filter_map(|name| kib_field(&status, name)).sum();
        let cpus = field(&status, "Cpus_allowed").map_or(counting.cpus, allowed).min(counting.cpus);
        let bytes = resident + beside;
        let drift_bytes = counting.drift_bytes(cpus, stat.threads).min(bytes);
        Some(Self {
            pid,
            started: stat.started,
            name: stat.name,
            group: stat.group,
            bytes,
            drift_bytes,
            oom_score_adj,
        })
    }

    /// Whether the kernel could take it rather than a process that holds nothing and has a score of 1000.
    pub(super) fn is_before_idle(&self, total: u64) -> bool {
        let most = self.points(total).map(|points| points + i128::from(self.drift_bytes));
        most >= points(0, 1000, total)
    }

    /// The kernel's points, in bytes, under a limit of `total` bytes (memory and swap); `None`: never chosen.
    pub(super) fn points(&self, total: u64) -> Option<i128> {
        points(self.bytes, self.oom_score_adj, total)
    }
}

/// `adj * (totalpages / 1000)` in whole numbers: the bonus is up to 999 pages less than the limit, and below 1,000 pages there
/// is none.
fn points(bytes: u64, adj: i64, total: u64) -> Option<i128> {
    let bonus = i128::from(adj) * i128::from(total / PAGE / 1000 * PAGE);
    (adj > -1000).then(|| i128::from(bytes) + bonus)
}

/// CPUs in a mask of /proc/PID/status.
fn allowed(mask: &str) -> u64 {
    mask.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| u64::from(digit.count_ones())).sum()
}

/// How exactly this kernel counts the memory of a process.
#[derive(Debug, Clone, Copy)]
struct Counting {
    /// CPUs online.
    cpus: u64,
    /// Before Linux 6.2 each thread keeps what it has not told yet, since then each CPU.
    by_thread: bool,
}

impl Counting {
    /// Kinds of resident pages that are counted apart: anonymous, file and shared memory.
    const KINDS: u64 = 3;
    /// TASK_RSS_EVENTS_THRESH (mm/memory.c).
    const BY_THREAD: u64 = 64;

    fn of_this_kernel() -> Self {
        let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self { cpus: online.and_then(|n| u64::try_from(n).ok()).unwrap_or(1), by_thread: version < (6, 2) }
    }

    /// Pages of one kind that a CPU may hold back (percpu_counter_batch, lib/percpu_counter.c).
    fn batch(self) -> u64 {
        (2 * self.cpus).max(32)
    }

    fn drift_bytes(self, cpus: u64, threads: u64) -> u64 {
        let pages = if self.by_thread { Self::BY_THREAD * threads } else { self.batch() * cpus };
        pages * Self::KINDS * PAGE
    }
}

/// What a worker that has written `touched` bytes holds itself, as far as the kernel counts it: of the last `noise` it may not know
/// yet, since a worker is one thread that stays on its CPU.
pub fn held_by_worker(strategy: Strategy, touched: u64, noise: u64) -> u64 {
    if strategy.is_resident() { touched.saturating_sub(noise) } else { 0 }
}

/// The first of `others` that the kernel could choose instead of a worker that holds `worker_bytes` when the limit of `total` bytes
/// is hit. Each may grow until then, by what was not foreseen: 1 MiB and 1/64 of the limit are kept.
pub fn endangered(others: &[Candidate], worker_bytes: u64, total: u64) -> Option<Candidate> {
    let worker = points(worker_bytes, 1000, total)?;
    let growth = (1 << 20) + total / 64;
    let most = |other: &Candidate| Some(other.points(total)? + i128::from(other.drift_bytes + growth));
    others.iter().find(|other| most(other).is_some_and(|most| most >= worker)).cloned()
}

/// The candidates of a limiter's subtree, without the workers and their children.
pub fn candidates(limiter: &MemoryCgroup, workers: &[i32]) -> Result<Vec<Candidate>, CgroupError> {
    let counting = Counting::of_this_kernel();
    let pids = limiter.processes()?.into_iter().filter(|pid| !workers.contains(pid));
    let others = pids.filter_map(|pid| Candidate::read(pid, counting));
    Ok(others.filter(|other| !workers.contains(&other.group)).collect())
}

/// The process group of a process; `None` where it has gone.
pub fn group_of(pid: i32) -> Option<i32> {
    Stat::read(pid).map(|stat| stat.group)
}

/// SIGKILL in a mask of pending signals.
const KILLED: u64 = 1 << 8;

/// Whether the process has gone, is a zombie (of which /proc tells what is no longer so: its cgroup is the root), or has a SIGKILL
/// before it.
pub fn is_doomed(pid: i32, started: Option<u64>) -> bool {
    let Some(stat) = Stat::read(pid) else { return true };
    if matches!(stat.state, 'Z' | 'X') || started.is_some_and(|started| started != stat.started) {
        return true;
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let pending = |name| u64::from_str_radix(field(&status, name)?, 16).ok();
    ["SigPnd", "ShdPnd"].into_iter().filter_map(pending).any(|mask| mask & KILLED != 0)
        // On its way out: its memory is no longer its own.
        || kib_field(&status, "VmRSS").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    fn process(kib: u64, adj: i64) -> Candidate {
        let drift_bytes = Counting { cpus: 2, by_thread: false }.drift_bytes(2, 1);
        Candidate {
            pid: 1,
            started: 0,
            name: "init".into(),
            group: 0,
            bytes: kib << 10,
            drift_bytes,
            oom_score_adj: adj,
        }
    }

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
            let worker = held_by_worker(Strategy::Sequential, (64 - mib) * MIB, MIB / 2);
            let found = endangered(&[process(mib << 10, adj)], worker, 64 * MIB);
            assert_eq!(found.is_some(), dies, "{mib} MiB, adj {adj}");
        }
    }

    /// 121 MiB are 30 bonuses of 1,000 pages and 976 pages without: a process of 119.5 MiB has more than that.
    #[test]
    fn the_bonus_is_whole_numbers() {
        assert_eq!(points(0, 1000, 121 * MIB), Some(i128::from(30_000 * PAGE)));
        assert_eq!(points(0, 1000, 999 * PAGE), Some(0));
        let dies = |kib: u64, adj, limit_mib: u64, strategy| {
            let room = (limit_mib * MIB).saturating_sub(kib << 10);
            let worker = held_by_worker(strategy, room, MIB / 2);
            endangered(&[process(kib, adj)], worker, limit_mib * MIB).is_some()
        };
        assert!(dies(122_368, 0, 121, Strategy::Sequential));
        assert!(dies(122_368, 0, 121, Strategy::Shm));
        assert!(!dies(122_368, -100, 121, Strategy::Sequential));
        assert!(!dies(100 << 10, 0, 121, Strategy::Sequential));
        assert!(dies(126 << 10, 0, 128, Strategy::Fork));
        // Below 1,000 pages whoever has the most dies, whatever its adj.
        assert!(
            dies(2 << 10, -900, 3, Strategy::Sequential) && !dies(2 << 10, -1000, 3, Strategy::Sequential)
        );
    }

    #[test]
    fn what_cpus_and_threads_hold_back_counts() {
        let many = Counting { cpus: 64, by_thread: false };
        assert_eq!(many.drift_bytes(64, 1), 3 * 128 * 64 * PAGE);
        assert_eq!(many.drift_bytes(1, 1), 3 * 128 * PAGE, "a process that may run on one of them");
        assert_eq!(Counting { by_thread: true, ..many }.drift_bytes(64, 2), 3 * 64 * 2 * PAGE);
        assert_eq!((allowed("ffffffff,00000003"), allowed("3")), (34, 2));
    }

    #[test]
    fn fields_are_found_behind_any_name() {
        let text =
            "7 (a) b (c) S 1 5 5 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 3 0 812 4096 25 18446744073709551615 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.group), ("a) b (c", 'S', 5));
        assert_eq!((stat.threads, stat.started, stat.resident_pages), (3, 812, 25));
    }

    #[test]
    fn this_process_can_be_weighed() {
        let counting = Counting::of_this_kernel();
        let own = i32::try_from(std::process::id()).unwrap();
        let me = Candidate::read(own, counting).unwrap();
        assert!(me.bytes > 0 && me.started > 0);
        assert_eq!(Candidate::read(i32::MAX, counting), None);
        assert!(!is_doomed(own, Some(me.started)), "it lives");
        assert!(is_doomed(own, Some(me.started + 1)), "another one has its pid");
        assert!(is_doomed(i32::MAX, None));
    }

    #[test]
    fn a_zombie_is_doomed() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(!is_doomed(pid, None));
        child.kill().unwrap();
        assert!(is_doomed(pid, None), "the signal is there before it is obeyed");
        child.wait().unwrap();
    }
}
