//! The life of the test container, and the checks on its way.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::runtime::{Folder, Runtime, is_alive};
use super::{CPU_PERCENT, LIMIT_BYTES, List, Seen, Step, Wrong};
use super::{cpu, hooks, memory, strategies, variants};
use crate::cgroup::{Location, MemoryCgroup, host, limiter, locate};
use crate::units::Mib;

/// The controllers whose folders must be gone in the end.
const LEFT_BEHIND: [&str; 6] = ["memory", "cpu", "pids", "freezer", "devices", "cpuset"];

/// Makes the container, checks and proves, and takes it away whatever happened.
pub fn go_through(runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    let id = folder.id.clone();
    let mut pid = 0;
    let created = list.check(Step::Create, "create", || {
        pid = create(runtime, folder, &id)?;
        Ok(format!("{}: created (pid {pid})", runtime.create_words()))
    });
    let folders = cgroup_folders(pid);
    if created {
        limits(pid, list);
        variants::swap(runtime, folder, list);
        variants::pids(runtime, folder, list);
        memory::monitoring(pid, list);
        variants::unlimited(runtime, folder, list);
        memory::within(pid, runtime, folder, list);
        memory::above(pid, runtime, folder, list);
        memory::stress(pid, runtime, folder, list);
        strategies::each(pid, runtime, folder, list);
        hooks::proves(runtime, folder, list);
        let started = list.check(Step::Start, "start", || start(runtime, folder, &id, pid));
        if started {
            memory::tracking(pid, runtime, folder, list);
            memory::percentages(pid, runtime, folder, list);
            cpu::throttles(pid, runtime, list);
        } else {
            for (step, name) in SKIPPED_WITHOUT_A_START {
                list.skip(step, name, "the container did not start");
            }
        }
    } else {
        for (step, name) in SKIPPED_WITHOUT_A_CONTAINER {
            list.skip(step, name, "there is no container");
        }
    }
    clean_up(runtime, folder, &id, pid, &folders, created, list);
}

const SKIPPED_WITHOUT_A_START: [(Step, &str); 3] =
    [(Step::Tracking, "tracking"), (Step::Tracking, "percentages"), (Step::Cpu, "cpu-throttles")];

const SKIPPED_WITHOUT_A_CONTAINER: [(Step, &str); 17] = [
    (Step::CgroupSetup, "memory-cgroup"),
    (Step::CgroupSetup, "memory-limit"),
    (Step::CgroupSetup, "limiter"),
    (Step::CgroupSetup, "cpu-limit"),
    (Step::CgroupSetup, "swap-limit"),
    (Step::CgroupSetup, "pids-limit"),
    (Step::Monitoring, "monitoring"),
    (Step::Monitoring, "unlimited"),
    (Step::Within, "within"),
    (Step::Above, "above"),
    (Step::Above, "stress"),
    (Step::Strategies, "strategies"),
    (Step::Hooks, "hook"),
    (Step::Start, "start"),
    (Step::Tracking, "tracking"),
    (Step::Tracking, "percentages"),
    (Step::Cpu, "cpu-throttles"),
];

fn create(runtime: &Runtime, folder: &Folder, id: &str) -> Result<i32, Wrong> {
    runtime.create(folder, id).map_err(|wrong| match nix::unistd::Uid::effective().is_root() {
        true => wrong,
        false => wrong.hint("run as root, or under 'systemd-run --user --scope -p Delegate=yes'"),
    })?;
    let state = runtime.state(folder, id).ok_or_else(|| Wrong::new("created, but state does not know it"))?;
    if state.status != "created" || !is_alive(state.pid) {
        return Err(Wrong::new(format!("created, but state says {} with pid {}", state.status, state.pid)));
    }
    // The bundle asks for a pid namespace, so its init has another one than whoever asks.
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    if namespace(&state.pid.to_string()) == namespace("self") {
        return Err(Wrong::new(format!(
            "created, but the pid is not the container's: process {} is in the pid namespace of this one",
            state.pid
        )));
    }
    Ok(state.pid)
}

/// That the limits are in the kernel, and that nothing tighter hides them.
fn limits(pid: i32, list: &mut List<'_>) {
    let mut memory = None;
    list.check(Step::CgroupSetup, "memory-cgroup", || {
        let location = locate(pid, "memory").map_err(|e| Wrong::from_error(&e))?;
        let own = own_cgroup(&location)?;
        let seen = format!("cgroup {} at {}", location.version, location.dir.display());
        memory = Some(own);
        Ok(seen)
    });
    let Some(cgroup) = memory else {
        list.skip(Step::CgroupSetup, "memory-limit", "there is no memory cgroup");
        list.skip(Step::CgroupSetup, "limiter", "there is no memory cgroup");
        return cpu_limit(pid, list);
    };
    list.check(Step::CgroupSetup, "memory-limit", || match cgroup.limit() {
        Ok(Some(LIMIT_BYTES)) => Ok(format!("the kernel's limit is {}", Mib(LIMIT_BYTES))),
        Ok(Some(other)) => {
            Err(Wrong::new(format!("the kernel's limit is {}, not {}", Mib(other), Mib(LIMIT_BYTES))))
        }
        Ok(None) => {
            Err(Wrong::new(format!("the kernel has no limit, and {} was asked for", Mib(LIMIT_BYTES)))
                .hint("look for missing delegation of the memory controller"))
        }
        Err(e) => Err(Wrong::from_error(&e)),
    });
    list.check(Step::CgroupSetup, "limiter", || match limiter(&cgroup) {
        Ok(Some(found)) if found.own => Ok("no limit above is tighter".to_owned()),
        Ok(Some(found)) => {
            Err(Wrong::new(format!("{} limits it to {}", found.cgroup.name(), Mib(found.limit_bytes)))
                .hint("raise the limit above, or verify outside of it"))
        }
        Ok(None) => Err(Wrong::new("nothing limits it")),
        Err(e) => Err(Wrong::from_error(&e)),
    });
    cpu_limit(pid, list);
}

