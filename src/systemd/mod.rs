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

/// The user whose manager is this process's, by the number that holds outside of its user namespace: podman without root
/// calls rt as root of a namespace of the user's.
pub fn user() -> u32 {
    outside(geteuid().as_raw(), &std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

/// What user `id` is outside, by the lines "inside outside length" of a uid_map; itself, where it is not mapped.
fn outside(id: u32, map: &str) -> u32 {
    let mapped = map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u32>().ok());
        let (inside, outside, length) = (fields.next()??, fields.next()??, fields.next()??);
        let offset = id.checked_sub(inside).filter(|offset| *offset < length)?;
        outside.checked_add(offset)
    });
    mapped.unwrap_or(id)
}

/// Moves process `pid` into the cgroup folder `dir` of a unit of this user's own manager. The kernel lets a user move
/// processes only within what was delegated, and a session is not in there; systemd may.
///
/// # Errors
/// No such unit, or a process of somebody else. `None`: `dir` is in no unit of this user's manager.
pub fn attach(dir: &Path, pid: Pid) -> Option<Result<(), ManagerError>> {
    let (unit, below) = unit_of(dir, user())?;
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
    fn a_namespaces_root_is_the_user_who_made_it() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!([0, 1, 65536].map(|id| outside(id, map)), [1000, 100_000, 165_535]);
        assert_eq!(outside(70_000, map), 70_000);
        assert_eq!(outside(5, "         0          0 4294967295\n"), 5);
        assert_eq!(outside(5, "garbage\n4294967295 1 9\n1 4294967295 9\n"), 5);
    }

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
