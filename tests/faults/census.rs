//! What the kernel says of a process: everything that a container can be weaker by, as facts with names that two runs share.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Facts by name.
pub type Facts = BTreeMap<String, String>;

const STATUS: [&str; 18] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Umask",
    "Cpus_allowed_list",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "Threads",
    "CoreDumping",
];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Files of a cgroup that hold what was asked for, of both versions.
const LIMITS: [&str; 28] = [
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.min",
    "memory.swap.max",
    "memory.oom.group",
    "cpu.max",
    "cpu.weight",
    "pids.max",
    "cpuset.cpus",
    "cpuset.mems",
    "io.weight",
    "io.max",
    "cgroup.freeze",
    "cgroup.type",
    "cgroup.subtree_control",
    "memory.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.swappiness",
    "memory.oom_control",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "devices.list",
    "freezer.state",
    "blkio.bfq.weight",
    "cpuset.cpu_exclusive",
];

/// Adds the facts of process `pid`, their names beginning with `who`. Nothing is added of a process that is gone.
pub fn take(pid: i32, who: &str, holder: Option<i32>, facts: &mut Facts) {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
    let status = read("status");
    if status.is_empty() || status.contains("\nState:\tZ") || status.contains("\nState:\tX") {
        return;
    }
    let mut add = |name: &str, value: String| drop(facts.insert(format!("{who} {name}"), value));
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name {
            "NSpid" => add("pid namespaces", value.split_whitespace().count().to_string()),
            name if STATUS.contains(&name) => {
                add(name, value.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            _ => {}
        }
    }
    for name in [
        "oom_score_adj",
        "uid_map",
        "gid_map",
        "setgroups",
        "personality",
        "comm",
        "limits",
        "timens_offsets",
    ] {
        add(name, read(name));
    }
    add("cmdline", read("cmdline").replace('\0', "\n"));
    // HOME is what the image's passwd says, where that can be read, as in runc.
    let environment = read("environ").replace('\0', "\n");
    add(
        "environ",
        environment
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("HOME="))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    for name in ["cwd", "root", "exe"] {
        add(name, fs::read_link(proc.join(name)).map(|p| p.display().to_string()).unwrap_or_default());
    }
    for kind in NAMESPACES {
        add(&format!("namespace {kind}"), whose(pid, kind, holder).to_owned());
    }
    add("mounts", mounts(&read("mountinfo")));
    add("descriptors", descriptors(&proc.join("fd")));
    add("devices", devices(&proc.join("root/dev")));
    for line in read("cgroup").lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        // A hierarchy that is mounted nowhere is none of the runtime's.
        let Some(folder) = hierarchy(controllers).map(|mount| mount.join(path.trim_start_matches('/')))
        else {
            continue;
        };
        add(&format!("cgroup {controllers}"), path.to_owned());
        for name in LIMITS {
            if let Ok(value) = fs::read_to_string(folder.join(name)) {
                // What follows counts, and says nothing of what was asked for.
                let value = if name == "memory.oom_control" {
                    value.lines().next().unwrap_or_default().to_owned()
                } else {
                    value
                };
                add(&format!("cgroup {controllers} {name}"), value);
            }
        }
    }
}

fn whose(pid: i32, kind: &str, holder: Option<i32>) -> &'static str {
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let own = link(&pid.to_string());
    if own.is_none() {
        return "";
    }
    if own == link("self") {
        return "the host's";
    }
    if holder.is_some_and(|holder| own == link(&holder.to_string())) { "joined" } else { "its own" }
}

/// Mount points with what they show and how, without the numbers that differ by run: those of one point in the order in which
/// they lie on each other, since the order of all depends on the calls that made them.
fn mounts(text: &str) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = left.split(' ').skip(3).collect();
        let (shown, peers) = fields.split_at(fields.len().min(3));
        // Whether a tmpfs has a name depends on the calls that made it.
        let right = right
            .strip_prefix("tmpfs ")
            .and_then(|rest| rest.split_once(' '))
            .map_or(right.to_owned(), |(_, options)| format!("tmpfs {options}"));
        // What cgroup2 was mounted with is the host's, and criu mounts it without.
        let right = if right.starts_with("cgroup2 ") { "cgroup2".to_owned() } else { right };
        let peers: Vec<&str> = peers.iter().map(|peer| peer.split(':').next().unwrap_or_default()).collect();
        let point = shown.get(1).copied().unwrap_or_default();
        lines.push((point, format!("{} [{}] {right}\n", shown.join(" "), peers.join(" "))));
    }
    lines.sort_by_key(|(point, _)| *point);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn descriptors(folder: &Path) -> String {
    let mut lines: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind);
        lines.push(format!("{} {kind}", entry.file_name().display()));
    }
    lines.sort();
    lines.join("\n")
}

fn devices(folder: &Path) -> String {
    let mut lines: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(data) = entry.path().symlink_metadata() else { continue };
        let kind = data.file_type();
        let what = if kind.is_symlink() {
            fs::read_link(entry.path()).unwrap_or_default().display().to_string()
        } else if kind.is_char_device() || kind.is_block_device() {
            format!("device {}:{}", nix::sys::stat::major(data.rdev()), nix::sys::stat::minor(data.rdev()))
        } else {
            String::new()
        };
        lines.push(format!(
            "{} {:o} {}:{} {what}",
            entry.file_name().display(),
            data.mode(),
            data.uid(),
            data.gid()
        ));
    }
    lines.sort();
    lines.join("\n")
}

/// Where the hierarchy with these controllers is mounted; the empty list is v2's.
fn hierarchy(controllers: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let found = match controllers {
            "" => kind == "cgroup2",
            list => {
                kind == "cgroup"
                    && list.split(',').all(|name| options.split(',').any(|option| option == name))
            }
        };
        found.then(|| PathBuf::from(left.split(' ').nth(4).unwrap_or_default()))
    })
}
