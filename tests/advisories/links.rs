//! Links of an image on paths that the config names: what is made there is made inside, and what is protected there is
//! what was mounted.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::common::*;
use crate::host::HostFolder;

#[test]
fn a_working_directory_behind_a_link_is_made_inside() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let host = HostFolder::new(&sandbox);
    for (number, link) in host.links().iter().enumerate() {
        let mut bundle = sandbox.bundle();
        symlink(link, bundle.rootfs("work")).expect("a link");
        bundle.set("/process/cwd", json!("/work/a/b")).shell("pwd -P; cat ../../secret; true");
        let outcome = sandbox.run_command(&mut bundle, &format!("cwd{number}")).run();
        host.assert_untouched(&outcome);
    }
}

#[test]
fn a_link_that_is_copied_is_made_inside() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let host = HostFolder::new(&sandbox);
    let source = sandbox.path("source");
    symlink("/proc/mounts", &source).expect("a link");
    for (number, link) in host.links().iter().enumerate() {
        let mut bundle = sandbox.bundle();
        fs::remove_dir_all(bundle.rootfs("etc")).expect("to remove a folder");
        symlink(link, bundle.rootfs("etc")).expect("a link");
        let options = ["bind", "copy-symlink"];
        bundle.set(
            "/mounts/-",
            json!({ "destination": "/etc/mtab", "type": "bind", "source": source, "options": options }),
        );
        bundle.shell("true");
        host.assert_untouched(&sandbox.run_command(&mut bundle, &format!("copy{number}")).run());
    }
}

#[test]
fn no_link_of_the_image_keeps_a_mount_writable() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    // Where these lead changes between the mount and the end of the setup: each process has its own.
    for (number, target) in
        ["/proc/self/cwd", "/proc/self/root", "/proc/thread-self/cwd/tmp"].iter().enumerate()
    {
        for kind in ["tmpfs", "bind"] {
            let mut bundle = sandbox.bundle();
            symlink(target, bundle.rootfs("link")).expect("a link");
            let bound = sandbox.path(&format!("{kind}{number}"));
            fs::create_dir(&bound).expect("a folder");
            let mut mount = json!({ "destination": "/link", "type": kind, "source": bound, "options": ["ro", "mode=777"] });
            if kind == "bind" {
                mount["options"] = json!(["bind", "ro"]);
            }
            bundle.set("/mounts/-", mount).set("/root/readonly", json!(true));
            bundle.shell("touch /made && echo root is writable; grep -E ' - tmpfs [^ ]*/tmpfs[0-9] ' /proc/self/mountinfo; \
                grep /bind[0-9] /proc/self/mountinfo; true");
            // Refusing is as good.
            let outcome = sandbox.run_command(&mut bundle, &format!("{kind}{number}")).run();
            assert!(!outcome.stdout.contains("writable"), "{outcome}");
            let writable = outcome
                .stdout
                .lines()
                .find(|line| !line.split(' ').nth(5).is_some_and(|o| o.starts_with("ro")));
            assert_eq!(writable, None, "a read-only mount can be written: {outcome}");
        }
    }
}
