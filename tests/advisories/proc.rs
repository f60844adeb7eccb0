//! A /proc that is not the container's own: labels and parameters would be written into files of the image.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::common::*;

#[test]
fn no_volume_covers_proc_or_what_is_in_it() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let volume = sandbox.path("volume");
    fs::create_dir_all(volume.join("self/attr")).expect("a folder");
    fs::write(volume.join("exec"), "").expect("a file");
    let tmpfs = |destination: &str| json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" });
    let bind = |destination: &str, source: &str| json!({ "destination": destination, "type": "bind", "source": volume.join(source), "options": ["bind"] });
    for (number, mount) in [
        tmpfs("/proc"),
        tmpfs("/proc/self/attr"),
        tmpfs("/link/self/attr"),
        tmpfs("/tmp/../proc/sys"),
        bind("/proc", ""),
        bind("/link", ""),
        bind("/proc/self/attr", ""),
        bind("/proc/self/attr/exec", "exec"),
        bind("/proc/thread-self/attr/exec", "exec"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = sandbox.bundle();
        symlink("/proc", bundle.rootfs("link")).expect("a link");
        bundle.set("/mounts/-", mount.clone()).shell("echo ran");
        let outcome = sandbox.run_command(&mut bundle, &format!("cover{number}")).run();
        assert!(outcome.code != 0 && !outcome.stdout.contains("ran"), "{mount}: {outcome}");
    }
}

/// An image that has its own /proc, with files that take whatever is written, and a config that mounts none.
fn with_proc_of_the_image(sandbox: &Sandbox) -> Bundle {
    let mut bundle = sandbox.bundle();
    bundle.config["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["destination"] != "/proc");
    bundle.unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
    for file in FORGED {
        let path = bundle.rootfs(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, "").expect("a file");
    }
    for link in ["proc/self", "proc/thread-self"] {
        symlink("/proc/1", bundle.rootfs(link)).expect("a link");
    }
    bundle
}

const FORGED: [&str; 5] = [
    "proc/sys/kernel/domainname",
    "proc/1/attr/exec",
    "proc/1/attr/apparmor/exec",
    "proc/1/attr/keycreate",
    "proc/1/oom_score_adj",
];

#[test]
fn what_is_set_by_proc_is_set_in_the_kernel_and_not_in_files_of_the_image() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = with_proc_of_the_image(&sandbox);
    bundle
        .set("/linux/sysctl", json!({ "kernel.domainname": "real.example" }))
        .set("/process/oomScoreAdj", json!(321));
    let id = sandbox.start(&mut bundle, "forged");
    let pid = sandbox.pid(&id).to_string();
    let name = Run::new("nsenter").args(["-t", &pid, "-u", "cat", "/proc/sys/kernel/domainname"]).ok();
    assert_eq!(name.stdout, "real.example\n");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score"), "321\n");
    for file in FORGED {
        assert_eq!(fs::read_to_string(bundle.rootfs(file)).expect("a file"), "", "{file}");
    }
}

#[test]
fn a_label_that_only_files_of_the_image_take_is_an_error() {
    if !needs_root() {
        return;
    }
    if std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        return skip("a kernel without AppArmor");
    }
    let sandbox = Sandbox::new();
    let mut bundle = with_proc_of_the_image(&sandbox);
    bundle.set("/process/apparmorProfile", json!("confined")).shell("echo ran");
    let outcome = sandbox.run_command(&mut bundle, "label").run();
    assert!(outcome.code != 0 && !outcome.stdout.contains("ran"), "{outcome}");
}
