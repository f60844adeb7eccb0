//! A Swarm of two docker engines, each in a network namespace as on a machine of its own, with rt as their default
//! runtime and the node's configuration to prove every task's limit.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use crate::common::{Cgroup, Run, Sandbox, needs_engine, needs_rt, skip};
use crate::docker::Docker;
use crate::engine::{ENGINE_PATIENCE, Engine};
use crate::proofs::SABOTEUR;

const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

/// Two network namespaces, joined by a pair of virtual network cards. They go with it.
struct Networks([String; 2]);

impl Networks {
    fn new() -> Option<Self> {
        let names = [0, 1].map(|n| format!("rt-test-{}-{n}", std::process::id()));
        let networks = Self(names);
        for name in &networks.0 {
            ip(&["netns", "add", name]).ok();
        }
        let [one, two] = &networks.0;
        let pair =
            ["link", "add", "veth", "netns", one, "type", "veth", "peer", "name", "veth", "netns", two];
        if ip(&pair).run().code != 0 {
            skip("veth");
            return None;
        }
        for (name, address) in networks.0.iter().zip(ADDRESSES) {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "veth"]).ok();
            ip(&["-n", name, "link", "set", "lo", "up"]).ok();
            ip(&["-n", name, "link", "set", "veth", "up"]).ok();
        }
        Some(networks)
    }

    fn paths(&self) -> [PathBuf; 2] {
        [0, 1].map(|n| PathBuf::from("/run/netns").join(&self.0[n]))
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = ip(&["netns", "delete", name]).run();
        }
    }
}

fn ip(args: &[&str]) -> Run {
    Run::new("ip").args(args)
}

/// A machine of the Swarm: every container's limit is proved before it may start. Containers that are created while
/// the file `sabotage` is there lose their limit before (docker gives those of a host network no hooks of its own).
fn node(network: PathBuf) -> Docker {
    let engine = Engine::in_network(&network);
    let config = engine.file("rt.json", r#"{"proof":"prestart:enforce"}"#);
    let saboteur = engine.file("saboteur", SABOTEUR);
    // The line after --bundle is its folder. docker gives containers of the host's network no hooks.
    let wrapper = format!(
        r#"#!/bin/sh
case " $* " in *" create "*) if [ -e {sabotage} ]; then
    config=$(printf '%s\n' "$@" | sed -n '/^--bundle$/{{n;p}}')/config.json
    sed -i 's|"hooks":{{}}|"hooks":{{"prestart":[{{"path":"/bin/sh","args":["sh","{saboteur}"],"env":["PATH=/bin:/usr/bin"]}}]}}|' "$config"
fi ;; esac
exec {rt} "$@"
"#,
        sabotage = engine.text("sabotage"),
        saboteur = saboteur.display(),
        rt = Sandbox::binary().display(),
    );
    let wrapper = engine.script("wrapper", &wrapper);
    let runtime = json!({ "path": wrapper, "runtimeArgs": ["--config", config] });
    Docker::start_on(engine, "proving", &json!({ "runtimes": { "proving": runtime } }).to_string())
}

/// The pids of a node's running containers.
fn pids(node: &Docker) -> Vec<i64> {
    let ids = node.command(&["ps", "--quiet", "--no-trunc"]).ok().stdout;
    let pid = |id: &str| node.command(&["inspect", "--format", "{{.State.Pid}}", id]).ok().stdout;
    ids.lines().map(|id| pid(id).trim().parse().expect("a pid")).collect()
}

