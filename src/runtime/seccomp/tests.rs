//! Filters compiled from JSON and loaded by forked children.

use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::wait::WaitStatus;
use oci_spec::runtime::LinuxSeccomp;

use super::*;
use crate::sys::testing::{call, in_child, succeeds_in_child};

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn error(json: &str) -> String {
    compile(&profile(json)).unwrap_err().to_string()
}

fn load_in_child(filter: &Filter) {
    nix::sys::prctl::set_no_new_privs().unwrap();
    assert!(load(filter).unwrap().is_none());
}

fn answer(number: libc::c_long, arguments: [libc::c_long; 3]) -> Result<libc::c_long, Errno> {
    let [a, b, c] = arguments;
    call(number, [a, b, c, 0, 0, 0])
}

fn pipe_files() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

/// Calls that a child needs to report and end.
const BASIC: &str = r#""exit","exit_group","write","close","brk","mmap","munmap","futex","rt_sigaction","rt_sigprocmask","getpid","gettid","tgkill","sigaltstack""#;

#[test]
fn default_errno_rules_and_the_enosys_stub() {
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO",
            "architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],
            "syscalls":[
                {{"names":[{BASIC},"openat2","no_such_call"],"action":"SCMP_ACT_ALLOW"}},
                {{"names":["ftruncate"],"action":"SCMP_ACT_ALLOW","args":[
                    {{"index":0,"value":123456789,"op":"SCMP_CMP_EQ"}},{{"index":1,"value":1337,"op":"SCMP_CMP_GE"}}]}},
                {{"names":["dup3"],"action":"SCMP_ACT_ALLOW","args":[
                    {{"index":0,"value":1,"op":"SCMP_CMP_EQ"}},{{"index":0,"value":3,"op":"SCMP_CMP_EQ"}}]}},
                {{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
                    {{"index":2,"value":3840,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}}]}},
                {{"names":["lseek"],"action":"SCMP_ACT_ERRNO","errnoRet":55}}]}}"#
    );
    let filter = compile(&profile(&json)).unwrap();
    succeeds_in_child(|| {
        load_in_child(&filter);
        for (number, arguments, expected) in [
            (libc::SYS_unshare, [0, 0, 0], Errno::EPERM),
            (libc::SYS_lseek, [-1, 0, 0], Errno::ENOANO),
            (libc::SYS_ftruncate, [123_456_789, 1337, 0], Errno::EBADF),
            (libc::SYS_ftruncate, [123_456_789, 0, 0], Errno::EPERM),
            (libc::SYS_ftruncate, [500, 1337, 0], Errno::EPERM),
            (libc::SYS_dup3, [0, -100, 0xffff], Errno::EPERM),
            (libc::SYS_dup3, [1, -100, 0xffff], Errno::EINVAL),
            (libc::SYS_dup3, [2, -100, 0xffff], Errno::EPERM),
            (libc::SYS_dup3, [3, -100, 0xffff], Errno::EINVAL),
            (libc::SYS_socket, [1, 1, 0x0ff], Errno::EPROTONOSUPPORT),
            (libc::SYS_socket, [1, 1, 0x100], Errno::EPERM),
            (libc::SYS_socket, [1, 1, 0xc00], Errno::EPERM),
            (1000, [0, 0, 0], Errno::ENOSYS),
            (libc::SYS_openat2 + 1, [0, 0, 0], Errno::ENOSYS),
        ] {
            assert_eq!(answer(number, arguments), Err(expected), "{number} {arguments:?}");
        }
        assert!(answer(libc::SYS_socket, [1, 1, 0]).is_ok());
    });
}

#[test]
fn the_default_errno_is_the_profiles_own() {
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":6,"syscalls":[{{"names":[{BASIC}],"action":"SCMP_ACT_ALLOW"}}]}}"#
    );
    let filter = compile(&profile(&json)).unwrap();
    succeeds_in_child(|| {
        load_in_child(&filter);
        assert_eq!(answer(libc::SYS_chdir, [0, 0, 0]), Err(Errno::ENXIO));
    });
}

#[test]
fn a_permissive_profile_denies_what_it_names() {
    let filter = compile(&profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["bdflush"],"action":"SCMP_ACT_ALLOW"},
            {"names":["chdir"],"action":"SCMP_ACT_ERRNO","errnoRet":100},
            {"names":["chroot"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#,
    ))
    .unwrap();
    let status = in_child(|| {
        load_in_child(&filter);
        assert_eq!(answer(libc::SYS_chdir, [0, 0, 0]), Err(Errno::ENETDOWN));
        assert_eq!(answer(1000, [0, 0, 0]), Err(Errno::ENOSYS));
        let _ = answer(libc::SYS_chroot, [0, 0, 0]);
        0
    });
    assert!(matches!(status, WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGSYS, _)), "{status:?}");
}

#[test]
fn without_no_new_privs_and_rights_the_kernel_refuses() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP: needs root");
        return;
    }
    let filter = compile(&profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#)).unwrap();
    succeeds_in_child(|| {
        nix::unistd::setuid(nix::unistd::Uid::from_raw(1000)).unwrap();
        let error = load(&filter).unwrap_err().to_string();
        assert!(error.ends_with("error loading seccomp filter: permission denied"), "{error}");
    });
}

