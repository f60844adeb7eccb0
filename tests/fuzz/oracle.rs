//! What a config asks for, read as Go reads it, beside what the kernel's files say of the process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::base::MARKS;
use crate::common::Cgroup;
use crate::mutate;

/// A field of an object, in any case; null is none.
fn get<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').try_fold(value, |here, key| {
        let fields = here.as_object()?;
        let same = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        fields.get(key).or(same).filter(|value| !value.is_null())
    })
}

fn list<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    get(value, path).and_then(Value::as_array).into_iter().flatten()
}

fn whole(value: &Value) -> Option<i128> {
    value.as_i64().map_or_else(|| mutate::raw(value)?.parse().ok(), |number| Some(number.into()))
}

fn number(value: &Value, path: &str) -> Option<i128> {
    get(value, path).and_then(whole)
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    get(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The parts of /proc of one process that tell what it may do.
struct Seen {
    pid: i64,
    status: String,
    limits: String,
    mounts: String,
}

impl Seen {
    /// None if it has ended.
    fn of(pid: i64) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let seen = Self { pid, status: read("status")?, limits: read("limits")?, mounts: read("mountinfo")? };
        (!["State:\tZ", "State:\tX"].iter().any(|state| seen.status.contains(state))).then_some(seen)
    }

    fn line(&self, name: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
        line.unwrap_or_default().trim()
    }

    /// The options of what is mounted at `point`, the last one.
    fn mount(&self, point: &str) -> Option<&str> {
        let fields = self.mounts.lines().map(|line| line.split(' '));
        fields.filter_map(|mut fields| (fields.nth(4)? == point).then(|| fields.next())?).next_back()
    }
}

/// What of `config` is not in force for a process, in words. Of one that ends, nothing is known.
pub fn missing(config: &Value, rootfs: &Path, pid: i64) -> Vec<String> {
    let look = || Seen::of(pid).map_or_else(Vec::new, |seen| compare(config, rootfs, &seen));
    if look().is_empty() {
        return Vec::new();
    }
    // It may have been on its way out.
    std::thread::sleep(Duration::from_millis(100));
    let found = look();
    if Seen::of(pid).is_some() { found } else { Vec::new() }
}

fn compare(config: &Value, rootfs: &Path, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |what: &str, asked: String, is: String| {
        if asked != is {
            found.push(format!("{what}: {asked} asked, {is} found"));
        }
    };
    process(config, seen, &mut check);
    namespaces(config, seen, &mut check);
    files(config, rootfs, seen, &mut check);
    resources(config, seen, &mut check);
    sysctls(config, seen, &mut check);
    if get(config, "linux/seccomp").is_some_and(|seccomp| !text(seccomp, "defaultAction").is_empty()) {
        check("seccomp", "2".into(), seen.line("Seccomp").into());
    }
    found
}

type Check<'a> = &'a mut dyn FnMut(&str, String, String);

fn process(config: &Value, seen: &Seen, check: Check<'_>) {
    let sets =
        [("bounding", "CapBnd"), ("inheritable", "CapInh"), ("permitted", "CapPrm"), ("effective", "CapEff")];
    // Without any set, the caller's are kept, as in runc 1.4.
    let given = get(config, "process/capabilities").is_some();
    for (set, line) in sets.into_iter().filter(|_| given) {
        let asked = list(config, &format!("process/capabilities/{set}"))
            .map(|name| match name.as_str() {
                Some("CAP_CHOWN") => 1,
                Some("CAP_KILL") => 1 << 5,
                _ => 0,
            })
            .fold(0_u64, |all, one| all | one);
        let is = u64::from_str_radix(seen.line(line), 16).unwrap_or(u64::MAX);
        // A program that root executes gets what it may inherit, or is bounded by.
        let allowed = list(config, "process/capabilities/bounding").count() as u64;
        let more = if matches!(set, "permitted" | "effective") && allowed > 0 { 0 } else { is & !asked };
        check(set, "0".into(), more.to_string());
    }
    let ids = |id: i128| [id.to_string(), id.to_string(), id.to_string(), id.to_string()].join("\t");
    check("uid", ids(number(config, "process/user/uid").unwrap_or(0)), seen.line("Uid").into());
    check("gid", ids(number(config, "process/user/gid").unwrap_or(0)), seen.line("Gid").into());
    let umask = number(config, "process/user/umask").unwrap_or(0o022) & 0o777;
    check("umask", format!("{umask:04o}"), seen.line("Umask").into());
    let mut groups: Vec<i128> =
        list(config, "process/user/additionalGids").map(|gid| whole(gid).unwrap_or(0)).collect();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    check("groups", groups.join(" "), seen.line("Groups").into());
    let no_new = get(config, "process/noNewPrivileges") == Some(&Value::Bool(true));
    if no_new {
        check("no_new_privs", "1".into(), seen.line("NoNewPrivs").into());
    }
    if let Some(score) = number(config, "process/oomScoreAdj") {
        let is = fs::read_to_string(format!("/proc/{}/oom_score_adj", seen.pid)).unwrap_or_default();
        check("oom_score_adj", score.to_string(), is.trim().into());
    }
    let names = [("RLIMIT_NOFILE", "Max open files"), ("RLIMIT_CORE", "Max core file size")];
    for limit in list(config, "process/rlimits") {
        let Some((_, name)) = names.iter().find(|(name, _)| text(limit, "type") == *name) else { continue };
        let words = |n: i128| if n == u64::MAX.into() { "unlimited".to_owned() } else { n.to_string() };
        let asked = ["soft", "hard"].map(|which| words(number(limit, which).unwrap_or(0))).join(" ");
        let line = seen.limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        check(name, asked, line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    }
}

fn namespaces(config: &Value, seen: &Seen, check: Check<'_>) {
    for namespace in list(config, "linux/namespaces") {
        let name = match text(namespace, "type") {
            "network" => "net",
            "mount" => "mnt",
            name => name,
        };
        let link = |who: &str| fs::read_link(format!("/proc/{who}/ns/{name}")).ok();
        let shared = link(&seen.pid.to_string()) == link("thread-self");
        check(&format!("namespace {name}"), "own".into(), if shared { "the host's" } else { "own" }.into());
    }
}

fn files(config: &Value, rootfs: &Path, seen: &Seen, check: Check<'_>) {
    for mount in list(config, "mounts") {
        // mountinfo writes these so.
        let point = text(mount, "destination").replace('\\', "\\134").replace(' ', "\\040");
        let point = format!("/{}", point.trim_start_matches('/'));
        let point = point.as_str();
        let read_only = list(mount, "options").any(|option| option == "ro");
        let is = seen.mount(point).map_or("not mounted", |options| {
            if !read_only || options.split(',').any(|option| option == "ro") { "mounted" } else { "writable" }
        });
        check(&format!("mount {point}"), "mounted".into(), is.into());
    }
    let paths = |list_of: &str| -> Vec<String> {
        let paths = list(config, list_of).filter_map(Value::as_str).filter(|path| !path.is_empty());
        let paths = paths.map(|path| format!("/{}", path.trim_start_matches('/')));
        paths.filter(|path| is_inside(path, rootfs, seen)).collect()
    };
    for path in paths("linux/maskedPaths") {
        let is = seen.mount(&path).map_or("open", |_| "masked");
        check(&format!("mask {path}"), "masked".into(), is.into());
    }
    for path in paths("linux/readonlyPaths") {
        let is = seen.mount(&path).filter(|options| options.split(',').any(|option| option == "ro"));
        check(&format!("read-only {path}"), "ro".into(), is.map_or("writable", |_| "ro").into());
    }
    if get(config, "root/readonly") == Some(&Value::Bool(true)) {
        let is = seen.mount("/").is_some_and(|options| options.split(',').any(|option| option == "ro"));
        check("root", "ro".into(), if is { "ro" } else { "writable" }.into());
    }
}

/// Whether the container has such a path: in its root, or in the kernel's file systems if it has them.
fn is_inside(path: &str, rootfs: &Path, seen: &Seen) -> bool {
    let kernel = ["/proc", "/sys"].iter().find(|folder| path.starts_with(&format!("{folder}/")));
    match kernel {
        Some(folder) => seen.mount(folder).is_some() && Path::new(path).exists(),
        None => rootfs.join(&path[1..]).exists(),
    }
}

/// Of the namespaces of the process: /proc/sys shows those of whoever reads it.
fn sysctls(config: &Value, seen: &Seen, check: Check<'_>) {
    for (name, value) in get(config, "linux/sysctl").and_then(Value::as_object).into_iter().flatten() {
        let read = || {
            let namespace = fs::File::open(format!("/proc/{}/ns/net", seen.pid)).ok()?;
            setns(namespace, CloneFlags::CLONE_NEWNET).ok()?;
            fs::read_to_string(Path::new("/proc/sys").join(name.replace('.', "/"))).ok()
        };
        let is = std::thread::scope(|scope| scope.spawn(read).join().expect("a reader")).unwrap_or_default();
        // Nothing is written for nothing.
        let asked = value.as_str().unwrap_or_default().trim();
        if !asked.is_empty() {
            check(name, asked.to_owned(), is.trim().to_owned());
        }
    }
}

fn resources(config: &Value, seen: &Seen, check: Check<'_>) {
    let read = |controller: &str, v1: &str, v2: &str| {
        let cgroup = Cgroup::of(seen.pid, controller)?;
        fs::read_to_string(cgroup.path.join(if cgroup.v2 { v2 } else { v1 })).ok()
    };
    let read =
        |controller: &str, v1: &str, v2: &str| read(controller, v1, v2).unwrap_or_default().trim().to_owned();
    let asked = |path: &str| number(config, &format!("linux/resources/{path}")).filter(|limit| *limit > 0);
    // From there on it is none.
    if let Some(limit) = asked("memory/limit").filter(|limit| *limit < i128::from(i64::MAX) / 4096 * 4096) {
        let is = read("memory", "memory.limit_in_bytes", "memory.max");
        check("memory", (limit / 4096 * 4096).to_string(), is);
    }
    if let Some(limit) = asked("pids/limit") {
        let is = read("pids", "pids.max", "pids.max");
        // More than the kernel can count is no limit.
        let none = is == "max" && limit > 4_194_304;
        check("pids", if none { is.clone() } else { limit.to_string() }, is);
    }
    if let Some(quota) = asked("cpu/quota") {
        let is = read("cpu", "cpu.cfs_quota_us", "cpu.max");
        check("cpu quota", quota.to_string(), is.split(' ').next().unwrap_or_default().to_owned());
    }
    let rules: Vec<_> = list(config, "linux/resources/devices").collect();
    let all = |rule: &Value| {
        get(rule, "type").is_none() && get(rule, "major").is_none() && text(rule, "access") == "rwm"
    };
    let denied =
        rules.first().is_some_and(|rule| all(rule) && get(rule, "allow") != Some(&Value::Bool(true)));
    if denied && !rules.iter().skip(1).any(|rule| get(rule, "major").is_none()) {
        // There is no such file on v2.
        let is = read("devices", "devices.list", "");
        check("devices", "denied".into(), if is.contains("a *:* rwm") { "all" } else { "denied" }.into());
    }
}

/// The hooks of `stages` that did not write what they were told to write.
pub fn hooks_not_run(config: &Value, bundle: &Path, stages: &[&str]) -> Vec<String> {
    let marks = [bundle.join(MARKS), bundle.join("rootfs").join(MARKS)];
    let ran: String = marks.iter().filter_map(|mark| fs::read_to_string(mark).ok()).collect();
    let mut missing = Vec::new();
    for stage in stages {
        for hook in list(config, &format!("hooks/{stage}")).filter(|hook| text(hook, "path") == "/bin/sh") {
            let args: Vec<_> = list(hook, "args").filter_map(Value::as_str).collect();
            let sound = !hook.to_string().contains("\\u0000");
            let told =
                sound && matches!(args.as_slice(), ["sh" | "x", "-c", script] if script.starts_with("echo "));
            if told && !ran.lines().any(|line| line == *stage) {
                missing.push(format!("hook {stage}: not run"));
            }
        }
    }
    missing
}
