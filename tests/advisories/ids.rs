//! Who a container's process is: users, groups, capabilities, environment.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::common::*;

#[test]
fn a_user_of_digits_is_the_number_whatever_passwd_says() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let passwd = "1000:x:0:0::/:/bin/sh\n1:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n";
    fs::write(bundle.rootfs("etc/passwd"), passwd).expect("passwd");
    fs::write(bundle.rootfs("etc/group"), "1000:x:0:\n1:x:0:\n").expect("group");
    let id = sandbox.start(&mut bundle, "digits");
    for (user, ids) in [("1000", "1000 0\n"), ("1", "1 0\n"), ("1:1", "1 1\n"), ("1000:1", "1000 1\n")] {
        let shown = sandbox.rt(["exec", "--user", user, &id, "sh", "-c", "echo $(id -u) $(id -g)"]).ok();
        assert_eq!(shown.stdout, ids, "{user}");
    }
}

#[test]
fn a_number_that_is_no_uid_never_becomes_root() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "exec");
    for number in [-1_i64, 4_294_967_295, 4_294_967_296] {
        for key in ["uid", "gid"] {
            let mut bundle = sandbox.bundle();
            bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
            bundle.set(&format!("/process/user/{key}"), json!(number)).shell("echo ran");
            let outcome = sandbox.run_command(&mut bundle, &format!("{key}{number}")).run();
            assert!(outcome.code != 0 && !outcome.stdout.contains("ran"), "{key} {number}: {outcome}");
        }
        for user in [format!("--user={number}"), format!("--user=1000:{number}")] {
            let outcome = sandbox.rt(["exec", &user, &id, "echo", "ran"]).run();
            assert!(outcome.code != 0 && !outcome.stdout.contains("ran"), "{user}: {outcome}");
        }
    }
}

#[test]
fn no_capability_is_inheritable_or_ambient_unasked() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let none = "0".repeat(16);
    let sets = "grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status | tr -d '\\n\\t'";
    let mut bundle = sandbox.bundle();
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 })).shell(sets);
    let shown = sandbox.run_command(&mut bundle, "user").ok().stdout;
    assert_eq!(shown, format!("CapInh:{none}CapPrm:{none}CapEff:{none}CapAmb:{none}"));

    let id = sandbox.start(&mut sandbox.bundle(), "exec");
    for user in ["0", "1000"] {
        for flags in [&[][..], &["--cap", "CAP_NET_RAW"]] {
            let run = sandbox.rt(["exec", "--user", user]).args(flags).args([&id, "sh", "-c", sets]);
            let shown = run.ok().stdout;
            assert!(shown.contains(&format!("CapInh:{none}")), "{user} {flags:?}: {shown}");
            let is_plain = user == "1000" && flags.is_empty();
            assert!(!is_plain || shown.ends_with(&format!("CapEff:{none}CapAmb:{none}")), "{user}: {shown}");
        }
    }
}

#[test]
fn groups_are_those_of_the_config_and_not_the_callers() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [2000] }));
    bundle.args(&["grep", "^Groups", "/proc/self/status"]);
    let id = sandbox.id("groups");
    let path = sandbox.prepare(&mut bundle, &id);
    let run = Run::new("setpriv")
        .args(["--groups", "7,8"])
        .arg(Sandbox::binary())
        .arg("--root")
        .arg(sandbox.root());
    assert_eq!(run.args(["run", "--bundle", &path, &id]).ok().stdout.trim_end(), "Groups:\t2000");
}

#[test]
fn no_variable_of_the_caller_reaches_the_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    for (number, name) in ["HOST_SECRET", "HOST_*", "*", "$HOST_SECRET"].iter().enumerate() {
        let mut bundle = sandbox.bundle();
        bundle.set("/process/env/-", json!(name)).args(&["env"]);
        let run =
            sandbox.run_command(&mut bundle, &format!("env{number}")).env("HOST_SECRET", "of-the-caller");
        let outcome = run.run();
        assert!(!outcome.text().contains("of-the-caller"), "{name}: {outcome}");
    }
    let id = sandbox.start(&mut sandbox.bundle(), "exec");
    let exec =
        sandbox.rt(["exec", "--env", "HOST_SECRET", &id, "env"]).env("HOST_SECRET", "of-the-caller").run();
    assert!(!exec.text().contains("of-the-caller"), "{exec}");
}

#[test]
fn the_state_of_a_container_is_closed_to_other_users() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.create(&mut sandbox.bundle(), "closed");
    let mode = fs::metadata(sandbox.root()).expect("the root").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
