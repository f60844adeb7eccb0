//! The config that is mutated: valid, and with a field of every kind whose effect can be seen from outside.

use serde_json::json;

use crate::common::Bundle;

pub const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// What hooks write to, in the bundle and in the root of the container.
pub const MARKS: &str = "hooks-ran";

pub fn fill(bundle: &mut Bundle) {
    let share = bundle.path.join("share");
    std::fs::create_dir_all(&share).expect("a folder to mount");
    let capabilities = json!(["CAP_KILL", "CAP_CHOWN"]);
    bundle.args(&["sleep", "1000"]);
    bundle.set("/process/user", json!({ "uid": 0, "gid": 0, "umask": 23, "additionalGids": [2000] }));
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        bundle.set(&format!("/process/capabilities/{set}"), capabilities.clone());
    }
    bundle.set(
        "/process/rlimits",
        json!([
            { "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512 },
            { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 }
        ]),
    );
    bundle.set("/process/oomScoreAdj", json!(300));
    bundle.set("/annotations", json!({ "org.example.a": "b" }));
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/mnt", "type": "bind", "source": share, "options": ["rbind", "ro"] }),
    );
    for name in HOOKS {
        let mark = if name == "startContainer" {
            format!("/{MARKS}")
        } else {
            bundle.path.join(MARKS).to_str().expect("UTF-8").to_owned()
        };
        let script = format!("echo {name} >>{mark}");
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 10 });
        bundle.set(&format!("/hooks/{name}"), json!([hook]));
    }
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    bundle.set(
        "/linux/resources",
        json!({
            "devices": [
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" }
            ],
            "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
            "cpu": { "shares": 512, "quota": 50000, "period": 100_000 },
            "pids": { "limit": 64 }
        }),
    );
    bundle.set(
        "/linux/devices",
        json!([{ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0 }]),
    );
    bundle.set("/linux/rootfsPropagation", json!("private"));
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
                { "names": ["kexec_load", "reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
                { "names": ["personality"], "action": "SCMP_ACT_ERRNO",
                  "args": [{ "index": 0, "value": 7, "valueTwo": 0, "op": "SCMP_CMP_EQ" }] }
            ]
        }),
    );
}
