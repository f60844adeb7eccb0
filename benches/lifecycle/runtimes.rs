//! Who is measured: rt, and crun and runc of the Debian releases that `scripts/peers` fetches.

use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub struct Runtime {
    /// rt, crun or runc.
    pub kind: &'static str,
    /// Program and version, for a person.
    pub label: String,
    /// A word that no other runtime has, for a path.
    pub word: String,
    pub path: PathBuf,
}

impl Runtime {
    fn new(kind: &'static str, origin: &str, path: PathBuf) -> Self {
        // Some commands are given in another folder.
        let path = path.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let before = if origin == "before" { " before" } else { "" };
        let label = format!("{kind}{before} {}", version(&path));
        Self { kind, label, word: format!("{kind}-{origin}"), path }
    }

    pub fn is_rt(&self) -> bool {
        self.kind == "rt"
    }
}

/// rt first, another build of it where RT_BEFORE names one, then the peers. The first crun is the reference of all ratios.
pub fn all() -> Vec<Runtime> {
    let own =
        std::env::var_os("RT_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_rt")), PathBuf::from);
    let mut all = vec![Runtime::new("rt", "now", own)];
    all.extend(std::env::var_os("RT_BEFORE").map(|path| Runtime::new("rt", "before", path.into())));
    for release in ["trixie", "sid"] {
        for kind in ["crun", "runc"] {
            let path = cache().join(release).join("bin").join(kind);
            if path.exists() {
                all.push(Runtime::new(kind, release, path));
            }
        }
    }
    for kind in ["crun", "runc"] {
        if !all.iter().any(|r| r.kind == kind) {
            // scripts/peers has not been run.
            let path = in_path(kind).unwrap_or_else(|| panic!("{kind} is not installed"));
            all.push(Runtime::new(kind, "installed", path));
        }
    }
    all
}

/// The runtime that rt is compared with.
pub fn reference(runtimes: &[Runtime]) -> usize {
    runtimes.iter().position(|r| r.kind == "crun").expect("a crun")
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/rt-bench");
    std::env::var_os("RT_BENCH_CACHE").map_or_else(home, PathBuf::from)
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin"]).map(|folder| Path::new(folder).join(name)).find(|p| p.exists())
}

fn version(path: &Path) -> String {
    let output = Command::new(path).arg("--version").output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().and_then(|l| l.rsplit(' ').next()).unwrap_or("?").to_owned()
}
