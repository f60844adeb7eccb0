//! Where a container's cgroup goes, by runc's rules. Nothing is created.

use std::path::{Component, Path, PathBuf};

use super::layout::{Host, Mount, Own};
use super::systemd::{self, Unit};
use super::{Cgroup, CgroupError, Hierarchy, Result, Version};

impl Cgroup {
    /// Plans the cgroup of container `id`.
    ///
    /// `cgroups_path` as in the spec: absolute is below each hierarchy's mount point; relative is below this
    /// process's own cgroup (v2: below its parent, because a cgroup with processes cannot have children with
    /// controllers); `None` is the relative path `id`. With `systemd` it is `slice:prefix:name`.
    pub fn plan(cgroups_path: Option<&Path>, id: &str, systemd: bool, rootless: bool) -> Result<Self> {
        let own = Own::read()?;
        let host = Host::detect(&own)?;
        let wish = Wish { path: cgroups_path.filter(|path| !path.as_os_str().is_empty()), id, rootless };
        if systemd {
            if !crate::systemd::booted() {
                return Err(CgroupError::NoSystemd);
            }
            return wish.plan_unit(host, &own);
        }
        wish.plan(host, &own)
    }
}

impl Cgroup {
    /// Whether the last part of its path is the container's id, as engines and rt itself name them; with a prefix at most.
    pub fn is_named_after(&self, id: &str) -> bool {
        let name = self.main_dir().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".scope").unwrap_or(&name);
        stem.strip_suffix(id).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with(['-', ':']))
    }
}

/// What is asked for.
struct Wish<'a> {
    path: Option<&'a Path>,
    id: &'a str,
    rootless: bool,
}

impl Wish<'_> {
    fn plan(&self, host: Host, own: &Own) -> Result<Cgroup> {
        let inner = match self.path {
            Some(path) => Inner::from_spec(path),
            None => Inner::Relative(clean(Path::new(self.id))),
        };
        match host {
            Host::Unified(mount) => {
                let dir = match &inner {
                    Inner::Absolute(path) => mount.join(path),
                    Inner::Relative(path) => {
                        let own = own.path("").ok_or_else(|| CgroupError::NoHierarchy("cgroup2".into()))?;
                        mount.join(clean(own.parent().unwrap_or(own))).join(path)
                    }
                };
                Ok(self.cgroup(Version::V2, vec![cgroup2(mount, dir)], None))
            }
            Host::Legacy { mounts, cgroup2: unified } => {
                let version = if unified.is_some() { Version::Hybrid } else { Version::V1 };
                let mut hierarchies = Vec::with_capacity(mounts.len() + 1);
                for mount in mounts {
                    let dir = inner.below(&mount, own)?;
                    hierarchies.push(Hierarchy { controllers: mount.controllers, mount: mount.point, dir });
                }
                // runc puts a relative path below the cgroup2 mount point, not below its own cgroup2.
                if let Some(mount) = unified {
                    let dir = mount.join(inner.path());
                    hierarchies.push(cgroup2(mount, dir));
                }
                Ok(self.cgroup(version, hierarchies, None))
            }
        }
    }

    fn plan_unit(&self, host: Host, own: &Own) -> Result<Cgroup> {
        let unit = Unit::parse(self.path, self.id, self.rootless)?;
        let below = systemd::expand_slice(unit.slice())?.join(unit.unit_name());
        match host {
            Host::Unified(mount) => {
                let dir = if self.rootless {
                    mount.join(systemd::user_manager(own.path(""))).join(below)
                } else {
                    mount.join(below)
                };
                Ok(self.cgroup(Version::V2, vec![cgroup2(mount, dir)], Some(unit)))
            }
            Host::Legacy { .. } if self.rootless => Err(CgroupError::RootlessSystemdV1),
            Host::Legacy { mounts, cgroup2: unified } => {
                let version = if unified.is_some() { Version::Hybrid } else { Version::V1 };
                let mut hierarchies: Vec<Hierarchy> = mounts
                    .into_iter()
                    .map(|mount| Hierarchy {
                        controllers: mount.controllers,
                        dir: mount.point.join(&below),
                        mount: mount.point,
                    })
                    .collect();
                hierarchies.extend(unified.map(|mount| {
                    let dir = mount.join(&below);
                    cgroup2(mount, dir)
                }));
                Ok(self.cgroup(version, hierarchies, Some(unit)))
            }
        }
    }

    fn cgroup(&self, version: Version, hierarchies: Vec<Hierarchy>, unit: Option<Unit>) -> Cgroup {
        Cgroup {
            version,
            hierarchies,
            unit,
            rootless: self.rootless,
            explicit: self.path.is_some(),
            preexisting: false,
            limited: false,
            made: Vec::new(),
            pending: None,
        }
    }
}

fn cgroup2(mount: PathBuf, dir: PathBuf) -> Hierarchy {
    Hierarchy { controllers: Vec::new(), mount, dir }
}

/// A cleaned path, kept without its leading `/` so that joining it never leaves the mount point.
enum Inner {
    Absolute(PathBuf),
    Relative(PathBuf),
}

