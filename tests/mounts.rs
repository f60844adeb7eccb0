//! Mounts as a container sees them, and as the host sees them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use nix::mount::{MsFlags, mount};
use serde_json::json;

/// Mounts a tmpfs, shared with every mount namespace that is made from now on.
fn shared_tmpfs(path: &Path) {
    let none: Option<&str> = None;
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
    mount(none, path, none, MsFlags::MS_SHARED, none).expect("a shared mount");
}

/// The optional fields of the mount at `point` in the mountinfo of a container: `shared`, `master`, `unbindable`.
fn propagation(sandbox: &Sandbox, id: &str, point: &str) -> Vec<String> {
    let table = sandbox.exec(id, "cat /proc/self/mountinfo").succeeds().stdout;
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(point)).expect("a mount");
    let fields = line.split(' ').skip(6).take_while(|field| *field != "-");
    fields.map(|field| field.split(':').next().unwrap_or(field).to_owned()).collect()
}

/// A bundle on a shared mount of the host, with a mount beneath its root that is shared too. The container may mount.
fn on_a_shared_mount(sandbox: &Sandbox) -> Bundle {
    let folder = sandbox.path(&format!("shared-{}", sandbox.id("mount")));
    fs::create_dir(&folder).expect("a folder");
    shared_tmpfs(&folder);
    let mut bundle = Bundle::new(&folder.join("bundle"), sandbox.mark());
    for name in ["late", "beneath", "inside"] {
        fs::create_dir(bundle.rootfs(name)).expect("a folder");
    }
    shared_tmpfs(&bundle.rootfs("beneath"));
    for kind in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{kind}/-"), json!("CAP_SYS_ADMIN"));
    }
    bundle
}

#[test]
fn the_root_has_the_propagation_that_is_asked_for() {
    if !needs_root() {
        return;
    }
    let none: &[&str] = &[];
    // Of the root and of the mount beneath it; whether what the host mounts later is seen in the container.
    let cases: [(&str, &[&str], &[&str], bool); 8] = [
        ("private", none, &["shared"], false),
        ("rprivate", none, none, false),
        ("slave", &["master"], &["shared"], true),
        ("rslave", &["master"], &["master"], true),
        ("shared", &["shared"], &["shared"], false),
        ("rshared", &["shared"], &["shared"], false),
        ("unbindable", &["unbindable"], &["shared"], false),
        ("", none, &["master"], false),
    ];
    for (asked, root, beneath, seen) in cases {
        let sandbox = Sandbox::new();
        let mut bundle = on_a_shared_mount(&sandbox);
        bundle.set("/linux/rootfsPropagation", json!(asked));
        let id = sandbox.start(&mut bundle, "propagation");
        assert_eq!(propagation(&sandbox, &id, "/"), root, "{asked}");
        assert_eq!(propagation(&sandbox, &id, "/beneath"), beneath, "{asked}: beneath the root");
        let late = bundle.rootfs("late");
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &late, tmpfs, MsFlags::empty(), None::<&str>).expect("a tmpfs");
        fs::write(late.join("file"), "").expect("a file");
        assert_eq!(sandbox.exec(&id, "test -e /late/file").code == 0, seen, "{asked}: mounted on the host");
        sandbox.exec(&id, "mount -t tmpfs tmpfs /inside && touch /inside/file").succeeds();
        assert!(!bundle.rootfs("inside/file").exists(), "{asked}: mounted in the container");
        sandbox.delete(&id);
    }
}

#[test]
fn a_shared_volume_stays_shared_under_a_root_that_is_a_slave() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = on_a_shared_mount(&sandbox);
    let volume = sandbox.path("volume");
    fs::create_dir(&volume).expect("a folder");
    shared_tmpfs(&volume);
    let options = ["rbind", "rshared"];
    bundle.set("/mounts/-", json!({ "destination": "/volume", "source": volume, "options": options }));
    bundle.set("/linux/rootfsPropagation", json!("rslave"));
    let id = sandbox.start(&mut bundle, "volume");
    assert_eq!(propagation(&sandbox, &id, "/volume"), ["shared", "master"]);
}

#[test]
fn a_folder_on_a_file_and_a_file_on_a_folder_are_told_as_dockerd_expects() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let file = sandbox.path("file");
    fs::write(&file, "").expect("a file");
    let folder = sandbox.path("folder");
    fs::create_dir(&folder).expect("a folder");
    let cases: [(&str, &str, &PathBuf); 3] =
        [("bind", "/etc/passwd", &folder), ("bind", "/etc", &file), ("tmpfs", "/etc/passwd", &folder)];
    for (kind, destination, source) in cases {
        let mut bundle = sandbox.bundle();
        let options: &[&str] = if kind == "bind" { &["rbind"] } else { &[] };
        let mount = json!({ "type": kind, "destination": destination, "source": source, "options": options });
        bundle.set("/mounts/-", mount);
        let id = sandbox.id("kinds");
        let failed = sandbox.create_command(&mut bundle, &id).run().fails_with(": not a directory");
        let words = format!("error mounting {source:?} to rootfs at {destination:?}: ");
        assert!(failed.stderr.contains(&words), "{failed}");
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_user_namespace_with_the_hosts_network_has_its_sys_read_only() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.with_new_user();
    let namespaces = ["mount", "pid", "ipc", "uts", "user"].map(|name| json!({ "type": name }));
    bundle.set("/linux/namespaces", json!(namespaces));
    let id = sandbox.start(&mut bundle, "sys");
    let interfaces = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let host = Run::new("ls").arg("/sys/class/net").ok();
    let inside = sandbox.exec(&id, "ls /sys/class/net").succeeds();
    assert_eq!(interfaces(&inside.stdout), interfaces(&host.stdout));
    // Its cgroups, too, and whatever else is mounted there.
    sandbox.delete(&id);
    bundle.unset("/linux/maskedPaths");
    let id = sandbox.start(&mut bundle, "unmasked");
    let mounts = sandbox.exec(&id, "grep ' /sys' /proc/self/mounts").succeeds().stdout;
    for line in mounts.lines() {
        let options: Vec<_> = line.split(' ').nth(3).unwrap_or_default().split(',').collect();
        assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| options.contains(flag)), "{line}");
    }
    assert!(mounts.lines().count() > 1, "{mounts}");
    sandbox.delete(&id);
    // Nobody gets a writable one.
    for mount in bundle.config["mounts"].as_array_mut().expect("mounts") {
        if mount["destination"] == "/sys" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
    let id = sandbox.id("writable");
    sandbox.create_command(&mut bundle, &id).run().fails_with("operation not permitted");
    sandbox.assert_nothing_left(&id);
}
