//! The real system calls, each in a forked child, looked at through /proc and the kernel's own getters.

use std::collections::HashMap;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use oci_spec::runtime::{LinuxCapabilities, User};

use super::affinity::{self, ExecAffinity};
use super::capabilities::CapabilitySets;
use super::descriptors::Passed;
use super::env::Environment;
use super::identity::Identity;
use super::memory_policy::MemoryPolicy;
use super::program::{Program, resolve};
use super::*;
use crate::sys::process::forget_environment;
use crate::sys::testing::{call, in_child, succeeds_in_child};

fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap()
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIP: needs root");
    }
    root
}

/// A field of /proc/self/status.
fn status(field: &str) -> String {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}

fn capability_sets() -> [u64; 5] {
    ["CapBnd", "CapEff", "CapInh", "CapPrm", "CapAmb"]
        .map(|field| u64::from_str_radix(&status(field), 16).unwrap())
}

#[test]
fn capabilities_are_set_for_root_and_survive_the_change_of_user() {
    if !is_root() {
        return;
    }
    let spec: LinuxCapabilities = from_json(
        r#"{"bounding":["CAP_KILL","CAP_CHOWN","CAP_SYSLOG"],"effective":["CAP_KILL"],
            "permitted":["CAP_KILL","CAP_CHOWN"],"inheritable":["CAP_CHOWN","CAP_SYSLOG"],
            "ambient":["CAP_CHOWN","CAP_SYSLOG"]}"#,
    );
    let sets = CapabilitySets::from_spec(&spec);
    let expected = [0x4_0000_0021, 0x20, 0x4_0000_0001, 0x21, 0x1];
    for uid in [0, 1000] {
        let user: User = from_json(&format!(r#"{{"uid":{uid},"gid":100,"additionalGids":[7,8]}}"#));
        succeeds_in_child(|| {
            Identity { user: &user, capabilities: Some(&sets), cwd: Path::new("/tmp"), rootless: false }
                .assume()
                .unwrap();
            assert_eq!(capability_sets(), expected);
            assert_eq!(status("Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
            assert_eq!(status("Gid"), "100\t100\t100\t100");
            assert_eq!(status("Groups"), "7 8");
            assert_eq!(std::env::current_dir().unwrap(), Path::new("/tmp"));
        });
    }
}

#[test]
fn no_capabilities_means_none() {
    if !is_root() {
        return;
    }
    succeeds_in_child(|| {
        let user = from_json(r#"{"uid":0,"gid":0}"#);
        let sets = CapabilitySets::default();
        Identity { user: &user, capabilities: Some(&sets), cwd: Path::new(""), rootless: false }
            .assume()
            .unwrap();
        assert_eq!(capability_sets(), [0; 5]);
    });
}

#[test]
fn capabilities_the_runtime_lacks_are_an_error() {
    if !is_root() {
        return;
    }
    succeeds_in_child(|| {
        let all =
            CapabilitySets { permitted: 0x20, effective: 0x20, bounding: 0x20, ..CapabilitySets::default() };
        all.apply_bounding().unwrap();
        all.apply().unwrap();
        let more = CapabilitySets { permitted: 0x21, ..all };
        assert_eq!(
            more.apply().unwrap_err().to_string(),
            "unable to apply caps: can't apply capabilities: operation not permitted"
        );
        // Without CAP_SETPCAP the bounding set stays, which is an error where a program could gain from it.
        all.apply_bounding().unwrap();
        assert_eq!(
            CapabilitySets::default().apply_bounding().unwrap_err().to_string(),
            "unable to apply bounding set: operation not permitted"
        );
        prctl::set_no_new_privs().unwrap();
        CapabilitySets::default().apply_bounding().unwrap();
        assert_eq!(capability_sets()[0], 0x20);
    });
}

#[test]
fn every_capability_has_its_name() {
    assert_eq!(capabilities::number_of("CAP_SYSLOG"), Some(34));
    assert_eq!(capabilities::number_of("CAP_CHECKPOINT_RESTORE"), Some(40));
    assert_eq!(capabilities::number_of("CAP_UNKNOWN"), None);
}

#[test]
fn a_working_directory_of_the_user_alone_is_entered_after_the_change() {
    if !is_root() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let private = parent.path().join("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o755)).unwrap();
    chown(&private, Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700)).unwrap();
    succeeds_in_child(|| {
        // Root without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, but able to change the user.
        let weak: u64 = 1 << 6 | 1 << 7 | 1 << 8 | 1;
        crate::sys::process::capset(weak, weak, 0).unwrap();
        assert!(std::env::set_current_dir(&private).is_err());
        let user = from_json(r#"{"uid":1000,"gid":1000}"#);
        Identity { user: &user, capabilities: None, cwd: &private, rootless: false }.assume().unwrap();
        assert_eq!(std::env::current_dir().unwrap(), private);
    });
    succeeds_in_child(|| {
        let missing = parent.path().join("missing");
        let user = from_json(r#"{"uid":1000,"gid":1000}"#);
        let identity = Identity { user: &user, capabilities: None, cwd: &missing, rootless: false };
        assert_eq!(
            identity.assume().unwrap_err().to_string(),
            format!("chdir to cwd ({missing:?}) set in config.json failed: no such file or directory")
        );
    });
}

#[test]
fn a_working_directory_outside_of_the_root_is_detected() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    succeeds_in_child(|| {
        cwd::verify().unwrap();
        nix::unistd::chroot(root.path()).unwrap();
        assert_eq!(cwd::verify(), Err(cwd::CwdError::Outside));
        nix::unistd::chdir("/").unwrap();
        cwd::create(Path::new("/a/../b/c")).unwrap();
        cwd::Entering::as_runtime(Path::new("/b/c")).unwrap().as_user().unwrap();
        std::fs::remove_dir("/b/c").unwrap();
        assert_eq!(cwd::verify(), Err(cwd::CwdError::Outside));
        std::fs::write("/file", "").unwrap();
        assert_eq!(
            cwd::create(Path::new("/file/x")).unwrap_err().to_string(),
            "mkdir /file/x: not a directory"
        );
    });
}

#[test]
fn unmapped_ids_and_denied_groups_in_a_user_namespace() {
    if !is_root() {
        return;
    }
    succeeds_in_child(|| {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER) {
            println!("SKIP: needs user namespaces ({errno})");
            return;
        }
        std::fs::write("/proc/self/setgroups", "deny").unwrap();
        std::fs::write("/proc/self/uid_map", "0 0 1").unwrap();
        std::fs::write("/proc/self/gid_map", "0 0 1").unwrap();
        let apply = |json: &str| user::apply(&from_json(json), false).map_err(|error| error.to_string());
        assert_eq!(
            apply(r#"{"uid":0,"gid":7}"#),
            Err("cannot setgid to unmapped gid 7 in user namespace".to_owned())
        );
        assert_eq!(
            apply(r#"{"uid":7,"gid":0}"#),
            Err("cannot setuid to unmapped uid 7 in user namespace".to_owned())
        );
        assert_eq!(apply(r#"{"uid":0,"gid":0,"additionalGids":[0]}"#), Ok(()));
    });
}

#[test]
fn limits_are_set_and_refusals_named() {
    succeeds_in_child(|| {
        let limits: Vec<_> = from_json(
            r#"[{"type":"RLIMIT_NOFILE","soft":100,"hard":200},{"type":"RLIMIT_CORE","soft":0,"hard":0}]"#,
        );
        rlimits::apply(&limits, 0).unwrap();
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(limit, (100, 200));
        let wrong: Vec<_> = from_json(r#"[{"type":"RLIMIT_NOFILE","soft":9,"hard":8}]"#);
        assert_eq!(
            rlimits::apply(&wrong, 0).unwrap_err().to_string(),
            "error setting rlimits for ready process: error setting rlimit type 7: invalid argument"
        );
    });
}

#[test]
fn scheduler_and_priorities_are_set() {
    succeeds_in_child(|| {
        scheduler::apply(&from_json(r#"{"policy":"SCHED_BATCH","nice":19}"#), false).unwrap();
        assert_eq!(call(libc::SYS_sched_getscheduler, [0; 6]), Ok(3));
        io_priority::apply(&from_json(r#"{"class":"IOPRIO_CLASS_BE","priority":4}"#)).unwrap();
        assert_eq!(call(libc::SYS_ioprio_get, [1, 0, 0, 0, 0, 0]), Ok(2 << 13 | 4));
        umask::apply_to_init(None);
        assert_eq!(status("Umask"), "0022");
        umask::apply_to_exec(Some(0o77));
        umask::apply_to_exec(None);
        assert_eq!(status("Umask"), "0077");
        oom_score_adj::apply(500).unwrap();
        let own = std::process::id().cast_signed();
        oom_score_adj::verify(own, 500).unwrap();
        let differs = oom_score_adj::verify(own, 600).unwrap_err().to_string();
        assert_eq!(differs, format!("/proc/{own}/oom_score_adj is 500, not 600"));
        assert_eq!(
            oom_score_adj::apply(5000).unwrap_err().to_string(),
            "failed to update /proc/self/oom_score_adj: invalid argument"
        );
    });
}

#[test]
fn an_environment_that_is_forgotten_is_gone_from_memory_too() {
    succeeds_in_child(|| {
        let variables = || std::fs::read("/proc/self/environ").unwrap();
        assert!(variables().iter().any(|byte| *byte != 0), "there is an environment");
        for _ in 0..2 {
            forget_environment();
            assert!(variables().iter().all(|byte| *byte == 0));
            assert_eq!(std::env::vars_os().count(), 0);
        }
        assert!(!std::fs::read("/proc/self/cmdline").unwrap().is_empty());
    });
}

#[test]
fn memory_policy_reaches_numa_maps() {
    if !Path::new("/proc/self/numa_maps").exists() {
        println!("SKIP: needs a kernel with NUMA");
        return;
    }
    succeeds_in_child(|| {
        MemoryPolicy::parse("MPOL_BIND", "0", ["MPOL_F_STATIC_NODES"]).unwrap().apply().unwrap();
        let maps = std::fs::read_to_string("/proc/self/numa_maps").unwrap();
        assert!(maps.lines().next().unwrap().contains(" bind=static:0"), "{maps}");
        MemoryPolicy::parse("MPOL_DEFAULT", "", []).unwrap().apply().unwrap();
    });
}

#[test]
fn affinity_is_set_and_reset_to_all() {
    let all = affinity::current_mask().unwrap();
    if all.count_ones() < 2 {
        println!("SKIP: needs two CPUs");
        return;
    }
    let first = all.trailing_zeros();
    succeeds_in_child(|| {
        let spec = from_json(&format!(r#"{{"initial":"{first}"}}"#));
        let exec = ExecAffinity::from_spec(Some(&spec)).unwrap();
        exec.apply_initial(0).unwrap();
        assert_eq!(affinity::current_mask(), Ok(1 << first));
        // An initial list alone is kept; nothing asked for is all.
        exec.apply_final(0).unwrap();
        assert_eq!(affinity::current_mask(), Ok(1 << first));
        ExecAffinity::from_spec(None).unwrap().apply_final(0).unwrap();
        assert_eq!(affinity::current_mask().unwrap() & all, all);
        let none = ExecAffinity { last: id_list::IdSet::parse("1000").unwrap(), ..ExecAffinity::default() };
        assert_eq!(
            none.apply_final(0).unwrap_err().to_string(),
            "error setting final CPU affinity: invalid argument"
        );
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn personality_changes_the_machine_name() {
    succeeds_in_child(|| {
        let machine = || nix::sys::utsname::uname().unwrap().machine().to_owned();
        personality::apply(&from_json(r#"{"domain":"LINUX32"}"#)).unwrap();
        assert_eq!(machine(), "i686");
        personality::apply(&from_json(r#"{"domain":"LINUX","flags":[]}"#)).unwrap();
        assert_eq!(machine(), "x86_64");
    });
}

#[test]
fn a_session_keyring_of_its_own() {
    succeeds_in_child(|| {
        keyring::join_as_init("rt-test", false).unwrap();
        let current = crate::sys::process::SESSION_KEYRING;
        let description = String::from_utf8(crate::sys::process::describe_key(current).unwrap()).unwrap();
        assert!(description.contains("_ses.rt-test"), "{description}");
        // The user may search it.
        let permissions = u32::from_str_radix(description.split(';').nth(3).unwrap(), 16).unwrap();
        assert_eq!(permissions & 0x8_0000, 0x8_0000);
        keyring::join_as_exec("rt-test").unwrap();
        keyring::join_as_init("rt-test", true).unwrap();
    });
}

#[test]
fn only_passed_descriptors_survive() {
    succeeds_in_child(|| {
        Passed::default().close_others().unwrap();
        let kept = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
        assert_eq!(kept, 3);
        let passed = Passed::from_caller(1).unwrap();
        assert_eq!(passed, Passed { listen: 0, preserve: 1 });
        let own = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
        let leaked = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
        crate::sys::process::set_cloexec(leaked, false).unwrap();
        passed.close_leaked().unwrap();
        let cloexec =
            |number| call(libc::SYS_fcntl, [number, libc::F_GETFD.into(), 0, 0, 0, 0]).map(|flags| flags & 1);
        assert_eq!((cloexec(kept.into()), cloexec(own.into())), (Ok(0), Ok(1)));
        assert_eq!(cloexec(leaked.into()), Err(nix::errno::Errno::EBADF));
        passed.close_others().unwrap();
        assert_eq!((cloexec(kept.into()), cloexec(own.into())), (Ok(0), Err(nix::errno::Errno::EBADF)));
        assert_eq!(
            Passed::from_caller(3).unwrap_err().to_string(),
            "unable to stat preserved-fd 1 (of 3): no such file or directory"
        );
    });
}

#[test]
fn socket_activation_is_told_to_the_container() {
    assert_eq!(env::listen_variables(2), ["LISTEN_FDS=2", "LISTEN_PID=1"]);
    assert!(env::listen_variables(0).is_empty());
}

#[test]
fn sysctls_are_written_in_the_new_namespace() {
    if !is_root() {
        return;
    }
    let key = "net.ipv4.ip_unprivileged_port_start";
    let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let host = std::fs::read_to_string(file).unwrap();
    succeeds_in_child(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        sysctl::apply(&HashMap::from([(key.to_owned(), "7".to_owned())])).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "7\n");

        // Something mounted over the file is passed by.
        let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
        let bind = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some("/dev/null"), file, None::<&str>, bind, None::<&str>).unwrap();
        sysctl::apply(&HashMap::from([(key.to_owned(), "8".to_owned())])).unwrap();
        nix::mount::umount(file).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "8\n");

        // So is another file system in place of /proc.
        nix::mount::mount(Some("none"), "/proc", Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
            .unwrap();
        sysctl::apply(&HashMap::from([(key.to_owned(), "9".to_owned())])).unwrap();
        nix::mount::umount("/proc").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "9\n");

        let wrong = HashMap::from([("net.nothing".to_owned(), "1".to_owned())]);
        assert_eq!(
            sysctl::apply(&wrong).unwrap_err().to_string(),
            "failed to write sysctl net.nothing = \"1\": no such file or directory"
        );
    });
    assert_eq!(std::fs::read_to_string(file).unwrap(), host);
}

#[test]
fn labels_do_nothing_when_empty_and_tell_when_unsupported() {
    succeeds_in_child(|| {
        apparmor::apply("").unwrap();
        selinux::apply_exec_label("").unwrap();
        selinux::apply_key_label("").unwrap();
        selinux::validate("").unwrap();
        if !selinux::is_enabled() {
            assert_eq!(
                selinux::validate("system_u:system_r:container_t:s0").unwrap_err().to_string(),
                "selinux label is specified in config, but selinux is disabled or not supported"
            );
        }
        if !apparmor::is_enabled() {
            let error = apparmor::apply("no-such-profile").unwrap_err().to_string();
            assert!(error.starts_with("apparmor failed to apply profile: "), "{error}");
        }
    });
}

#[test]
fn programs_are_found_and_refused_in_runcs_words() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, mode| {
        let path = folder.path().join(name);
        std::fs::write(&path, "#!/bin/sh\nexit 7\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    let (run, closed) = (make("run", 0o755), make("closed", 0o644));
    let search = format!("/nonexistent:{}", folder.path().display());
    let find = |name: &str| resolve(name, Some(search.as_ref())).map_err(|error| error.to_string());
    assert_eq!(find("run"), Ok(run.clone()));
    assert_eq!(find(run.to_str().unwrap()), Ok(run.clone()));
    for (name, error) in [
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("nothing", "exec: \"nothing\": executable file not found in $PATH"),
        ("closed", "exec: \"closed\": executable file not found in $PATH"),
        ("", "exec: \"\": executable file not found in $PATH"),
        ("/tmp", "exec: \"/tmp\": is a directory"),
    ] {
        assert_eq!(find(name), Err(error.to_owned()));
    }
    let closed = closed.to_str().unwrap();
    assert_eq!(find(closed), Err(format!("exec: {closed:?}: permission denied")));
    assert_eq!(
        resolve("run", None).unwrap_err().to_string(),
        "exec: \"run\": executable file not found in $PATH"
    );
    let relative = in_child(|| {
        std::env::set_current_dir(folder.path()).unwrap();
        assert_eq!(
            resolve("run", Some("".as_ref())).unwrap_err().to_string(),
            "exec: \"run\": executable file not found in $PATH"
        );
        assert_eq!(
            resolve("run", Some(":/bin".as_ref())).unwrap_err().to_string(),
            "exec: \"run\": cannot run executable found relative to current directory"
        );
        0
    });
    assert!(matches!(relative, nix::sys::wait::WaitStatus::Exited(_, 0)));
}

#[test]
fn an_owner_only_program_runs_with_cap_dac_override() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = folder.path().join("owner-only");
    std::fs::copy("/bin/true", &path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    let user: User = from_json(r#"{"uid":1000,"gid":100}"#);
    for (mask, found) in [(0, false), (1 << 1, true)] {
        let sets = CapabilitySets {
            bounding: mask,
            effective: mask,
            inheritable: mask,
            permitted: mask,
            ambient: mask,
        };
        let ended = in_child(|| {
            Identity { user: &user, capabilities: Some(&sets), cwd: Path::new("/"), rootless: false }
                .assume()
                .unwrap();
            let program = Program::prepare(&[path.to_str().unwrap().to_owned()], &Environment::default());
            match program.and_then(|program| program.execute()) {
                Ok(never) => match never {},
                Err(error) => {
                    assert!(error.to_string().ends_with(": permission denied"), "{error}");
                    9
                }
            }
        });
        let expected = if found { 0 } else { 9 };
        assert!(
            matches!(ended, nix::sys::wait::WaitStatus::Exited(_, code) if code == expected),
            "{ended:?}"
        );
    }
}

#[test]
fn a_program_gets_its_arguments_and_environment() {
    let list = ["PATH=/bin:/usr/bin".to_owned(), "X=two".to_owned(), "X=seven".to_owned()];
    let environment = Environment::prepare(&list, || "/root".into()).unwrap();
    let script = "test $0,$1,$X,$HOME = zero,one,seven,/root && exit 7";
    let arguments = ["sh", "-c", script, "zero", "one"].map(ToOwned::to_owned);
    let ended = in_child(|| {
        let Err(error) = Program::prepare(&arguments, &environment).unwrap().execute();
        panic!("{error}");
    });
    assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 7)), "{ended:?}");
    let empty = Program::prepare(&[], &environment).unwrap_err().to_string();
    assert_eq!(empty, "process args must not be empty");
    succeeds_in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "no program").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let Err(error) = Program::prepare(std::slice::from_ref(&path), &environment).unwrap().execute();
        assert_eq!(error.to_string(), format!("exec {path}: exec format error"));
    });
}
