//! exec: what the process gets, from flags, from a process file, from the container as it was created.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use serde_json::json;

#[test]
fn exec_returns_the_status_of_its_process() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "status");
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        let outcome = sandbox.exec(&id, script);
        assert_eq!(outcome.code, code, "{outcome}");
    }
    let outcome = sandbox.exec(&id, "echo out; echo err >&2");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    let outcome = sandbox.rt(["exec", &id, "cat"]).stdin("through stdin").ok();
    assert_eq!(outcome.stdout, "through stdin");
}

#[test]
fn exec_tells_a_missing_program_from_one_that_is_not_executable() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    fs::write(bundle.rootfs("plain"), "no program").expect("a file");
    let id = sandbox.start(&mut bundle, "program");
    for (program, words) in [
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/plain", "permission denied"),
    ] {
        let outcome = sandbox.rt(["exec", &id, program]).run().fails_with(words);
        assert_eq!(outcome.code, 255, "{outcome}");
    }
    assert_eq!(sandbox.status(&id), "running");
}

#[test]
fn exec_takes_user_groups_cwd_and_environment_from_flags() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "flags");
    let flags = [
        "--user",
        "1000:1001",
        "--additional-gids",
        "2000",
        "--cwd",
        "/tmp",
        "--env",
        "A=b c",
        "--env",
        "D=e",
    ];
    let script = "id -u; id -g; id -G; pwd; echo $A $D; echo $HOME";
    let outcome = sandbox.rt(["exec"]).args(flags).args([id.as_str(), "sh", "-c", script]).ok();
    // runc gives the additional group twice.
    let text = outcome.stdout.replace("2000 2000", "2000");
    assert_eq!(text, "1000\n1001\n1001 2000\n/tmp\nb c e\n/home/wendy\n");
}

#[test]
fn exec_inherits_environment_and_limits_of_the_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/process/env/-", json!("GREETING=hello")).set("/process/cwd", json!("/home"));
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000, "umask": 63 }));
    bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 200, "hard": 300 }]));
    let id = sandbox.start(&mut bundle, "inherit");
    let outcome = sandbox.exec(&id, "echo $GREETING; pwd; id -u; umask; ulimit -Sn; ulimit -Hn").succeeds();
    assert_eq!(outcome.stdout, "hello\n/home\n1000\n0077\n200\n300\n");
    let status = sandbox.exec(&id, "grep -E 'NoNewPrivs|CapBnd' /proc/self/status").succeeds().stdout;
    let container = fs::read_to_string(format!("/proc/{}/status", sandbox.pid(&id))).expect("a status");
    for line in status.lines() {
        assert!(container.contains(line), "{line} differs from the container's own");
    }
}

#[test]
fn exec_gets_the_score_of_the_container_for_the_oom_killer() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/process/oomScoreAdj", json!(345));
    let id = sandbox.start(&mut bundle, "adj");
    assert_eq!(sandbox.exec(&id, "cat /proc/self/oom_score_adj").succeeds().stdout, "345\n");
}

#[test]
fn exec_adds_capabilities_and_no_new_privileges() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/process/noNewPrivileges", json!(false));
    let id = sandbox.start(&mut bundle, "caps");
    let effective = |flags: &[&str]| {
        let args = [id.as_str(), "grep", "CapEff", "/proc/self/status"];
        let text = sandbox.rt(["exec"]).args(flags).args(args).ok().stdout;
        u64::from_str_radix(text.split_whitespace().last().unwrap_or_default(), 16).expect("a mask")
    };
    const SYS_PTRACE: u64 = 1 << 19;
    assert_eq!(effective(&[]) & SYS_PTRACE, 0);
    assert_eq!(effective(&["--cap", "CAP_SYS_PTRACE"]) & SYS_PTRACE, SYS_PTRACE);
    let privileges =
        sandbox.rt(["exec", "--no-new-privs", &id, "grep", "NoNewPrivs", "/proc/self/status"]).ok();
    assert_eq!(privileges.stdout, "NoNewPrivs:\t1\n");
    // runc only warns; in silence it must not pass.
    let unknown = sandbox.rt(["exec", "--cap", "CAP_NONSENSE", &id, "true"]).run();
    assert!(unknown.stderr.contains("CAP_NONSENSE"), "{unknown}");
}

