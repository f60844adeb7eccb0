//! Talking to systemd's manager over D-Bus: starting, changing and ending units, and moving processes into them.

mod manager;
mod wire;

use std::path::{Component, Path};

use nix::unistd::{Pid, geteuid};

pub use manager::{Manager, ManagerError};
pub use wire::{Basic, Property, Value};

/// Whether systemd manages this machine (sd_booted(3)).
pub fn booted() -> bool {
    std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|found| found.is_dir())
}

/// Moves process `pid` into the cgroup folder `dir` of a unit of this user's own manager. The kernel lets a user move
/// processes only within what was delegated, and a session is not in there; systemd may.
///
/// # Errors
/// No such unit, or a process of somebody else. `None`: `dir` is in no unit of this user's manager.
pub fn attach(dir: &Path, pid: Pid) -> Option<Result<(), ManagerError>> {
    let (unit, below) = unit_of(dir, geteuid().as_raw())?;
    Some(Manager::connect(true).and_then(|mut manager| manager.attach(&unit, &below, pid)))
}

/// The unit of `user@UID.service` that a cgroup folder belongs to, and the folder's path below the unit's.
fn unit_of(dir: &Path, uid: u32) -> Option<(String, String)> {
    let names: Vec<&str> = dir
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    let manager = names.iter().position(|name| *name == format!("user@{uid}.service"))?;
    let units = names.get(manager + 1..)?;
    // Slices hold units; below the first that is none, folders belong to it.
    let at = units.iter().position(|name| !name.ends_with(".slice"))?;
    let unit = units.get(at).filter(|name| name.ends_with(".scope") || name.ends_with(".service"))?;
    Some(((*unit).to_owned(), format!("/{}", units.get(at + 1..)?.join("/"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_the_first_unit_that_is_no_slice() {
        let of = |path: &str| unit_of(Path::new(path), 1000);
        let manager = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service";
        let unit = |name: &str, below: &str| Some((name.to_owned(), below.to_owned()));
        assert_eq!(of(&format!("{manager}/app.slice/app-x.slice/rt-a.scope")), unit("rt-a.scope", "/"));
        assert_eq!(
            of(&format!("{manager}/user.slice/rt-a.scope/b/c.scope")),
            unit("rt-a.scope", "/b/c.scope")
        );
        for other in [
            manager,
            "/sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope",
            "/sys/fs/cgroup/user@7.service/a.scope",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(of(&format!("{manager}/app.slice")), None);
        assert_eq!(of(&format!("{manager}/delegated-by-hand")), None);
    }
}
