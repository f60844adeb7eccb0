//! Tells the program which commit it was built from: `RT_COMMIT` if a packager sets it, else what git says,
//! else nothing.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RT_COMMIT");
    // src/sys/entry.rs: `-u` has it linked though nothing calls it.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|architecture| architecture == "x86_64") {
        println!("cargo::rustc-link-arg-bin=rt=-Wl,-e,rt_entry,-u,rt_entry");
    }
    // A debug build would be compiled anew after every commit.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = std::env::var("RT_COMMIT").ok().or_else(|| if release { from_git() } else { None });
    if let Some(commit) = commit.filter(|commit| !commit.is_empty()) {
        println!("cargo::rustc-env=RT_COMMIT={commit}");
    }
}

/// The commit's hash with `-dirty` behind it where tracked files were changed.
fn from_git() -> Option<String> {
    // A source archive inside somebody else's repository has that one's commit, not ours.
    if !Path::new(".git").exists() {
        return None;
    }
    // Every commit and checkout adds a line to it.
    let heads = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&heads).exists() {
        println!("cargo::rerun-if-changed={heads}");
    }
    git(&["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
