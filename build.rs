//! Tells the linker where the program begins and in which order its functions lie, and the program which commit it was
//! built from: `RT_COMMIT` if a packager sets it, else what git says, else nothing.

use std::path::Path;
use std::process::Command;

/// The linker's script that has functions used together side by side; `make order` writes it.
const ORDER: &str = "src/order.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RT_COMMIT");
    println!("cargo::rerun-if-changed={ORDER}");
    let is = |variable, value| std::env::var(variable).is_ok_and(|found: String| found == value);
    let release = is("PROFILE", "release");
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        // src/sys/entry.rs: `-u` has it linked though nothing calls it.
        println!("cargo::rustc-link-arg-bin=rt=-Wl,-e,rt_entry,-u,rt_entry");
        if release && let Ok(source) = std::env::var("CARGO_MANIFEST_DIR") {
            println!("cargo::rustc-link-arg-bin=rt=-Wl,-T,{source}/{ORDER}");
        }
    }
    // A debug build would be compiled anew after every commit.
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