#[test]
fn exec_is_filtered_by_the_seccomp_profile_of_the_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 });
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], "syscalls": [rule] });
    bundle.set("/linux/seccomp", profile).shell("mkdir /made; sleep 1000");
    let id = sandbox.start(&mut bundle, "seccomp");
    sandbox.exec(&id, "mkdir /tmp/made").fails_with("Operation not permitted");
    assert_eq!(sandbox.exec(&id, "grep ^Seccomp: /proc/self/status").succeeds().stdout, "Seccomp:\t2\n");
    assert!(!bundle.rootfs("made").exists());
}

#[test]
fn exec_takes_a_process_file_and_detaches() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.start(&mut bundle, "process");
    let file = sandbox.path("process.json");
    let process = json!({
        "terminal": false, "user": { "uid": 1000, "gid": 1000, "additionalGids": [2000] }, "cwd": "/tmp",
        "env": ["PATH=/bin", "FROM=file", sandbox.mark()], "args": ["sh", "-c", "id -G > /tmp/who; echo $FROM >> /tmp/who; exec sleep 1000"],
    });
    fs::write(&file, process.to_string()).expect("a process file");
    let pid_file = sandbox.path("exec.pid");
    let (file, pid_path) = (file.to_str().unwrap_or_default(), pid_file.to_str().unwrap_or_default());
    sandbox.rt(["exec", "--process", file, "--detach", "--pid-file", pid_path, &id]).ok();
    let pid: i64 = fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a bare number");
    let who = bundle.rootfs("tmp/who");
    wait_until("the file", || fs::read_to_string(&who).is_ok_and(|t| t.lines().count() == 2));
    assert_eq!(fs::read_to_string(&who).expect("text"), "1000 2000\nfile\n");
    let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/pid")).expect("a namespace");
    assert_eq!(namespace(pid), namespace(sandbox.pid(&id)));
    sandbox.delete(&id);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn exec_joins_every_namespace_and_cgroup_of_the_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/linux/namespaces/-", json!({ "type": "cgroup" }));
    bundle.with_new_user();
    let id = sandbox.start(&mut bundle, "namespaces");
    let pid = sandbox.pid(&id);
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let init = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        let joined = sandbox.exec(&id, &format!("readlink /proc/self/ns/{kind}")).succeeds().stdout;
        assert_eq!(joined.trim(), init.to_str().unwrap_or_default());
    }
    assert_eq!(
        sandbox
            .exec(&id, "id -u; cat /proc/self/uid_map")
            .succeeds()
            .stdout
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["0", "0", "100000", "65536"]
    );
    let pid_file = sandbox.path("pid");
    sandbox
        .rt(["exec", "--detach", "--pid-file", pid_file.to_str().unwrap_or_default(), &id, "sleep", "1000"])
        .ok();
    let joined: i64 = fs::read_to_string(pid_file).expect("a pid file").parse().expect("a pid");
    for controller in ["memory", "pids", "cpu"] {
        let path = |pid| Cgroup::of(pid, controller).map(|c| c.path);
        assert_eq!(path(joined), path(pid));
    }
}

#[test]
fn exec_goes_by_the_config_at_create_not_by_a_changed_bundle() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/process/env/-", json!("WHEN=create"));
    let id = sandbox.start(&mut bundle, "saved");
    bundle
        .set("/process/env", json!(["PATH=/bin", "WHEN=later"]))
        .set("/process/user/uid", json!(1000))
        .save();
    assert_eq!(sandbox.exec(&id, "echo $WHEN; id -u").succeeds().stdout, "create\n0\n");
    fs::remove_file(bundle.path.join("config.json")).expect("to remove config.json");
    assert_eq!(sandbox.exec(&id, "echo $WHEN").succeeds().stdout, "create\n");
}