/// The container's cgroup, which must not be the one this process is in.
fn own_cgroup(location: &Location) -> Result<MemoryCgroup, Wrong> {
    let cgroup = MemoryCgroup::at(location).map_err(|e| Wrong::from_error(&e))?;
    let ours = i32::try_from(std::process::id()).ok().and_then(|me| locate(me, "memory").ok());
    if cgroup.dir != location.dir || ours.is_some_and(|ours| ours.dir == cgroup.dir) {
        return Err(Wrong::new(format!(
            "it has no memory cgroup of its own, but is in {}",
            cgroup.dir.display()
        ))
        .hint("look for missing delegation of the memory controller"));
    }
    Ok(cgroup)
}

fn cpu_limit(pid: i32, list: &mut List<'_>) {
    list.check(Step::CgroupSetup, "cpu-limit", || {
        let location = locate(pid, "cpu").map_err(|e| Wrong::from_error(&e))?;
        let Some(share) = host::cpu_share(&location) else {
            return Err(Wrong::new(format!("the kernel has no limit, and {CPU_PERCENT} % was asked for")));
        };
        let percent = share * 100.0;
        let asked = f64::from(u32::try_from(CPU_PERCENT).unwrap_or(0));
        if (percent - asked).abs() < 0.01 {
            Ok(format!("the kernel's limit is {CPU_PERCENT} % of one CPU"))
        } else {
            Err(Wrong::new(format!("the kernel's limit is {percent:.1} %, not {CPU_PERCENT} %")))
        }
    });
}

/// A proof before start must not have disturbed the container: it starts as any other.
fn start(runtime: &Runtime, folder: &Folder, id: &str, pid: i32) -> Seen {
    runtime.call(folder, &["start", id])?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        match runtime.state(folder, id) {
            Some(state) if state.status == "running" && state.pid == pid && is_alive(pid) => {
                return Ok("the container starts after the proofs, with the same init".to_owned());
            }
            Some(state) if state.status != "stopped" => std::thread::sleep(Duration::from_millis(10)),
            other => {
                let status = other.map_or("unknown".to_owned(), |state| state.status);
                return Err(Wrong::new(format!("started, and then it is {status}")));
            }
        }
    }
    Err(Wrong::new("started, but it does not run"))
}

fn cgroup_folders(pid: i32) -> Vec<PathBuf> {
    let ours = i32::try_from(std::process::id()).unwrap_or(0);
    let mut folders = Vec::new();
    for controller in LEFT_BEHIND {
        let Ok(theirs) = locate(pid, controller) else { continue };
        if locate(ours, controller).is_ok_and(|own| own.dir != theirs.dir) && !folders.contains(&theirs.dir) {
            folders.push(theirs.dir);
        }
    }
    folders
}

fn clean_up(
    runtime: &Runtime,
    folder: &Folder,
    id: &str,
    pid: i32,
    folders: &[PathBuf],
    created: bool,
    list: &mut List<'_>,
) {
    if !created {
        // A failed create may have left something; nobody is told of it here.
        let _ = runtime.call(folder, &["delete", "--force", id]);
        return list.skip(Step::Cleanup, "delete", "there is no container");
    }
    list.check(Step::Cleanup, "delete", || delete(runtime, folder, id, pid));
    list.check(Step::Cleanup, "nothing-left", || nothing_left(runtime, folder, id, pid, folders));
}

/// Stops it as an engine would, and deletes it.
fn delete(runtime: &Runtime, folder: &Folder, id: &str, pid: i32) -> Seen {
    let began = Instant::now();
    let stopped = runtime.call(folder, &["kill", id, "TERM"]);
    while stopped.is_ok() && is_alive(pid) && began.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = stopped.is_ok() && !is_alive(pid);
    let args: &[&str] = if ended { &["delete", id] } else { &["delete", "--force", id] };
    let deleted = runtime.call(folder, args);
    stopped?;
    deleted?;
    if ended {
        Ok("SIGTERM ends it, and it is deleted".to_owned())
    } else {
        Err(Wrong::new("SIGTERM does not end it"))
    }
}

/// Cgroups beside the container's of those that were made beside it: their names begin with its own.
fn helpers(id: &str, folders: &[PathBuf]) -> Vec<PathBuf> {
    let beside = folders.iter().filter_map(|dir| fs::read_dir(dir.parent()?).ok()).flatten().flatten();
    let is_ones = |name: &str| name.contains(&format!("{id}-"));
    let mut found: Vec<_> = beside
        .filter(|entry| is_ones(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.retain(|path| path.is_dir() && !folders.contains(path));
    found
}

fn nothing_left(runtime: &Runtime, folder: &Folder, id: &str, pid: i32, folders: &[PathBuf]) -> Seen {
    let mut left = Vec::new();
    if is_alive(pid) {
        left.push(format!("process {pid}"));
    }
    left.extend(folders.iter().filter(|dir| dir.exists()).map(|dir| format!("cgroup {}", dir.display())));
    left.extend(helpers(id, folders).iter().map(|dir| format!("cgroup {}", dir.display())));
    if runtime.state(folder, id).is_some() || folder.root().join(id).exists() {
        left.push("state".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let here = folder.path.to_string_lossy();
    left.extend(mounts.lines().filter(|line| line.contains(&*here)).map(|_| "a mount".to_owned()));
    if left.is_empty() {
        Ok(format!("no process, no state, no mount, and none of {} cgroups is left", folders.len()))
    } else {
        Err(Wrong::new(format!("left behind: {}", left.join(", "))))
    }
}
