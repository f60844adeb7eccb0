//! Images whose /dev, or what is in it, leads to the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::*;
use crate::host::HostFolder;

/// Without the mounts at and below /dev that `keep` refuses: the image's own /dev is what the runtime finds.
fn without_dev(bundle: &mut Bundle, keep: impl Fn(&str) -> bool) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    let destination = |mount: &Value| mount["destination"].as_str().unwrap_or_default().to_owned();
    mounts.retain(|mount| !destination(mount).starts_with("/dev") || keep(&destination(mount)));
}

fn replace_by_link(path: &Path, target: &str) {
    let _ = fs::remove_dir_all(path);
    symlink(target, path).expect("a link");
}

#[test]
fn a_dev_that_is_a_link_makes_and_removes_nothing_on_the_host() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let host = HostFolder::new(&sandbox);
    let ids = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
    for (number, link) in host.links().iter().enumerate() {
        for (kind, user_namespace, mounted) in
            [("plain", false, false), ("user", true, false), ("mount", false, true)]
        {
            let mut bundle = sandbox.bundle();
            without_dev(&mut bundle, |_| mounted);
            replace_by_link(&bundle.rootfs("dev"), link);
            let device =
                json!({ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "uid": 7, "gid": 7 });
            bundle.set("/linux/devices/-", device).shell("cat /dev/secret; echo x > /dev/x; true");
            if user_namespace {
                bundle.set("/linux/namespaces/-", json!({ "type": "user" }));
                bundle.set("/linux/uidMappings", ids.clone()).set("/linux/gidMappings", ids.clone());
            }
            let outcome = sandbox.run_command(&mut bundle, &format!("{kind}{number}")).run();
            host.assert_untouched(&outcome);
        }
    }
}

#[test]
fn a_console_that_is_a_link_makes_nothing_on_the_host() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let host = HostFolder::new(&sandbox);
    for (number, link) in host.links().iter().enumerate() {
        for (name, target) in [("new", format!("{link}/made")), ("old", format!("{link}/console"))] {
            let mut bundle = sandbox.bundle();
            without_dev(&mut bundle, |destination| destination == "/dev/pts");
            fs::create_dir(bundle.rootfs("dev/pts")).expect("a folder");
            replace_by_link(&bundle.rootfs("dev/console"), &target);
            bundle.set("/process/terminal", json!(true)).set("/root/readonly", json!(number == 1));
            bundle.shell("cat /dev/console; true");
            let id = sandbox.id(&format!("{name}{number}"));
            let socket = ConsoleSocket::new(&sandbox.path(&format!("{name}{number}")));
            let create = sandbox.create_command(&mut bundle, &id).arg("--console-socket").arg(&socket.path);
            host.assert_untouched(&create.run());
        }
    }
}

#[test]
fn a_forged_terminal_never_becomes_the_console() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    without_dev(&mut bundle, |_| false);
    // A multiplexer of the host's, beside which every terminal has the name of a file.
    fs::create_dir(bundle.rootfs("dev/pts")).expect("a folder");
    fs::write(bundle.rootfs("victim"), "").expect("a file");
    for number in 0..64 {
        symlink("/victim", bundle.rootfs(&format!("dev/pts/{number}"))).expect("a link");
    }
    let ptmx = json!({ "destination": "/dev/pts/ptmx", "type": "bind", "source": "/dev/pts/ptmx", "options": ["bind"] });
    bundle.set("/mounts/-", ptmx).set("/process/terminal", json!(true));
    bundle.shell("sleep 1000");
    let id = sandbox.id("forged");
    let socket = ConsoleSocket::new(&sandbox.path("socket"));
    let created = sandbox.create_command(&mut bundle, &id).arg("--console-socket").arg(&socket.path).run();
    if created.code == 0 {
        let kind = sandbox.exec(&id, "stat -c %F /dev/console").succeeds().stdout;
        assert_eq!(kind, "character special file\n", "the console is a file of the image");
    }
}

#[test]
fn a_null_device_that_is_a_link_gives_no_file_away() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let host = HostFolder::new(&sandbox);
    let mut bundle = sandbox.bundle();
    without_dev(&mut bundle, |_| false);
    symlink("/bound/secret", bundle.rootfs("dev/null")).expect("a link");
    let bind =
        json!({ "destination": "/bound", "type": "bind", "source": host.path, "options": ["bind", "rw"] });
    bundle.set("/mounts/-", bind).set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.shell("cat; echo overwritten > /proc/self/fd/0");
    host.assert_untouched(&sandbox.run_command(&mut bundle, "null").run());
}