#[test]
fn exec_gives_a_terminal_over_a_console_socket_and_in_the_foreground() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.start(&mut sandbox.bundle(), "tty");
    let socket = ConsoleSocket::new(&sandbox.path("console"));
    let path = socket.path.to_str().unwrap_or_default().to_owned();
    let script = "test -t 0 && echo terminal; read line; echo got $line";
    sandbox.rt(["exec", "--tty", "--detach", "--console-socket", &path, &id, "sh", "-c", script]).ok();
    let mut terminal = socket.receive();
    terminal.read_until("terminal");
    terminal.write("hello\n");
    terminal.read_until("got hello");

    if !needs_engine("script") {
        return;
    }
    // script(1) gives rt a terminal of its own.
    let root = sandbox.root();
    let line = format!(
        "{} --root {} exec --tty {id} sh -c 'test -t 1 && tty; exit 3'",
        Sandbox::binary().display(),
        root.display()
    );
    let outcome = Run::new("script").args(["-qec", &line, "/dev/null"]).run();
    assert_eq!(outcome.code, 3, "{outcome}");
    assert!(outcome.stdout.contains("/dev/pts/"), "{outcome}");
}

#[test]
fn no_name_service_library_of_an_image_is_loaded() {
    if !needs_root() || !needs_engine("cc") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let Some(probe) = set_name_service_trap(&sandbox, &bundle) else { return };
    let mark = bundle.rootfs("loaded");
    bundle.set("/process/env", json!(["PATH=/bin", sandbox.mark()]));
    bundle
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .shell("echo $HOME > /tmp/home; sleep 1000");
    let id = sandbox.start(&mut bundle, "nss");
    wait_until("a home", || {
        fs::read_to_string(bundle.rootfs("tmp/home")).is_ok_and(|t| t == "/home/wendy\n")
    });
    assert!(!mark.exists(), "create loaded a library from the image");
    sandbox.exec(&id, "true").succeeds();
    sandbox.rt(["exec", "--user", "4321", &id, "true"]).ok();
    sandbox.rt(["exec", "--user", "1000:1000", &id, "true"]).ok();
    assert!(!mark.exists(), "exec loaded a library from the image");
    // The trap itself works: a program that does look a name up walks into it.
    sandbox.rt(["exec", "--user", "0", &id, &probe]).ok();
    assert!(mark.exists(), "the trap of this test is broken");
}

/// Puts a name service module into the image that leaves `/loaded`, and a static program that asks for a user.
/// Returns the program's path inside. Needs a static libc for that.
fn set_name_service_trap(sandbox: &Sandbox, bundle: &Bundle) -> Option<String> {
    let compile = |source: &str, name: &str, flags: &[&str]| {
        let (code, output) = (sandbox.path(&format!("{name}.c")), sandbox.path(name));
        fs::write(&code, source).expect("a source file");
        let run = Run::new("cc").args(flags).arg("-o").arg(&output).arg(&code).run();
        (run.code == 0).then_some(output)
    };
    let module = "#include <fcntl.h>\n__attribute__((constructor)) static void f(void) { open(\"/loaded\", O_CREAT | O_WRONLY, 0666); }\n";
    let module = compile(module, "libnss_trap.so.2", &["-shared", "-fPIC"])?;
    let probe = "#include <pwd.h>\nint main(void) { getpwuid(77); return 0; }\n";
    let probe = compile(probe, "probe", &["-static", "-w"])?;
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    for folder in
        ["lib".to_owned(), format!("lib/{machine}"), "lib64".to_owned(), format!("usr/lib/{machine}")]
    {
        fs::create_dir_all(bundle.rootfs(&folder)).expect("a folder of libraries");
        fs::copy(&module, bundle.rootfs(&format!("{folder}/libnss_trap.so.2"))).expect("the module");
        for library in ["libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"] {
            let host = ["/lib64".to_owned(), "/lib".to_owned(), format!("/lib/{machine}")];
            if let Some(found) = host.iter().map(|h| Path::new(h).join(library)).find(|p| p.exists()) {
                fs::copy(found, bundle.rootfs(&format!("{folder}/{library}"))).expect("a library");
            }
        }
    }
    let text = "passwd: trap files\ngroup: trap files\ninitgroups: trap files\nhosts: trap\n";
    fs::write(bundle.rootfs("etc/nsswitch.conf"), text).expect("nsswitch.conf");
    fs::copy(&probe, bundle.rootfs("bin/probe")).expect("the probe");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(bundle.rootfs(""), open).expect("a root that every user may write");
    Some("/bin/probe".to_owned())
}
