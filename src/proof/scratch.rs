//! Where the `file` strategy writes: a file without a name, in a folder of the container that has twice the room.
//!
//! A folder may be of a file system that the container serves itself, or that does not answer: the prover opens none. A
//! process that can be killed looks at it, and the worker opens its file itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::refusal::{Reason, Refusal};
use crate::units::Mib;

mod folder;
mod probe;

pub(super) use folder::open_file;
pub use probe::{SUBCOMMAND, run};

/// Folders that containers have for such files, in the order they are tried.
const IN_CONTAINER: [&str; 3] = ["/tmp", "/var/tmp", "/"];

/// Folders of the host, for a container that can be written to nowhere: page cache is charged to who writes, wherever.
const ON_HOST: [&str; 2] = ["/var/tmp", "/tmp"];

/// What keeps a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// Page cache is written back and reclaimed.
    Disk,
    /// The file is memory.
    Tmpfs,
}

impl Medium {
    const ALL: [Self; 2] = [Self::Disk, Self::Tmpfs];

    /// Its name on the command line of a process that looks or writes.
    fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Tmpfs => "tmpfs",
        }
    }

    /// The one of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|medium| medium.name() == name)
    }
}

/// So many folders may leave the question without an answer; one that answers slowly, on a slow machine, costs none of them.
const MAY_BE_SILENT: u32 = 2;

/// How long a folder may take to answer; less where a proof has less time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const AT_LEAST: Duration = Duration::from_millis(50);

/// What is looked for.
#[derive(Debug)]
pub struct Search<'a> {
    /// Has the subcommand [`SUBCOMMAND`].
    pub program: &'a Path,
    /// Whose root the folders are in; `None` for the host's.
    pub init: Option<Pid>,
    /// `None` for the usual folders.
    pub wanted: Option<&'a Path>,
    /// What will be written: twice as much has to be free.
    pub bytes: u64,
    /// What the whole proof may take.
    pub time: Duration,
}

/// A folder to write in.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// As the container sees it, or the host where [`Scratch::on_host`].
    pub path: PathBuf,
    pub on_host: bool,
    pub medium: Medium,
    root: PathBuf,
}

impl Scratch {
    /// The folder that is wanted, or the first of the usual ones, that takes the file.
    pub fn find(search: &Search<'_>) -> Result<Self, Refusal> {
        let container =
            search.init.map_or_else(|| PathBuf::from("/"), |pid| format!("/proc/{pid}/root").into());
        let patience = (search.time / 5).clamp(AT_LEAST, ANSWERS_WITHIN);
        let mut silent = 0;
        let mut tried = Vec::new();
        let mut look = |root: &Path, path: &Path| {
            if silent == MAY_BE_SILENT {
                return None;
            }
            match probe::ask(search.program, root, path, search.bytes, patience) {
                Ok(medium) => {
                    let on_host = search.init.is_none() || root == Path::new("/");
                    Some(Self { path: path.to_owned(), on_host, medium, root: root.to_owned() })
                }
                Err(why) => {
                    silent += u32::from(matches!(why, probe::No::Silent(_)));
                    tried.push(format!("{}: {why}", path.display()));
                    None
                }
            }
        };
        let found = match search.wanted {
            Some(path) => look(&container, path),
            None => {
                let inside = IN_CONTAINER.map(|path| (container.as_path(), path));
                let outside = ON_HOST.map(|path| (Path::new("/"), path));
                on_disk_rather(
                    inside.into_iter().chain(outside).filter_map(|(root, path)| look(root, path.as_ref())),
                )
            }
        };
        found.ok_or_else(|| {
            Refusal::new(
                Reason::NoFolder,
                format!("no folder takes a file of {} ({})", Mib(search.bytes), tried.join("; ")),
                "name a folder with twice the room by --file-dir, or leave out the strategy file",
            )
        })
    }

    /// What [`open_file`] needs, for a worker's command line.
    pub(super) fn arguments(&self) -> [OsString; 3] {
        [self.root.clone().into(), self.path.clone().into(), self.medium.name().into()]
    }
}

/// The first on a disk, else the first: what is on tmpfs is freed later than its writer's death.
fn on_disk_rather(found: impl Iterator<Item = Scratch>) -> Option<Scratch> {
    let mut in_memory = None;
    for scratch in found {
        match scratch.medium {
            Medium::Disk => return Some(scratch),
            Medium::Tmpfs => in_memory = in_memory.or(Some(scratch)),
        }
    }
    in_memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_is_known_by_its_name() {
        assert!(Medium::ALL.into_iter().all(|medium| Medium::named(medium.name()) == Some(medium)));
        assert_eq!(Medium::named("tape"), None);
    }

    /// A program that takes half of the patience to say no, but for the folder that is tried last.
    #[test]
    fn a_slow_machine_looks_at_every_folder_and_silence_is_not_borne_for_long() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("slow");
        let find = |script: &str| {
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let init = Some(Pid::this());
            Scratch::find(&Search {
                program: &program,
                init,
                wanted: None,
                bytes: 1,
                time: Duration::from_secs(5),
            })
        };
        let found = find("sleep 0.5; [ $2,$3 = /,/tmp ] && echo disk || echo none").unwrap();
        assert!(found.on_host && found.path == Path::new("/tmp"), "{found:?}");
        let refused = find("exec sleep 100").unwrap_err().sentence;
        assert_eq!(refused.matches("no answer within").count(), 2, "{refused}");
    }
}
