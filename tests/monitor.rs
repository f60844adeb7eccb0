//! `rt monitor`: one container, any cgroup, all containers of a root; text, JSON and OpenMetrics.

mod common;

use std::fs;
use std::path::PathBuf;

use common::*;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// A container from nothing, limited to 48 MiB and started.
fn container(sandbox: &Sandbox, name: &str) -> String {
    let id = sandbox.id(name);
    let empty = sandbox.path("empty");
    fs::create_dir_all(&empty).expect("a folder");
    sandbox.rt(["create", &id, "--ram=48"]).cwd(empty).ok();
    sandbox.rt(["start", &id]).ok();
    id
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn lacks() -> bool {
    !needs_root() || !needs_rt()
}

#[test]
fn a_container_is_watched_by_name_pid_or_cgroup() {
    if lacks() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = container(&sandbox, "watched");
    let pid = sandbox.pid(&id).to_string();
    let folder = rt::cgroup::locate(pid.parse().expect("a pid"), "memory").expect("a cgroup").dir;
    let folder = folder.to_string_lossy();
    for subject in [vec![id.as_str()], vec!["--pid", &pid], vec!["--cgroup", &folder]] {
        let args = ["monitor", "--format", "json", "--interval", "20ms"];
        let readings = lines(&sandbox.rt(args).args(&subject).arg("0.2").ok());
        assert!(readings.len() >= 3, "{subject:?}: {readings:?}");
        let last = readings.last().expect("a reading");
        assert_eq!(last["limit_bytes"], 48 * MIB, "{subject:?}");
        assert!(last["usage_bytes"].as_u64() > Some(0) && last["limiter"].is_null(), "{last}");
    }
    let line = sandbox.rt(["monitor", &id, "0"]).ok().stdout;
    assert_eq!(line.lines().count(), 1, "one reading: {line}");
    assert!(line.contains("of 48 MiB"), "{line}");
}

#[test]
fn what_is_read_is_the_cgroup_that_was_made_for_the_container() {
    if lacks() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = container(&sandbox, "nested");
    let pid = i32::try_from(sandbox.pid(&id)).expect("a pid");
    let own = rt::cgroup::locate(pid, "memory").expect("a cgroup").dir;
    let scope = own.join("init.scope");
    fs::create_dir(&scope).expect("a sub-cgroup");
    fs::write(scope.join("cgroup.procs"), pid.to_string()).expect("init goes there, as systemd does");
    for subject in [id.as_str(), "--all"] {
        let readings = lines(&sandbox.rt(["monitor", "--format", "json", subject, "0"]).ok());
        let reading = &readings[0];
        assert!(reading["limiter"].is_null(), "the limit is the container's own: {reading}");
        assert_eq!(reading["limit_bytes"], 48 * MIB, "{reading}");
    }
    let metrics = sandbox.rt(["monitor", "--format", "openmetrics", &id, "0"]).ok().stdout;
    assert!(metrics.contains(&format!("rt_memory_limit_bytes{{container=\"{id}\"}}")), "{metrics}");
    let below = &lines(&sandbox.rt(["monitor", "--format", "json", "--pid", &pid.to_string(), "0"]).ok())[0];
    // On v2 a cgroup below has no memory controller where nobody gave it one.
    let accounts = fs::exists(scope.join("memory.current")).expect("a look")
        || scope.starts_with("/sys/fs/cgroup/memory");
    assert_eq!(below["limiter"].is_string(), accounts, "of a process its own cgroup is shown: {below}");
    sandbox.delete(&id);
}

#[test]
fn a_view_ends_with_its_container_and_says_so() {
    if lacks() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = container(&sandbox, "ending");
    let mut views = [vec![id.as_str()], vec!["--all"]]
        .map(|subject| sandbox.rt(["monitor", "--interval", "10ms"]).args(&subject).spawn());
    wait_until("the first readings", || views.iter().all(|view| view.text().contains("48 MiB")));
    sandbox.rt(["kill", &id, "KILL"]).ok();
    let [one, all] = &mut views;
    wait_until("the end of the view", || !one.is_running());
    assert!(one.text().contains(&format!("{id} has ended")), "{}", one.text());
    assert!(all.is_running(), "the view of all goes on");
    all.signal(nix::sys::signal::SIGINT);
    let [one, all] = views;
    assert_eq!([one, all].map(|view| view.wait(PATIENCE).code), [0, 0]);
    let stopped = sandbox.rt(["monitor", &id]).ok();
    assert!(stopped.stdout.contains("is stopped"), "{stopped}");
}

#[test]
fn all_containers_are_told_as_they_come_and_go() {
    if lacks() {
        return;
    }
    let sandbox = Sandbox::new();
    let first = container(&sandbox, "first");
    // A folder that is no container breaks nothing.
    fs::create_dir(sandbox.root().join("foreign")).expect("a folder");
    let view = sandbox.rt(["monitor", "--all", "--interval", "10ms", "--format", "json"]).spawn();
    wait_until("the first", || view.text().contains(&first));
    let second = container(&sandbox, "second");
    wait_until("the second", || {
        assert!(!view.text().contains("level=error"), "{}", view.text());
        view.text().contains(&second)
    });
    sandbox.delete(&first);
    let alone = |text: &str| {
        let last: Vec<_> = text.lines().rev().take(3).collect();
        last.len() == 3 && last.iter().all(|line| line.contains(&second))
    };
    wait_until("the first to be gone", || alone(&view.text()));
    view.signal(nix::sys::signal::SIGTERM);
    assert_eq!(view.wait(PATIENCE).code, 0);
    let nobody = Sandbox::new();
    fs::create_dir_all(nobody.root()).expect("a root");
    assert_eq!(nobody.rt(["monitor", "--all", "0"]).ok().stdout, "", "no container, no line");
}

/// From 16 on what need not be read is not (docs/scale.md).
#[test]
fn of_many_containers_a_kill_an_update_and_an_end_are_seen() {
    if lacks() {
        return;
    }
    let sandbox = Sandbox::new();
    let ids: Vec<String> = (0..16).map(|n| container(&sandbox, &format!("many{n}"))).collect();
    let view = sandbox.rt(["monitor", "--all", "--interval", "50ms", "--format", "json"]).spawn();
    wait_until("all of them", || ids.iter().all(|id| view.text().contains(id)));
    let last = |id: &str| {
        let text = view.text();
        let line = text.lines().rev().find(|line| line.contains(id) && line.ends_with('}'));
        serde_json::from_str::<Value>(line.expect("a line")).expect("JSON")
    };
    let before = last(&ids[4]);
    sandbox.rt(["test-memory", &ids[3], "--strategy", "sequential"]).ok();
    wait_until("the kill", || last(&ids[3])["new_oom_kills"] == 1);
    wait_until("the peak", || last(&ids[3])["peak_bytes"] == 48 * MIB);
    assert_eq!(last(&ids[4])["new_oom_kills"], 0, "another's kill is none of its own");
    assert_eq!(last(&ids[4])["limit_bytes"], before["limit_bytes"]);
    sandbox.rt(["update", "--memory", &(64 * MIB).to_string(), &ids[5]]).ok();
    wait_until("the limit", || last(&ids[5])["limit_bytes"] == 64 * MIB);
    sandbox.rt(["kill", &ids[7], "KILL"]).ok();
    wait_until("the end", || {
        let text = view.text();
        let looked = text.lines().rev().take(40).filter(|line| line.contains(&ids[6])).count();
        looked > 1 && !text.lines().rev().take(40).any(|line| line.contains(&ids[7]))
    });
    view.signal(nix::sys::signal::SIGINT);
    assert_eq!(view.wait(PATIENCE).code, 0);
}

#[test]
fn an_oom_kill_is_counted_and_an_unlimited_container_is_said_so() {
    if lacks() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = container(&sandbox, "killed");
    let view = sandbox.rt(["monitor", &id, "--interval", "10ms", "--format", "json"]).spawn();
    wait_until("a reading", || view.text().contains("oom_kills"));
    sandbox.rt(["test-memory", &id, "--strategy", "sequential"]).ok();
    wait_until("the kill", || view.text().contains("\"new_oom_kills\":1"));
    view.signal(nix::sys::signal::SIGINT);
    let readings = lines(&view.wait(PATIENCE));
    let highest = readings.iter().filter_map(|r| r["usage_bytes"].as_u64()).max().expect("readings");
    assert!(highest > 8 * MIB && readings.last().expect("one")["peak_bytes"] == 48 * MIB, "{highest}");
    let mut bundle = sandbox.bundle();
    let free = sandbox.start(&mut bundle, "free");
    let line = sandbox.rt(["monitor", &free, "0"]).ok().stdout;
    assert!(line.contains("unlimited (the host has "), "{line}");
}

#[test]
fn a_limit_above_is_named() {
    if lacks() {
        return;
    }
    let own =
        rt::cgroup::locate(i32::try_from(std::process::id()).expect("a pid"), "memory").expect("a cgroup");
    let sandbox = Sandbox::new();
    let id = container(&sandbox, "below");
    let pid = sandbox.pid(&id);
    let folder = rt::cgroup::locate(i32::try_from(pid).expect("a pid"), "memory").expect("a cgroup").dir;
    let child = folder.join("leaf");
    if own.version == rt::cgroup::Version::V2 {
        return skip("cgroup v1");
    }
    fs::create_dir(&child).expect("a cgroup");
    fs::write(child.join("cgroup.procs"), pid.to_string()).expect("to move init");
    let line = sandbox.rt(["monitor", "--pid", &pid.to_string(), "0"]).ok().stdout;
    fs::write(folder.join("cgroup.procs"), pid.to_string()).expect("to move init back");
    fs::remove_dir(&child).expect("to remove the cgroup");
    assert!(line.contains("of 48 MiB (limit of /") && line.contains(&id), "{line}");
}

#[test]
fn metrics_are_put_in_place_whole() {
    if lacks() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = container(&sandbox, "metrics");
    let folder = sandbox.path("textfiles");
    fs::create_dir(&folder).expect("a folder");
    let file = folder.join("rt.prom");
    let name = file.to_string_lossy();
    let args = ["monitor", "--all", "--interval", "1ms", "--format", "openmetrics", "--output", &name];
    let view = sandbox.rt(args).spawn();
    wait_until("the file", || file.exists());
    for _ in 0..500 {
        let text = fs::read_to_string(&file).expect("the file is always there");
        assert!(text.starts_with("# TYPE ") && text.ends_with("# EOF\n"), "{text}");
        assert!(
            text.contains(&format!("rt_memory_limit_bytes{{container=\"{id}\"}} {}", 48 * MIB)),
            "{text}"
        );
    }
    view.signal(nix::sys::signal::SIGINT);
    assert_eq!(view.wait(PATIENCE).code, 0);
    let left: Vec<PathBuf> = fs::read_dir(&folder).expect("the folder").flatten().map(|e| e.path()).collect();
    assert_eq!(left, std::slice::from_ref(&file));
    let printed = sandbox.rt(["monitor", &id, "0", "--format", "openmetrics"]).ok().stdout;
    assert_eq!(printed.matches("# EOF").count(), 1, "{printed}");
    let older = sandbox.rt(["monitor", "--all", "0", "--format", "prometheus", "-o", &name]).ok().stdout;
    let text = fs::read_to_string(&file).expect("the file");
    assert!(older.is_empty() && !text.contains("# EOF") && !text.contains("# UNIT"), "{older}{text}");
    let told = format!(
        "# TYPE rt_memory_oom_kills_total counter\n# HELP rt_memory_oom_kills_total Processes of the \
        container that were OOM-killed.\nrt_memory_oom_kills_total{{container=\"{id}\"}} 0\n"
    );
    assert!(text.contains(&told), "{text}");
    sandbox
        .rt(["monitor", &id, "0", "--format", "openmetrics", "-o", "/nowhere/rt.prom"])
        .run()
        .fails_with("cannot write '/nowhere/rt.prom'");
}

#[test]
fn metrics_name_the_pod_of_a_container() {
    if lacks() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let annotations = serde_json::json!({
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-name": "cart-0",
        "io.kubernetes.cri.container-name": "cart",
    });
    bundle.set("/annotations", annotations);
    let id = sandbox.start(&mut bundle, "pod");
    let text = sandbox.rt(["monitor", "--all", "0", "--format", "prometheus"]).ok().stdout;
    let info = format!(
        "rt_container_info{{container=\"{id}\",namespace=\"shop\",pod=\"cart-0\",name=\"cart\"}} 1\n"
    );
    assert!(text.contains(&info), "{text}");
}

#[test]
fn wrong_words_are_wrong_usage() {
    let sandbox = Sandbox::new();
    for args in [
        vec!["--interval", "0s", "x"],
        vec!["--interval", "500us", "x"],
        vec!["x", "soon"],
        vec!["--all", "x", "1"],
        vec!["--all", "--pid", "1"],
        vec!["x", "--output", "y"],
        vec![],
    ] {
        assert_eq!(sandbox.rt(["monitor"]).args(&args).run().code, 2, "{args:?}");
    }
    sandbox.rt(["monitor", "--pid", "4194303", "0"]).run().fails_with("there is no process with pid 4194303");
    sandbox.rt(["monitor", "no-such-container"]).run().fails_with("no-such-container");
    sandbox.rt(["monitor", "--cgroup", "/nowhere"]).run().fails_with("/nowhere");
}
