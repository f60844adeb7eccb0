//! What a hostile image or process may try: links out of the root, the runtime's descriptors, the runtime's own binary.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::*;
use serde_json::json;

const SECRET: &str = "text of the host that no container may see or change";

/// A folder on the host with a secret, and links to it from the image, absolute and relative.
fn host_folder(sandbox: &Sandbox) -> std::path::PathBuf {
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("secret"), SECRET).expect("a file");
    outside
}

fn assert_untouched(outside: &Path) {
    let names: Vec<_> = fs::read_dir(outside).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["secret"], "the container changed a folder of the host");
    assert_eq!(fs::read_to_string(outside.join("secret")).expect("a file"), SECRET);
}

fn links_to(outside: &Path) -> [String; 2] {
    [outside.display().to_string(), format!("../../../../../../../..{}", outside.display())]
}

#[test]
fn a_mount_never_follows_a_link_out_of_the_root() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let outside = host_folder(&sandbox);
    for (number, link) in links_to(&outside).iter().enumerate() {
        let mut bundle = sandbox.bundle();
        symlink(link, bundle.rootfs("link")).expect("a link");
        bundle.set("/mounts/-", json!({ "destination": "/link/made", "type": "tmpfs", "source": "tmpfs" }));
        let file = json!({ "destination": "/link/file", "type": "bind", "source": "/etc/hostname", "options": ["bind", "ro"] });
        bundle
            .set("/mounts/-", file)
            .shell("cat /link/secret; echo x > /link/made/x; echo x > /link/x; true");
        let outcome = sandbox.run_command(&mut bundle, &format!("mount{number}")).run();
        assert!(!outcome.text().contains(SECRET), "{outcome}");
        assert_untouched(&outside);
    }
}

#[test]
fn proc_and_sys_are_never_mounted_through_a_link() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    for name in ["proc", "sys"] {
        fs::remove_dir(bundle.rootfs(name)).expect("an empty folder");
        fs::create_dir(bundle.rootfs(&format!("other-{name}"))).expect("a folder");
        symlink(format!("/other-{name}"), bundle.rootfs(name)).expect("a link");
    }
    bundle.shell("test -e /other-proc/self && echo escaped");
    let outcome = sandbox.run_command(&mut bundle, "proc").run();
    assert!(!outcome.stdout.contains("escaped"), "{outcome}");
}

#[test]
fn masks_and_read_only_paths_never_follow_a_link_out_of_the_root() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let outside = host_folder(&sandbox);
    let mut bundle = sandbox.bundle();
    symlink(outside.join("secret"), bundle.rootfs("masked")).expect("a link");
    symlink(&outside, bundle.rootfs("readonly")).expect("a link");
    bundle.set("/linux/maskedPaths/-", json!("/masked")).set("/linux/readonlyPaths/-", json!("/readonly"));
    bundle.shell("cat /masked; ls /readonly; sleep 1000");
    let id = sandbox.id("mask");
    let path = sandbox.prepare(&mut bundle, &id);
    let outcome = sandbox.rt(["run", "--detach", "--bundle", &path, &id]).run();
    assert!(!outcome.text().contains(SECRET), "{outcome}");
    assert_untouched(&outside);
    fs::write(outside.join("secret"), SECRET).expect("the host's file must stay writable");
}

#[test]
fn a_mask_is_never_made_of_a_file_that_the_image_put_at_dev_null() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    // No /dev of the runtime: the image's own is used, and its null is a link to a dangerous file.
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|m| !m["destination"].as_str().is_some_and(|d| d.starts_with("/dev")));
    symlink("/proc/sys/kernel/core_pattern", bundle.rootfs("dev/null")).expect("a link");
    fs::write(bundle.rootfs("victim"), "masked text").expect("a file");
    bundle.set("/linux/maskedPaths/-", json!("/victim")).shell("cat /victim; echo '|/evil' > /victim");
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    let outcome = sandbox.run_command(&mut bundle, "null").run();
    let after = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    assert_eq!(before, after);
    assert!(!outcome.stdout.contains(before.trim()) && !outcome.stdout.contains("masked text"), "{outcome}");
}

#[test]
fn a_working_directory_cannot_be_a_descriptor_of_the_runtime() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let outside = host_folder(&sandbox);
    let script = format!(
        "cat ../../../../../../../../../..{0}/secret {0}/secret ./secret 2>/dev/null; true",
        outside.display()
    );
    for number in 3..16 {
        let mut bundle = sandbox.bundle();
        bundle.set("/process/cwd", json!(format!("/proc/self/fd/{number}"))).shell(&script);
        let outcome = sandbox.run_command(&mut bundle, &format!("cwd{number}")).run();
        assert!(!outcome.text().contains(SECRET), "{outcome}");
    }
    let id = sandbox.start(&mut sandbox.bundle(), "exec");
    for number in 3..16 {
        let cwd = format!("/proc/self/fd/{number}");
        let outcome = sandbox.rt(["exec", "--cwd", &cwd, &id, "sh", "-c", &script]).run();
        assert!(!outcome.text().contains(SECRET), "{outcome}");
    }
}

