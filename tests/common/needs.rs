//! What a machine may lack. A test that needs it returns early and says so on one line, which CI counts.

use std::io::Write;
use std::path::Path;

/// Prints `SKIP: needs WHAT (TEST)` past the test harness, which hides what passing tests print.
pub fn skip(what: &str) {
    let thread = std::thread::current();
    let line = format!("SKIP: needs {what} ({})\n", thread.name().unwrap_or("unnamed"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// True for root with the cgroup file systems mounted; else prints the skip.
pub fn needs_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("root");
    }
    root
}

/// True if the runtime under test is rt itself; else prints the skip.
pub fn needs_rt() -> bool {
    let own =
        std::env::var_os("RT_BIN").is_none_or(|path| Path::new(&path).file_name().is_some_and(|n| n == "rt"));
    if !own {
        skip("rt");
    }
    own
}

/// True if criu can dump on this machine, which it asks the kernel; else prints the skip.
pub fn needs_criu() -> bool {
    let check = std::process::Command::new("criu").arg("check").output();
    let can = check.is_ok_and(|said| said.status.success());
    if !can {
        skip("criu that can dump on this kernel");
    }
    can
}

/// True if the program is in PATH; else prints the skip.
pub fn needs_engine(program: &str) -> bool {
    let found = find_program(program);
    if !found {
        skip(program);
    }
    found
}

fn find_program(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|folder| Path::new(folder).join(program).exists())
}
