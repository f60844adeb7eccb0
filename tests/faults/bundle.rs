//! Bundles that ask for everything that a container can be weaker by, and whose program says what it finds inside.

use serde_json::{Value, json};

use super::common::{Bundle, Cgroup, Sandbox};

/// What kind of container a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// New namespaces of all kinds but user.
    Plain,
    /// The same and a new user namespace: a stage makes it.
    User,
    /// The pid namespace of another container, which a stage joins.
    Pid,
    /// Its program tells more, prints, and ends with [`CODE`]: nobody can look at it from outside.
    Brief,
    /// The same on a terminal.
    Terminal,
    /// Its program has no file of the caller's open, and can be saved.
    Saved,
    /// Without a bundle: `--ram` and `--cpu`.
    Nothing,
}

/// How a brief program ends.
pub const CODE: i32 = 7;

/// What the container's program sees of limits that the host cannot look at: a sysctl, the seccomp filter, a device.
const PROGRAM: &str = "
{
    read sysctl </proc/sys/kernel/msgmax; echo msgmax $sysctl
    kill -0 1 2>/dev/null && echo kill allowed || echo kill refused
    { true </dev/forbidden; } 2>/dev/null && echo device allowed || echo device refused
    { true >/tried; } 2>/dev/null && echo root writable || echo root read-only
    { true >/proc/sys/kernel/msgmax; } 2>/dev/null && echo proc writable || echo proc read-only
    MORE
    echo end
} >/out/inside
";

/// What [`Kind::Brief`] says of itself beside that.
const MORE: &str = "
    grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Umask|Cpus_allowed_list|SigBlk|SigIgn|SigCgt)' /proc/self/status
    cat /proc/self/limits /proc/self/oom_score_adj /proc/self/uid_map
    cut -d ' ' -f 5,6 /proc/self/mountinfo
    for limit in memory.limit_in_bytes memory.soft_limit_in_bytes memory.memsw.limit_in_bytes cpu.shares cpu.cfs_quota_us \
        pids.max cpuset.cpus devices.list memory.max memory.low memory.swap.max cpu.max cpu.weight; do
        for file in /sys/fs/cgroup/$limit /sys/fs/cgroup/*/$limit; do
            [ -e $file ] && echo $limit $(cat $file)
        done
    done
    tty
";

const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Makes the bundle of `kind`; `holder` is a process in the pid namespace to join. What its program and hooks write is in
/// `out` of the sandbox.
pub fn make(sandbox: &Sandbox, kind: Kind, id: &str, holder: Option<i32>) -> Bundle {
    let out = sandbox.path("out");
    let mut bundle = sandbox.bundle();
    for folder in ["out", "dev/pts", "sys/fs"] {
        std::fs::create_dir_all(bundle.rootfs(folder)).expect("a mount point");
    }
    bundle.shell(&program(kind));
    bundle.set("/process/terminal", json!(kind == Kind::Terminal));
    process(&mut bundle);
    limits(&mut bundle);
    bundle.set("/linux/cgroupsPath", json!(format!("/{id}")));
    bundle.set("/root/readonly", json!(true));
    bundle.set("/linux/sysctl", json!({ "kernel.msgmax": "4096" }));
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
        }),
    );
    let bind = |from: &str, to: &str| json!({ "destination": to, "type": "bind", "source": from, "options": ["bind", "rw"] });
    bundle.set("/mounts/-", bind(&out.display().to_string(), "/out"));
    // The host has it, and no rule allows it.
    bundle.set("/mounts/-", bind("/dev/kmsg", "/dev/forbidden"));
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"] }),
    );
    let mut namespaces: Vec<Value> =
        ["network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind })).into();
    namespaces.push(match holder.filter(|_| kind == Kind::Pid) {
        Some(pid) => json!({ "type": "pid", "path": format!("/proc/{pid}/ns/pid") }),
        None => json!({ "type": "pid" }),
    });
    if kind == Kind::User {
        namespaces.push(json!({ "type": "user" }));
        for map in ["/linux/uidMappings", "/linux/gidMappings"] {
            bundle.set(map, json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]));
        }
    }
    bundle.set("/linux/namespaces", json!(namespaces));
    for stage in HOOKS {
        let file = if stage == "startContainer" {
            "/out/hooks".to_owned()
        } else {
            format!("{}/hooks", out.display())
        };
        let script = format!("echo {stage} >>{file}");
        bundle.set(&format!("/hooks/{stage}"), json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]));
    }
    bundle.save();
    bundle
}

fn program(kind: Kind) -> String {
    let brief = matches!(kind, Kind::Brief | Kind::Terminal);
    let (before, after) = match kind {
        // criu ends what a sleep(1) waits for.
        Kind::Saved => (
            "exec </dev/null >/dev/null 2>&1",
            "echo sleep >/proc/self/comm; while :; do sleep 1000; done".to_owned(),
        ),
        _ if brief => ("", format!("echo printed\nexit {CODE}")),
        _ => ("", "exec sleep 1000".to_owned()),
    };
    format!("{before}{}{after}", PROGRAM.replace("MORE", if brief { MORE } else { "" }))
}

fn process(bundle: &mut Bundle) {
    let capabilities = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let sets = json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
    bundle.set("/process/capabilities", sets);
    bundle.set("/process/noNewPrivileges", json!(true));
    bundle.set("/process/oomScoreAdj", json!(300));
    bundle.set("/process/user", json!({ "uid": 0, "gid": 0, "umask": 23, "additionalGids": [10, 20] }));
    bundle.set(
        "/process/rlimits",
        json!([
            { "type": "RLIMIT_NOFILE", "hard": 100, "soft": 90 },
            { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 }
        ]),
    );
}

fn limits(bundle: &mut Bundle) {
    let mut memory = json!({ "limit": 64 << 20, "reservation": 32 << 20 });
    let own = i64::from(std::process::id());
    if Cgroup::of(own, "memory").is_some_and(|c| !c.v2 && c.path.join("memory.memsw.limit_in_bytes").exists())
    {
        memory["swap"] = json!(96 << 20);
    }
    let mut resources = json!({
        "memory": memory,
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 },
        "pids": { "limit": 50 },
        "devices": [{ "allow": false, "access": "rwm" }]
    });
    // A guest may lack it.
    if Cgroup::of(own, "cpuset")
        .is_some_and(|c| ["cpuset.cpus", "cpuset.cpus.effective"].iter().any(|f| c.path.join(f).exists()))
    {
        resources["cpu"]["cpus"] = json!("0");
    }
    bundle.set("/linux/resources", resources);
}