/// Runs the runtime with descriptors 7, 8 and 23 open, as careless callers do.
fn leaking(sandbox: &Sandbox, args: &[&str]) -> Run {
    let script = "exec 7</etc/hostname 8</ 23</etc/passwd; exec \"$0\" --root \"$@\"";
    let root = sandbox.root();
    Run::new("/bin/bash").args(["-c", script]).arg(Sandbox::binary()).arg(root).args(args)
}

#[test]
fn no_descriptor_reaches_the_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    // ls itself holds the folder it lists.
    let own = "0\n1\n2\n3\n";
    bundle.args(&["ls", "/proc/self/fd"]);
    let id = sandbox.id("run");
    let path = sandbox.prepare(&mut bundle, &id);
    assert_eq!(leaking(&sandbox, &["run", "--bundle", &path, &id]).ok().stdout, own);

    bundle.args(&["sleep", "1000"]);
    let id = sandbox.id("create");
    let path = sandbox.prepare(&mut bundle, &id);
    leaking(&sandbox, &["create", "--bundle", &path, &id]).ok();
    // While it waits init has the pipes for it, which are in its folder, and nothing else of the host.
    let folder = sandbox.root().join(&id);
    let numbers = fs::read_dir(format!("/proc/{}/fd", sandbox.pid(&id))).expect("descriptors");
    let files: Vec<_> = numbers.flatten().filter_map(|number| fs::read_link(number.path()).ok()).collect();
    let others: Vec<_> =
        files.iter().filter(|file| file.starts_with("/sys") || file.starts_with("/proc")).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(files.iter().filter(|file| file.starts_with(&folder)).count(), 2, "{files:?}");
    leaking(&sandbox, &["start", &id]).ok();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", sandbox.pid(&id))).map_or(0, Iterator::count);
    wait_until("three descriptors", || descriptors() == 3);
    assert_eq!(leaking(&sandbox, &["exec", &id, "ls", "/proc/self/fd"]).ok().stdout, own);
}

#[test]
fn only_descriptors_that_were_asked_for_are_kept() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.shell("cat <&3; ls /proc/self/fd | wc -l");
    let id = sandbox.id("keep");
    let path = sandbox.prepare(&mut bundle, &id);
    let given = sandbox.path("given");
    fs::write(&given, "given\n").expect("a file");
    let script = format!("exec 3<{} 4</ 5</; exec \"$0\" --root \"$@\"", given.display());
    let run = Run::new("/bin/bash").args(["-c", &script]).arg(Sandbox::binary()).arg(sandbox.root());
    let outcome = run.args(["run", "--preserve-fds", "1", "--bundle", &path, &id]).ok();
    assert_eq!(outcome.stdout, "given\n5\n");
}

