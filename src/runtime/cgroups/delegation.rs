//! What a user without root may limit: the controllers that were delegated. A limit whose controller was not is named
//! before anything is made, with the command that would delegate it; or it is left out with a warning, if asked.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, getppid};
use oci_spec::runtime::LinuxResources;

use super::{Cgroup, CgroupError, Hierarchy, Result, Version, cpuset, limits, systemd};
use crate::systemd::user;

/// What to do about a limit that cannot be enforced without root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDenied {
    /// No container without its limits.
    #[default]
    Refuse,
    /// A container without them, and a warning that says so.
    Warn,
}

/// Limits that are asked for and cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    controllers: BTreeSet<&'static str>,
    /// Where they are missing.
    dir: PathBuf,
    /// What would delegate them; `None` where there is nothing to delegate from.
    pub remedy: Option<String>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits: Vec<_> = self.controllers.iter().copied().collect();
        let (uid, dir) = (user(), self.dir.display());
        write!(f, "limits of {} cannot be enforced: not delegated to user {uid} in {dir}", limits.join(", "))
    }
}

impl Cgroup {
    /// `resources` without what this user may not limit, or an error that names it. `None`: all of it can be enforced,
    /// as far as is seen without trying.
    ///
    /// # Errors
    /// [`CgroupError::NotDelegated`], unless a warning is enough.
    pub fn settle(&self, resources: &LinuxResources, on_denied: OnDenied) -> Result<Option<LinuxResources>> {
        if !self.rootless {
            return Ok(None);
        }
        let asked = asked(resources);
        let missing = self.missing(&asked);
        let Some((_, dir)) = missing.first() else { return Ok(None) };
        let controllers: BTreeSet<_> = missing.iter().map(|(name, _)| *name).collect();
        let remedy = self.remedy(&controllers);
        let denied = Denied { dir: dir.clone(), remedy, controllers };
        if on_denied == OnDenied::Refuse {
            return Err(CgroupError::NotDelegated(Box::new(denied)));
        }
        tracing::warn!("{denied}");
        Ok(Some(without(resources, &denied.controllers)))
    }

    /// The controllers among `asked` that cannot be used, and where.
    fn missing(&self, asked: &BTreeSet<&'static str>) -> Vec<(&'static str, PathBuf)> {
        let refused = |name: &&'static str| -> Option<(&'static str, PathBuf)> {
            match self.version {
                Version::V2 => {
                    let hierarchy = self.hierarchies.first()?;
                    let dir = if self.unit.is_some() {
                        hierarchy.mount.join(systemd::user_manager(None))
                    } else {
                        existing(&hierarchy.dir)
                    };
                    (!delegated(&dir, self.unit.is_some())?.contains(*name)).then_some((*name, dir))
                }
                // The hierarchy of a controller that the kernel lacks is missed when its limit is written.
                _ => {
                    let on_v1 = if *name == "io" { "blkio" } else { name };
                    let dir = existing(&self.hierarchies.iter().find(|h| h.has(on_v1))?.dir);
                    access(&dir, AccessFlags::W_OK).is_err().then_some((*name, dir))
                }
            }
        };
        asked.iter().filter_map(refused).collect()
    }

    /// The commands that delegate `controllers` to this user, for a shell.
    fn remedy(&self, controllers: &BTreeSet<&'static str>) -> Option<String> {
        let uid = user();
        let hierarchy = self.hierarchies.first()?;
        let manager = hierarchy.mount.join(systemd::user_manager(None));
        if self.version == Version::V2 && manager.is_dir() {
            let all_there = delegated(&manager, true)
                .is_some_and(|there| controllers.iter().all(|name| there.contains(*name)));
            return Some(if all_there {
                format!("systemd-run --user --scope --property=Delegate=yes -- {}", own_command())
            } else {
                let names: Vec<_> =
                    DELEGATED_BY_SYSTEMD.into_iter().chain(controllers.iter().copied()).collect();
                let names: BTreeSet<_> = names.into_iter().collect();
                let names = names.into_iter().collect::<Vec<_>>().join(" ");
                format!(
                    "as root: mkdir -p /etc/systemd/system/user@.service.d && \
                     printf '[Service]\\nDelegate={names}\\n' >/etc/systemd/system/user@.service.d/delegate.conf && \
                     systemctl daemon-reload && systemctl restart user@{uid}.service"
                )
            });
        }
        // The caller's shell has to be in it, so that the container's own cgroup comes to be beside it.
        let shell = getppid();
        let folder = |hierarchy: &Hierarchy| hierarchy.mount.join(format!("user-{uid}"));
        let mut steps = Vec::new();
        if self.version == Version::V2 {
            let folder = folder(hierarchy);
            let enabled: Vec<_> = controllers.iter().map(|name| format!("+{name}")).collect();
            steps.push(format!("mkdir -p {}/shell", folder.display()));
            steps.push(format!(
                "echo '{}' >{}/cgroup.subtree_control",
                enabled.join(" "),
                hierarchy.mount.display()
            ));
            steps.push(format!("chown -R {uid} {}", folder.display()));
            steps.push(format!("echo {shell} >{}/shell/cgroup.procs", folder.display()));
        } else {
            // All of them: a container is in every hierarchy.
            for hierarchy in
                self.hierarchies.iter().filter(|h| !h.is_cgroup2() && !h.is_named() && !h.has("cpuset"))
            {
                let folder = folder(hierarchy);
                steps.push(format!("mkdir -p {0} && chown -R {uid} {0}", folder.display()));
                steps.push(format!("echo {shell} >{}/cgroup.procs", folder.display()));
            }
        }
        Some(format!("as root: {}", steps.join(" && ")))
    }
}