/// What `rt report` says on a node: status and verdict of each container.
fn verdicts(node: &Docker) -> Vec<(String, String)> {
    let report = node.engine.sandbox.bare(["--root", &node.runtime_root(), "report"]).ok().stdout;
    let mut rows = report.lines().map(|row| row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()));
    drop(rows.next().expect("titles"));
    rows.map(|mut row| {
        let status = row.nth(1).expect("a status").to_owned();
        (status, row.nth(1).expect("a verdict").to_owned())
    })
    .collect()
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(seen) = condition() {
        assert!(began.elapsed() < ENGINE_PATIENCE, "waited in vain for {what}: {seen}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Waits until so many containers run on each node.
#[track_caller]
fn wait_for_tasks(nodes: &[Docker; 2], wanted: [usize; 2]) {
    wait_for("tasks", || {
        let running =
            nodes.each_ref().map(|node| node.command(&["ps", "--quiet"]).ok().stdout.lines().count());
        let told = || nodes[0].command(&["service", "ps", "--no-trunc", "web"]).run().text();
        (running == wanted).then_some(()).ok_or_else(|| format!("{running:?}\n{}", told()))
    });
}

#[test]
fn a_swarm_proves_the_limit_of_each_task_on_each_node() {
    if !needs_rt() || !Docker::needs() || !needs_engine("ip") || !needs_engine("nsenter") {
        return;
    }
    let Some(networks) = Networks::new() else { return };
    let nodes = networks.paths().map(node);
    let [manager, worker] = &nodes;
    let swarm = |args: &[&str]| manager.command(args).ok().stdout;
    swarm(&["swarm", "init", "--advertise-addr", ADDRESSES[0]]);
    let token = swarm(&["swarm", "join-token", "--quiet", "worker"]);
    let join = ["swarm", "join", "--advertise-addr", ADDRESSES[1], "--token", token.trim()];
    worker.command(&join).arg(format!("{}:2377", ADDRESSES[0])).ok();

    let create =
        ["service", "create", "--detach", "--no-resolve-image", "--network", "host", "--limit-memory", "64m"];
    manager.command(&create).args(["--name", "web", "--replicas", "4", "box", "sleep", "1000"]).ok();
    wait_for_tasks(&nodes, [2, 2]);
    let cgroups = nodes.each_ref().map(|node| {
        pids(node)
            .into_iter()
            .map(|pid| Cgroup::of(pid, "memory").expect("a memory cgroup"))
            .collect::<Vec<_>>()
    });
    for (node, cgroups) in nodes.iter().zip(&cgroups) {
        assert_eq!(cgroups.len(), 2);
        for cgroup in cgroups {
            assert_eq!(cgroup.memory_limit(), (64 << 20).to_string());
        }
        assert_eq!(verdicts(node), vec![("running".to_owned(), "enforced".to_owned()); 2]);
    }

    swarm(&["service", "scale", "--detach", "web=2"]);
    wait_for_tasks(&nodes, [1, 1]);
    let states =
        |node: &Docker| node.engine.sandbox.bare(["--root", &node.runtime_root(), "list", "-q"]).ok().stdout;
    for (node, cgroups) in nodes.iter().zip(&cgroups) {
        wait_for("states to go", || {
            let left = states(node);
            (left.lines().count() == 1).then_some(()).ok_or(left)
        });
        assert_eq!(cgroups.iter().filter(|cgroup| cgroup.path.exists()).count(), 1);
        let kept = verdicts(node);
        assert_eq!(kept.len(), 2, "the record outlives its task: {kept:?}");
        assert!(kept.contains(&("deleted".to_owned(), "enforced".to_owned())), "{kept:?}");
    }

    // A machine on which limits do not hold runs nothing, and says why.
    worker.engine.file("sabotage", "");
    let id = worker.command(&["info", "--format", "{{.Swarm.NodeID}}"]).ok().stdout;
    let there = format!("node.id=={}", id.trim());
    let once = ["--name", "denied", "--constraint", &there, "--restart-condition", "none"];
    manager.command(&create).args(once).args(["box", "sleep", "1000"]).ok();
    let reason = "it must not run: not-enforced (limit-not-applied): a limit of 64 MiB was asked for";
    wait_for("the reason", || {
        let told =
            swarm(&["service", "ps", "--no-trunc", "--format", "{{.CurrentState}}: {{.Error}}", "denied"]);
        let failed = told.starts_with("Failed") || told.starts_with("Rejected");
        (failed && told.contains(reason)).then_some(()).ok_or(told)
    });
    let denied = ("deleted".to_owned(), "not-enforced (limit-not-applied)".to_owned());
    assert!(verdicts(worker).contains(&denied), "{:?}", verdicts(worker));

    swarm(&["service", "rm", "web", "denied"]);
    wait_for_tasks(&nodes, [0, 0]);
    for node in [worker, manager] {
        wait_for("states to go", || Some(states(node)).filter(|left| !left.is_empty()).map_or(Ok(()), Err));
        node.command(&["swarm", "leave", "--force"]).ok();
    }
    for cgroup in cgroups.iter().flatten() {
        assert!(!cgroup.path.exists(), "{}", cgroup.path.display());
    }
}
