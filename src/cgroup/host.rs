//! How this host's cgroups are set up: v1, v2, hybrid or none, per controller, and what binds this process.

use std::fmt;
use std::path::PathBuf;

use nix::unistd::{AccessFlags, Uid, access};
use serde::Serialize;

use super::error::CgroupError;
use super::limiter::limiter;
use super::locate::{self, CgroupMount, Location, Version};
use super::memory::MemoryCgroup;
use super::{read, v2};

/// The controllers rt sets limits with.
pub const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "io"];

/// Which hierarchies are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    V1,
    V2,
    /// v1 controllers beside a mounted cgroup2.
    Hybrid,
    None,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
            Self::None => "none",
        })
    }
}

/// Where one controller lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControllerSetup {
    pub name: &'static str,
    /// `None`: this kernel or this container offers no such controller.
    pub version: Option<Version>,
    pub mount: Option<PathBuf>,
    /// This process's own cgroup of the controller.
    pub path: Option<String>,
    /// What binds this process from above, in words of the controller's own file; `None` for nothing.
    pub limiter: Option<String>,
}

/// Whether a user without root may set limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privilege {
    Root,
    /// Not root, and the unified cgroup is handed over with its memory controller.
    RootlessDelegated,
    /// Not root, and no limit can be set.
    RootlessNotDelegated,
}

/// What was found on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostSetup {
    pub layout: Layout,
    pub controllers: Vec<ControllerSetup>,
    pub privilege: Privilege,
}

/// Detects the set-up, as seen by this process.
pub fn detect() -> Result<HostSetup, CgroupError> {
    let membership = locate::membership_of(i32::try_from(std::process::id()).unwrap_or(0))?;
    let mounts = locate::mounts()?;
    let controllers = CONTROLLERS.iter().map(|name| controller(name, &membership, &mounts)).collect();
    Ok(HostSetup { layout: layout(&mounts), controllers, privilege: privilege(&membership, &mounts) })
}

/// The layout a mount table shows. A v1 mount without a controller (`name=systemd`) makes no v1 host.
pub fn layout(mounts: &[CgroupMount]) -> Layout {
    let has_controller = |m: &&CgroupMount| {
        m.options.iter().any(|o| CONTROLLERS.contains(&o.as_str()) || o == "blkio" || o == "devices")
    };
    let v1 = mounts.iter().filter(|m| m.version == Version::V1).any(|m| has_controller(&m));
    let v2 = mounts.iter().any(|m| m.version == Version::V2);
    match (v1, v2) {
        (true, true) => Layout::Hybrid,
        (true, false) => Layout::V1,
        (false, true) => Layout::V2,
        (false, false) => Layout::None,
    }
}

fn controller(name: &'static str, membership: &str, mounts: &[CgroupMount]) -> ControllerSetup {
    let none = ControllerSetup { name, version: None, mount: None, path: None, limiter: None };
    let v1_name = if name == "io" { "blkio" } else { name };
    let Ok(location) = locate::locate_in(membership, mounts, v1_name) else { return none };
    if location.version == Version::V2 && !offered(&location, name) {
        return none;
    }
    let limiter = limiter_text(name, &location);
    ControllerSetup {
        name,
        version: Some(location.version),
        mount: Some(location.mount),
        path: Some(location.path),
        limiter,
    }
}

/// True where the unified mount's root lists the controller.
fn offered(location: &Location, name: &str) -> bool {
    let list = read::text_if_there(&location.mount.join(v2::CONTROLLERS)).ok().flatten().unwrap_or_default();
    list.split_whitespace().any(|word| word == name)
}

fn limiter_text(name: &str, location: &Location) -> Option<String> {
    match name {
        "memory" => {
            let found = limiter(&MemoryCgroup::at(location).ok()?).ok()??;
            Some(format!("{} at {}", crate::units::Mib(found.limit_bytes), found.cgroup.name()))
        }
        "cpu" => {
            let share = cpu_share(location)?;
            Some(format!("{:.0} % of one CPU", share * 100.0))
        }
        "pids" => tightest_number(location, "pids.max").map(|n| format!("{n} processes")),
        _ => None,
    }
}

fn upwards(location: &Location) -> impl Iterator<Item = PathBuf> + '_ {
    std::iter::successors(Some(location.dir.clone()), |dir| {
        (*dir != location.mount).then(|| dir.parent().map(PathBuf::from))?
    })
}

fn tightest_number(location: &Location, file: &str) -> Option<u64> {
    upwards(location)
        .filter_map(|dir| read::text_if_there(&dir.join(file)).ok()??.trim_end().parse().ok())
        .min()
}

/// The tightest share of one CPU on the way up (1.0 = one whole CPU); `None` for no limit.
pub fn cpu_share(location: &Location) -> Option<f64> {
    let share = |dir: PathBuf| -> Option<f64> {
        let text = match location.version {
            Version::V2 => read::text_if_there(&dir.join("cpu.max")).ok()??,
            Version::V1 => {
                let quota = read::text_if_there(&dir.join("cpu.cfs_quota_us")).ok()??;
                let period = read::text_if_there(&dir.join("cpu.cfs_period_us")).ok()??;
                format!("{} {}", quota.trim_end(), period.trim_end())
            }
        };
        let (quota, period) = text.trim_end().split_once(' ')?;
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    };
    upwards(location).filter_map(share).reduce(f64::min)
}

/// How often the CPU limit at `location` has made its processes wait; 0 where it has none.
pub fn times_throttled(location: &Location) -> u64 {
    let stat = read::text_if_there(&location.dir.join("cpu.stat")).ok().flatten().unwrap_or_default();
    read::keyed(&stat, "nr_throttled").unwrap_or(0)
}

fn privilege(membership: &str, mounts: &[CgroupMount]) -> Privilege {
    if Uid::effective().is_root() {
        return Privilege::Root;
    }
    let delegated = locate::locate_in(membership, mounts, "").is_ok_and(|location| {
        let writable = |file: &str| access(&location.dir.join(file), AccessFlags::W_OK).is_ok();
        let list =
            read::text_if_there(&location.dir.join(v2::CONTROLLERS)).ok().flatten().unwrap_or_default();
        list.split_whitespace().any(|word| word == "memory")
            && writable(v2::PROCS)
            && writable(v2::SUBTREE_CONTROL)
            && access(&location.dir, AccessFlags::W_OK).is_ok()
    });
    if delegated { Privilege::RootlessDelegated } else { Privilege::RootlessNotDelegated }
}

#[cfg(test)]
mod tests {
    use super::super::locate::parse_mounts;
    use super::*;

    #[test]
    fn each_layout_is_told_from_the_mounts() {
        let memory = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let named = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        for (table, want) in [
            (memory.to_owned(), Layout::V1),
            (format!("{memory}{named}{unified}"), Layout::Hybrid),
            (unified.to_owned(), Layout::V2),
            (format!("{named}{unified}"), Layout::V2),
            (named.to_owned(), Layout::None),
            (String::new(), Layout::None),
        ] {
            assert_eq!(layout(&parse_mounts(&table)), want, "{table}");
        }
    }

    #[test]
    fn a_cpu_share_is_the_tightest_on_the_way_up() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("a/b")).unwrap();
        std::fs::write(tmp.path().join("a/cpu.max"), "25000 100000\n").unwrap();
        std::fs::write(tmp.path().join("a/b/cpu.max"), "max 100000\n").unwrap();
        let location = Location {
            version: Version::V2,
            path: "/a/b".into(),
            mount: tmp.path().to_owned(),
            dir: tmp.path().join("a/b"),
        };
        assert_eq!(cpu_share(&location), Some(0.25));
    }
}