#[test]
fn a_bounding_set_that_cannot_be_cut_is_told() {
    // runc keeps it without a word.
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let run = |bundle: &mut Bundle, name: &str| {
        let id = sandbox.id(name);
        let path = sandbox.prepare(bundle, &id);
        let rt = Sandbox::binary().display().to_string();
        let root = sandbox.root().display().to_string();
        let without = ["--bounding-set=-setpcap", "--inh-caps=-setpcap"];
        let rt = [&rt, "--root", &root, "run", "--bundle", &path, &id];
        Run::new("setpriv").args(without).args(rt).run()
    };
    let capabilities = |bounding: &[&str]| json!({ "bounding": bounding, "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] });
    let mut bundle = sandbox.bundle();
    bundle.args(&["grep", "^Cap", "/proc/self/status"]);
    bundle
        .set("/process/capabilities", capabilities(&["CAP_KILL"]))
        .set("/process/noNewPrivileges", json!(false));
    let refused = run(&mut bundle, "refused");
    refused.fails_with("unable to apply bounding set: operation not permitted");

    bundle.set("/process/noNewPrivileges", json!(true));
    let kept = run(&mut bundle, "kept").succeeds();
    let warning = "cannot drop capabilities from the bounding set without CAP_SETPCAP: [CAP_CHOWN ";
    assert_eq!(kept.stderr.matches(warning).count(), 1, "{kept}");
    assert!(kept.stdout.contains("CapEff:\t0000000000000020"), "{kept}");

    // All that the caller has: nothing is kept that was not asked for.
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let own = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("a line");
    let own = u64::from_str_radix(own.trim(), 16).expect("a mask");
    let names = rt::runtime::process::capabilities::NAMES;
    let all: Vec<&str> =
        names.into_iter().enumerate().filter(|(n, _)| own >> n & 1 == 1).map(|(_, name)| name).collect();
    bundle.set("/process/capabilities", capabilities(&all)).set("/process/noNewPrivileges", json!(false));
    assert_eq!(run(&mut bundle, "all").succeeds().stderr, "");
}

#[test]
fn the_binary_cannot_be_overwritten_from_a_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let copy = sandbox.path("runtime");
    fs::copy(Sandbox::binary(), &copy).expect("a copy of the binary");
    let before = fs::read(&copy).expect("the binary");
    let mut bundle = sandbox.bundle();
    bundle.program("/bin/evil", "#!/proc/self/exe\n");
    // Holds on to the program file of every process that appears, and writes to it once it is free.
    let attack = "echo ready > /ready; while true; do for p in /proc/[0-9]*; do \
        case $(readlink $p/exe) in */busybox|'') ;; *) exec 9<$p/exe && echo caught >> /caught; \
        for i in 1 2 3 4 5 6 7 8 9 10; do { echo overwritten > /proc/self/fd/9 && echo written >> /caught; } 2>/dev/null; done;; esac; \
        done; done 2>/dev/null";
    bundle.shell(attack);
    let id = sandbox.start(&mut bundle, "overwrite");
    wait_until("the attack", || bundle.rootfs("ready").exists());
    let root = sandbox.root();
    for _ in 0..15 {
        let exec = Run::new(&copy).arg("--root").arg(&root).args(["exec", &id, "/bin/evil"]).run();
        assert!(exec.code != 0, "{exec}");
    }
    assert!(fs::read(&copy).expect("the binary") == before, "the runtime's binary was overwritten");

    // The same at create: the entry point is the runtime itself.
    let mut bundle = sandbox.bundle();
    bundle.program("/entry", "#!/proc/self/exe\n");
    bundle.args(&["/entry"]);
    let id = sandbox.id("entry");
    let path = sandbox.prepare(&mut bundle, &id);
    let _ = Run::new(&copy).arg("--root").arg(&root).args(["run", "--bundle", &path, &id]).run();
    assert!(fs::read(&copy).expect("the binary") == before, "the runtime's binary was overwritten");
}

#[test]
fn the_root_of_the_host_is_out_of_reach() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let outside = host_folder(&sandbox);
    let mut bundle = sandbox.bundle();
    let script = format!(
        "for p in / /.. /proc/1/root /proc/self/root/../..; do ls $p{}; done; cat /proc/self/mountinfo",
        outside.display()
    );
    bundle.shell(&script);
    let outcome = sandbox.run_command(&mut bundle, "root").run();
    assert!(!outcome.stdout.contains("secret"), "{outcome}");
    // Only what config.json lists is mounted.
    let mounts = outcome.stdout.lines().filter(|l| l.contains(" - ")).count();
    assert!(mounts < 40, "{outcome}");
}

#[test]
fn a_user_or_group_file_without_end_is_not_read_for_ever() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    fs::remove_file(bundle.rootfs("etc/passwd")).expect("to remove a file");
    symlink("/dev/zero", bundle.rootfs("etc/passwd")).expect("a link");
    bundle.set("/process/env", json!(["PATH=/bin", sandbox.mark()])).shell("echo ran");
    // Refusing is as good as going on.
    let outcome = sandbox.run_command(&mut bundle, "zero").run();
    assert!(outcome.took < PATIENCE);
}

/// Sets the title of a terminal and rings its bell, clears it, and the same by C1.
const COMMANDS: &str = "\x1b]0;x\x07\x1b[2J\u{9b}2J";

#[test]
fn no_name_and_no_output_commands_the_terminal() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let is_harmless = |what: &str, outcome: &Outcome| {
        let text = outcome.text();
        assert!(
            text.contains("\\u001b") || text.contains("\\x1b") || text.contains("\\u{1b}"),
            "{what}: {outcome}"
        );
        assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{what}: {text:?}");
    };
    is_harmless("an id", &sandbox.rt(["state", COMMANDS]).run().fails_with("format"));
    let mount = |source: &str| json!({ "destination": "/x", "source": source, "options": ["bind"] });
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", "printf '\\033[2J\\a' >&2; exit 1"] });
    let cases = [
        ("a mount", "/mounts/-", mount(&format!("/no/{COMMANDS}"))),
        ("a program", "/process/args", json!([format!("/{COMMANDS}")])),
        ("a user's folder", "/process/cwd", json!(format!("/proc/{COMMANDS}"))),
        ("a hook", "/hooks/createRuntime/-", hook.clone()),
        ("a hook inside", "/hooks/createContainer/-", hook),
    ];
    for (what, pointer, value) in cases {
        let mut bundle = sandbox.bundle();
        bundle.set(pointer, value);
        is_harmless(what, &sandbox.run_command(&mut bundle, "hostile").run());
    }
    let record = json!({ "started_at": COMMANDS, "id": COMMANDS, "verdict": COMMANDS, "sentence": COMMANDS });
    let file = sandbox.path("rt-proofs.jsonl");
    std::fs::write(&file, record.to_string()).expect("a file");
    let report = sandbox.rt(["report"]).arg(&file).run();
    assert!(!report.text().contains('\x1b') && !report.text().contains('\x07'), "{report}");
}