/// What systemd delegates to every user's manager by default.
const DELEGATED_BY_SYSTEMD: [&str; 3] = ["cpu", "memory", "pids"];

/// The directory itself, or its nearest ancestor that is there.
fn existing(dir: &Path) -> PathBuf {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir).to_path_buf()
}

/// The controllers that this user can enable below a v2 directory; `None` if it cannot be read. `systemd`: the user's
/// manager does it.
fn delegated(dir: &Path, systemd: bool) -> Option<BTreeSet<String>> {
    let may = |path: &Path| systemd || access(path, AccessFlags::W_OK).is_ok();
    let file = match (may(dir), may(&dir.join("cgroup.subtree_control"))) {
        (false, _) => return dir.is_dir().then(BTreeSet::new),
        (true, true) => "cgroup.controllers",
        (true, false) => "cgroup.subtree_control",
    };
    let text = fs::read_to_string(dir.join(file)).ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

/// The controllers, in v2's names, that the limits need.
fn asked(resources: &LinuxResources) -> BTreeSet<&'static str> {
    const KNOWN: [&str; 7] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma"];
    let mut asked = BTreeSet::new();
    for name in KNOWN {
        let part = only(resources, name);
        let cpus = name == "cpuset" && cpuset::asked(part.cpu().as_ref()) != (None, None);
        if limits::needs_domain(&part) && name != "cpuset"
            || cpus
            || part.pids().is_some()
            || part.rdma().is_some()
        {
            asked.insert(name);
        }
    }
    for file in resources.unified().iter().flat_map(|unified| unified.keys()) {
        asked.extend(KNOWN.iter().find(|name| file.split('.').next() == Some(name)));
    }
    asked
}

/// The limits of one controller.
fn only(resources: &LinuxResources, controller: &str) -> LinuxResources {
    let mut part = LinuxResources::default();
    match controller {
        "memory" => part.set_memory(*resources.memory()),
        "cpu" | "cpuset" => part.set_cpu(resources.cpu().clone()),
        "pids" => part.set_pids(*resources.pids()),
        "io" => part.set_block_io(resources.block_io().clone()),
        "hugetlb" => part.set_hugepage_limits(resources.hugepage_limits().clone()),
        "rdma" => part.set_rdma(resources.rdma().clone().filter(|limits| !limits.is_empty())),
        _ => &mut part,
    };
    part
}

/// All limits but those of some controllers.
fn without(resources: &LinuxResources, controllers: &BTreeSet<&'static str>) -> LinuxResources {
    let mut rest = resources.clone();
    for controller in controllers {
        match *controller {
            "memory" => rest.set_memory(None),
            "cpu" => rest.set_cpu(rest.cpu().clone().map(|mut cpu| {
                cpu.set_shares(None).set_quota(None).set_period(None).set_burst(None).set_idle(None);
                cpu
            })),
            "cpuset" => rest.set_cpu(rest.cpu().clone().map(|mut cpu| {
                cpu.set_cpus(None).set_mems(None);
                cpu
            })),
            "pids" => rest.set_pids(None),
            "io" => rest.set_block_io(None),
            "hugetlb" => rest.set_hugepage_limits(None),
            "rdma" => rest.set_rdma(None),
            _ => &mut rest,
        };
    }
    let keeps = |file: &String| !controllers.iter().any(|name| file.split('.').next() == Some(name));
    let unified = rest.unified().clone();
    rest.set_unified(unified.map(|all| all.into_iter().filter(|(file, _)| keeps(file)).collect()));
    rest
}

/// This process's command line, for a shell.
fn own_command() -> String {
    let words = std::env::args().map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Vec<&'static str> {
        asked(&serde_json::from_str(json).unwrap()).into_iter().collect()
    }

    #[test]
    fn limits_need_their_controllers() {
        assert_eq!(
            names(r#"{"memory":{"limit":5},"cpu":{"quota":5,"cpus":"0"},"pids":{"limit":5}}"#),
            ["cpu", "cpuset", "memory", "pids"]
        );
        assert_eq!(names(r#"{"cpu":{"mems":"0"}}"#), ["cpuset"]);
        assert_eq!(
            names(r#"{"unified":{"memory.high":"5","io.max":"x","other.file":"1"}}"#),
            ["io", "memory"]
        );
        assert!(names(r#"{"memory":{"limit":0},"cpu":{"quota":0,"cpus":""},"devices":[]}"#).is_empty());
    }

    #[test]
    fn what_is_left_out_is_left_out_alone() {
        let all = r#"{"memory":{"limit":5},"cpu":{"quota":5,"cpus":"0"},"unified":{"memory.high":"5","pids.max":"6"}}"#;
        let rest = without(&serde_json::from_str(all).unwrap(), &BTreeSet::from(["memory", "cpu"]));
        assert_eq!(asked(&rest).into_iter().collect::<Vec<_>>(), ["cpuset", "pids"]);
    }

    #[test]
    fn a_directory_that_cannot_be_written_delegates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert_eq!(
            delegated(dir.path(), true).unwrap(),
            BTreeSet::from(["cpu".to_owned(), "memory".to_owned()])
        );
        assert_eq!(delegated(&dir.path().join("none"), false), None);
        assert_eq!(existing(&dir.path().join("a/b")), dir.path());
    }
}