impl Inner {
    fn from_spec(path: &Path) -> Self {
        let cleaned = clean(path);
        if path.is_absolute() { Self::Absolute(cleaned) } else { Self::Relative(cleaned) }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Absolute(path) | Self::Relative(path) => path,
        }
    }

    fn below(&self, mount: &Mount, own: &Own) -> Result<PathBuf> {
        match self {
            Self::Absolute(path) => Ok(mount.point.join(path)),
            Self::Relative(path) => {
                let name = mount.controllers.first().map_or("", String::as_str);
                let own = own.path(name).ok_or_else(|| CgroupError::NoHierarchy(name.to_owned()))?;
                // In a container without a cgroup namespace /proc shows the host's path, of which the mount
                // shows only the part below its root.
                let own = own.strip_prefix(&mount.root).unwrap_or(own);
                Ok(mount.point.join(clean(own)).join(path))
            }
        }
    }
}

/// Resolves `.` and `..` as if `path` were below a root that cannot be left; the result is relative.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::super::layout::ROOT;
    use super::*;

    const OWN: &[u8] = b"4:memory:/pods/x\n2:cpu,cpuacct:/\n1:name=systemd:/s\n0::/user.slice/a.scope\n";

    fn legacy(own: &Own, hybrid: bool) -> Host {
        let mut text = String::from(
            "1 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             2 0 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             3 0 0:3 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n",
        );
        if hybrid {
            text.push_str("4 0 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        }
        Host::parse_legacy(text.as_bytes(), own).unwrap()
    }

    fn plan(path: Option<&str>, host: Host, own: &Own) -> Cgroup {
        Wish { path: path.map(Path::new), id: "box", rootless: false }.plan(host, own).unwrap()
    }

    #[test]
    fn default_path_on_v1_is_below_the_own_cgroup_of_each_controller() {
        let own = Own::parse(OWN);
        let cgroup = plan(None, legacy(&own, false), &own);
        assert_eq!(cgroup.version(), Version::V1);
        assert_eq!(cgroup.path_of("memory"), Some(Path::new("/sys/fs/cgroup/memory/pods/x/box")));
        assert_eq!(cgroup.path_of("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/box")));
        assert_eq!(cgroup.path_of("systemd"), Some(Path::new("/sys/fs/cgroup/systemd/s/box")));
        assert_eq!(cgroup.path_of(""), None);
        assert_eq!(cgroup.v1_paths()[1].0, "cpu,cpuacct");
        assert_eq!(cgroup.v1_paths()[2].0, "systemd");
    }

    #[test]
    fn absolute_path_on_a_hybrid_host_is_below_every_mount_and_cannot_climb() {
        let own = Own::parse(OWN);
        let cgroup = plan(Some("/../libpod/../box"), legacy(&own, true), &own);
        assert_eq!(cgroup.version(), Version::Hybrid);
        assert_eq!(cgroup.path_of("memory"), Some(Path::new("/sys/fs/cgroup/memory/box")));
        assert_eq!(cgroup.path_of(""), Some(Path::new("/sys/fs/cgroup/unified/box")));
        assert_eq!(cgroup.v1_paths().len(), 3);
    }

    #[test]
    fn relative_path_on_v2_is_below_the_parent_of_the_own_cgroup() {
        let own = Own::parse(OWN);
        let cgroup = plan(Some("a/../../b"), Host::Unified(ROOT.into()), &own);
        assert_eq!(cgroup.path_of("memory"), Some(Path::new("/sys/fs/cgroup/user.slice/b")));
        let root = Own::parse(b"0::/\n");
        let cgroup = plan(None, Host::Unified(ROOT.into()), &root);
        assert_eq!(cgroup.path_of(""), Some(Path::new("/sys/fs/cgroup/box")));
    }

    #[test]
    fn mount_of_a_part_of_the_hierarchy_is_taken_into_account() {
        let own = Own::parse(b"4:memory:/docker/abc/inner\n");
        let text = b"1 0 0:1 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let cgroup = plan(None, Host::parse_legacy(text, &own).unwrap(), &own);
        assert_eq!(cgroup.path_of("memory"), Some(Path::new("/sys/fs/cgroup/memory/inner/box")));
    }

    #[test]
    fn a_cgroup_has_the_name_of_its_container_or_not() {
        let own = Own::parse(OWN);
        let is_named = |path: &str, id: &str| plan(Some(path), legacy(&own, false), &own).is_named_after(id);
        for path in ["/box", "/docker/box", "/user.slice/libpod-box.scope", "/k8s/cri-containerd:box"] {
            assert!(is_named(path, "box"), "{path}");
        }
        for path in ["/", "/box/inner", "/toolbox", "/docker", "/box.slice"] {
            assert!(!is_named(path, "box"), "{path}");
        }
    }

    #[test]
    fn plan_survives_the_state_file() {
        let own = Own::parse(OWN);
        let cgroup = plan(Some("/x"), legacy(&own, true), &own);
        let text = serde_json::to_string(&cgroup).unwrap();
        let back: Cgroup = serde_json::from_str(&text).unwrap();
        assert_eq!(back.hierarchies, cgroup.hierarchies);
        assert_eq!(back.version(), Version::Hybrid);
    }
}
