//! What a proof must not do to others: a container that is busy while it is proved.

use nix::unistd::Pid;
use rt::cgroup::Meter;
use rt::proof::{Strategy, Verdict};

use crate::cgroup::{MIB, TestCgroup, alive, proved, read, wait_until};

/// Holds up to so many MiB, lets go of them, and begins again; tail keeps what has no newline until its input ends.
fn busy(mib: u64) -> String {
    format!("while :; do head -c {mib}M /dev/zero | tail >/dev/null; done")
}

/// Shared memory and files on tmpfs are freed later than their writer dies: in that moment nobody else may be killed.
#[test]
fn memory_that_is_freed_late_has_nobody_killed() {
    for strategy in [Strategy::Shm, Strategy::File, Strategy::Fork] {
        let Some(mut cgroup) = TestCgroup::limited(64) else { return };
        let init = Pid::from_raw(cgroup.holder(38));
        let worker = cgroup.start(&busy(8));
        let meter = Meter::open(&cgroup.cgroup()).unwrap();
        let file_dir = (strategy == Strategy::File).then(|| "/dev/shm".into());
        for round in 0..20 {
            let before = meter.oom_kill().unwrap();
            let outcome =
                proved(&rt::proof::Request { strategy, file_dir: file_dir.clone(), ..cgroup.request(init) });
            let told = format!("{strategy}, round {round}: {:?}", outcome.decision);
            assert_eq!(outcome.record.harmed, None, "{told}");
            assert!(alive(init) && alive(worker), "{told}");
            assert!(meter.oom_kill().unwrap() > before, "{told}");
        }
    }
}

fn oom_score_adjs(processes: &[nix::unistd::Pid]) -> Vec<String> {
    processes.iter().map(|pid| read(format!("/proc/{pid}/oom_score_adj").as_ref())).collect()
}

#[test]
fn a_busy_container_is_proved_and_none_of_it_is_killed() {
    let Some(mut cgroup) = TestCgroup::limited(200) else { return };
    let init = cgroup.sleeper();
    // Some are likelier victims than others.
    let loops = [cgroup.start(&busy(12)), cgroup.start(&busy(8))];
    std::fs::write(format!("/proc/{}/oom_score_adj", loops[0]), "100").unwrap();
    let all = [init, loops[0], loops[1]];
    let adjs = oom_score_adjs(&all);
    assert_eq!(adjs[1], "100");
    let meter = Meter::open(&cgroup.cgroup()).unwrap();
    wait_until("the container to be busy", || meter.usage().unwrap() > 8 * MIB);

    for round in 0..10 {
        let before = meter.oom_kill().unwrap();
        let outcome = proved(&cgroup.request(init));
        assert_eq!(outcome.decision.verdict, Verdict::Enforced, "round {round}: {:?}", outcome.decision);
        assert_eq!(meter.oom_kill().unwrap(), before + 1, "the worker alone was killed");
        assert!(all.iter().all(|pid| alive(*pid)), "round {round}");
        assert_eq!(oom_score_adjs(&all), adjs);
    }
    // It still works: it allocates, and frees.
    let (mut low, mut high) = (false, false);
    wait_until("it to allocate and free", || {
        let usage = meter.usage().unwrap();
        high |= usage > 12 * MIB;
        low |= usage < 8 * MIB;
        low && high
    });
}
