//! What a container may try against the prover: look into its workers, hold it up, choose its own verdict.

mod common;

use std::fs;
use std::time::Duration;

use common::*;
use serde_json::json;

/// What engines leave a container by default.
const USUAL_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The workers of the prover `pid`, and their children.
fn workers_of(pid: i32) -> Vec<i32> {
    let children = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
    };
    children(pid).into_iter().flat_map(|worker| [vec![worker], children(worker)].concat()).collect()
}

#[test]
fn a_container_with_the_hosts_pids_gets_at_nothing_of_a_worker() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    bundle.set("/linux/namespaces", json!([{ "type": "mount" }, { "type": "ipc" }, { "type": "uts" }]));
    bundle.unset("/hostname");
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}"), json!(USUAL_CAPABILITIES));
    }
    let id = sandbox.start(&mut bundle, "seen");
    let stress = ["stress-memory", &id, "24", "30", "--strategy", "sequential,random,file,shm,fork"];
    let prover = sandbox.rt(stress).spawn();
    wait_until("the workers and children of fork", || workers_of(prover.pid()).len() >= 5 + 4);

    let workers = workers_of(prover.pid());
    let pids = workers.iter().map(|pid| pid.to_string() + " ").collect::<String>();
    // Opening mem asks what ptrace asks; the rest asks for less.
    let seen = sandbox.exec(
        &id,
        &format!(
            "for p in {pids}; do test -d /proc/$p || echo $p is not seen
             for f in mem environ maps auxv; do (: < /proc/$p/$f) 2>/dev/null && echo $p $f; done
             for d in root cwd; do ls /proc/$p/$d/ >/dev/null 2>&1 && echo $p $d; done
             readlink /proc/$p/fd/0 && echo $p fd; done; true"
        ),
    );
    assert_eq!(seen.succeeds().text().trim(), "");

    // Whoever gets past that finds nothing of the host.
    for pid in &workers {
        let names = fs::read_dir(format!("/proc/{pid}/root")).expect("a folder").flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).filter(|name| name != "proc").collect();
        assert!(names.is_empty(), "{pid}: {names:?}");
        assert!(!fs::exists(format!("/proc/{pid}/root/proc/sysrq-trigger")).expect("an answer"));
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).expect("a file"), b"");
    }
    prover.signal(nix::sys::signal::Signal::SIGINT);
    prover.wait(Duration::from_secs(10));
    sandbox.delete(&id);
}