#[test]
fn flags_default_to_speculative_store_bypass() {
    let flags = |flags: &str| {
        compile(&profile(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{flags}}}"#))).unwrap().flags
    };
    assert_eq!(flags(""), 4);
    assert_eq!(flags(r#","flags":[]"#), 0);
    assert_eq!(flags(r#","flags":["SECCOMP_FILTER_FLAG_TSYNC"]"#), 0);
    assert_eq!(flags(r#","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW"]"#), 6);
    assert_eq!(flags(r#","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#), 0);
    assert_eq!(supported_flags().len(), 3);
}

#[test]
fn profiles_that_runc_refuses() {
    let notify = |name: &str, path: &str| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW"{path},"syscalls":[{{"names":["{name}"],"action":"SCMP_ACT_NOTIFY"}}]}}"#
        )
    };
    assert_eq!(
        error(&notify("write", r#","listenerPath":"/x""#)),
        "SCMP_ACT_NOTIFY cannot be used for the write syscall"
    );
    // Also where the rule changes nothing.
    for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"] {
        let rule = format!(r#"{{"names":["mkdir",""],"action":"{action}"}}"#);
        let profile = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
        assert_eq!(error(&profile), "empty string is not a valid syscall");
    }
    assert_eq!(error(&notify("mkdir", "")), "seccomp listenerPath is not set");
    assert_eq!(error(&notify("mkdir", r#","listenerPath":"""#)), "seccomp listenerPath is not set");
    assert_eq!(
        error(r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/x"}"#),
        "SCMP_ACT_NOTIFY cannot be used as default action"
    );
    assert_eq!(
        error(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#
        ),
        "error creating seccomp syscall condition for syscall mkdir: invalid argument index 6"
    );
    let unused = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","listenerMetadata":"bar"}"#;
    assert_eq!(compile(&profile(unused)).unwrap().listener, None);
}

#[test]
fn many_rules_with_a_binary_tree_still_match() {
    let denied: Vec<String> = (0..libc::SYS_rt_sigreturn + 300)
        .filter_map(|number| libseccomp::ScmpSyscall::from(i32::try_from(number).ok()?).get_name().ok())
        .filter(|name| !BASIC.contains(name.as_str()) && name != "prctl" && name != "seccomp")
        .map(|name| format!("\"{name}\""))
        .collect();
    assert!(denied.len() > 200);
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_X86_64"],
            "syscalls":[{{"names":[{}],"action":"SCMP_ACT_ERRNO","errnoRet":55}}]}}"#,
        denied.join(",")
    );
    let filter = compile(&profile(&json)).unwrap();
    succeeds_in_child(|| {
        load_in_child(&filter);
        for number in [libc::SYS_chdir, libc::SYS_unshare, libc::SYS_lseek, libc::SYS_setns] {
            assert_eq!(answer(number, [-1, 0, 0]), Err(Errno::ENOANO));
        }
        assert!(answer(libc::SYS_getpid, [0, 0, 0]).is_ok());
    });
}

#[test]
fn the_agent_gets_state_and_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let agent = UnixListener::bind(&path).unwrap();
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"{}","listenerMetadata":"bar",
            "syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}}]}}"#,
        path.display()
    );
    let filter = compile(&profile(&json)).unwrap();
    assert_eq!(filter.flags & crate::sys::seccomp::NEW_LISTENER, 8);
    succeeds_in_child(|| {
        nix::sys::prctl::set_no_new_privs().unwrap();
        let descriptor = load(&filter).unwrap().unwrap();
        assert!(descriptor.as_raw_fd() > 2);
    });

    let (mut reader, writer) = pipe_files();
    let listener = filter.listener.unwrap();
    let state = br#"{"ociVersion":"1.2.1","id":"ct1","status":"creating","pid":7,"bundle":"/b"}"#;
    send_listener(&listener, 42, state, &writer).unwrap();
    drop(writer);

    let (socket, _) = agent.accept().unwrap();
    let mut buffer = [0_u8; 4096];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let received =
        recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty()).unwrap();
    let descriptors: Vec<RawFd> = received
        .cmsgs()
        .unwrap()
        .flat_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors,
            _ => Vec::new(),
        })
        .collect();
    let length = received.bytes;
    let message: serde_json::Value = serde_json::from_slice(&buffer[..length]).unwrap();
    assert_eq!(
        message,
        serde_json::json!({
            "ociVersion": "1.2.1", "fds": ["seccompFd"], "pid": 42, "metadata": "bar",
            "state": {"ociVersion": "1.2.1", "id": "ct1", "status": "creating", "pid": 7, "bundle": "/b"}
        })
    );
    assert_eq!(descriptors.len(), 1);
    crate::sys::process::close_number(descriptors[0]).unwrap();
    let mut text = String::new();
    assert_eq!(reader.read_to_string(&mut text).unwrap(), 0);
}

#[test]
fn a_missing_agent_is_a_clear_error() {
    for (path, end) in [
        ("/nonexistent/agent.sock", "dial unix /nonexistent/agent.sock: no such file or directory"),
        ("@no-such-agent", "dial unix @no-such-agent: connection refused"),
    ] {
        let listener = ListenerInfo { path: path.into(), metadata: None };
        let error = send_listener(&listener, 1, b"{}", std::io::stdin()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("failed to connect with seccomp agent specified in the seccomp profile: {end}")
        );
    }
}
