//! From a process to the folder in which the kernel accounts it, per controller, through the mount table.
//! A mounted cgroup2 says nothing on a hybrid host: only /proc/PID/cgroup tells which version holds a controller.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CgroupError;
use super::read;

/// The cgroup version that holds a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V1,
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// A cgroup of one controller, found in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub version: Version,
    /// The path within the hierarchy, as /proc/PID/cgroup writes it.
    pub path: String,
    /// Where the hierarchy (or the part seen from here) is mounted.
    pub mount: PathBuf,
    /// The cgroup's folder.
    pub dir: PathBuf,
}

/// One cgroup mount of a mountinfo file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    pub version: Version,
    /// The cgroup that is the root of this mount.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    /// Controllers and `name=` of a v1 hierarchy; super options of a v2 one.
    pub options: Vec<String>,
}

/// Where `controller` accounts process `pid`.
pub fn locate(pid: i32, controller: &str) -> Result<Location, CgroupError> {
    let membership = membership_of(pid)?;
    locate_in(&membership, &mounts()?, controller)
}

/// The text of /proc/PID/cgroup.
pub fn membership_of(pid: i32) -> Result<String, CgroupError> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    match read::text(&path) {
        Err(e) if e.is_missing() => Err(CgroupError::NoProcess { pid }),
        // ESRCH: the process went between open and read.
        Err(CgroupError::Read { source, .. }) if source.raw_os_error() == Some(nix::libc::ESRCH) => {
            Err(CgroupError::NoProcess { pid })
        }
        other => other,
    }
}

/// The cgroup mounts seen by this process.
pub fn mounts() -> Result<Vec<CgroupMount>, CgroupError> {
    Ok(parse_mounts(&read::text(Path::new("/proc/self/mountinfo"))?))
}

/// As [`locate`], on a membership text and a mount table that were read before.
pub fn locate_in(
    membership: &str,
    mounts: &[CgroupMount],
    controller: &str,
) -> Result<Location, CgroupError> {
    let (version, path) = member_path(membership, controller).ok_or_else(|| CgroupError::NoController {
        controller: controller.to_owned(),
        membership: membership.trim_end().replace('\n', " "),
    })?;
    let wanted = |mount: &&CgroupMount| {
        mount.version == version && (version == Version::V2 || mount.options.iter().any(|o| o == controller))
    };
    // The deepest root that contains the path, and of equals the first mount, which the usual one is.
    let mut found: Option<(usize, Location)> = None;
    for mount in mounts.iter().filter(wanted) {
        let Ok(below) = Path::new(path).strip_prefix(&mount.root) else { continue };
        // A path that climbs out (another cgroup namespace) must not climb out of the mount point too.
        if below.components().any(|c| c == Component::ParentDir) {
            continue;
        }
        let depth = mount.root.components().count();
        if found.as_ref().is_none_or(|(best, _)| depth > *best) {
            let dir = if below.as_os_str().is_empty() {
                mount.mount_point.clone()
            } else {
                mount.mount_point.join(below)
            };
            let location = Location { version, path: path.to_owned(), mount: mount.mount_point.clone(), dir };
            found = Some((depth, location));
        }
    }
    found.map(|(_, location)| location).ok_or_else(|| CgroupError::NotMounted { path: path.to_owned() })
}

/// The location of a memory cgroup given as a folder (`--cgroup PATH`).
pub fn locate_dir(dir: &Path, mounts: &[CgroupMount]) -> Result<Location, CgroupError> {
    let dir = dir.canonicalize().map_err(|e| CgroupError::read(dir, e))?;
    let holds_memory =
        |m: &&CgroupMount| m.version == Version::V2 || m.options.iter().any(|option| option == "memory");
    mounts
        .iter()
        .filter(holds_memory)
        .filter_map(|mount| Some((mount, dir.strip_prefix(&mount.mount_point).ok()?)))
        .max_by_key(|(mount, _)| mount.mount_point.components().count())
        .map(|(mount, below)| Location {
            version: mount.version,
            path: mount.root.join(below).to_string_lossy().into_owned(),
            mount: mount.mount_point.clone(),
            dir: dir.clone(),
        })
        .ok_or(CgroupError::NoMemoryCgroup { path: dir })
}

/// The version and the path of `controller` in a /proc/PID/cgroup text: its own v1 line, else the `0::` line.
fn member_path<'a>(membership: &'a str, controller: &str) -> Option<(Version, &'a str)> {
    let fields = |line: &'a str| {
        let mut parts = line.splitn(3, ':');
        Some((parts.next()?, parts.next()?, parts.next()?))
    };
    let mut unified = None;
    for (id, controllers, path) in membership.lines().filter_map(fields) {
        // The kernel marks the cgroup of a process whose cgroup was removed.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if controllers.split(',').any(|name| name == controller) && !controllers.is_empty() {
            return Some((Version::V1, path));
        }
        if id == "0" && controllers.is_empty() {
            unified = Some((Version::V2, path));
        }
    }
    unified
}

/// The cgroup mounts in a mountinfo text.
pub fn parse_mounts(mountinfo: &str) -> Vec<CgroupMount> {
    mountinfo.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<CgroupMount> {
    // id parent major:minor root mount-point options [optional…] - type source super-options (proc(5)).
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let version = match back.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let mut front = front.split(' ').skip(3);
    let root = PathBuf::from(unescape(front.next()?));
    let mount_point = PathBuf::from(unescape(front.next()?));
    // Anything else would lead out of the hierarchy.
    if !root.is_absolute() || !mount_point.is_absolute() {
        return None;
    }
    let options = back.nth(1).unwrap_or_default().split(',').map(str::to_owned).collect();
    Some(CgroupMount { version, root, mount_point, options })
}

/// Undoes mountinfo's octal escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\');
        let code =
            octal.and_then(|o| std::str::from_utf8(o).ok()).and_then(|o| u8::from_str_radix(o, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const PURE: &str = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";

    fn at(membership: &str, mountinfo: &str, controller: &str) -> Result<(Version, PathBuf), CgroupError> {
        locate_in(membership, &parse_mounts(mountinfo), controller).map(|l| (l.version, l.dir))
    }

    #[test]
    fn a_v1_line_wins_on_a_hybrid_host() {
        let membership = "6:cpu,cpuacct:/a\n4:memory:/a/b\n1:name=systemd:/s\n0::/u\n";
        let found = at(membership, HYBRID, "memory").unwrap();
        assert_eq!(found, (Version::V1, PathBuf::from("/sys/fs/cgroup/memory/a/b")));
        let found = at(membership, HYBRID, "cpu").unwrap();
        assert_eq!(found, (Version::V1, PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a")));
        let found = at(membership, HYBRID, "pids").unwrap();
        assert_eq!(found, (Version::V2, PathBuf::from("/sys/fs/cgroup/unified/u")));
    }

    #[test]
    fn the_unified_line_serves_all_controllers_on_pure_v2() {
        let found = at("0::/user.slice/x.scope\n", PURE, "memory").unwrap();
        assert_eq!(found, (Version::V2, PathBuf::from("/sys/fs/cgroup/user.slice/x.scope")));
        assert_eq!(at("0::/\n", PURE, "memory").unwrap().1, PathBuf::from("/sys/fs/cgroup"));
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_is_offset_by_its_root() {
        let mountinfo = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let found = at("4:memory:/docker/abc/child\n", mountinfo, "memory").unwrap();
        assert_eq!(found.1, PathBuf::from("/sys/fs/cgroup/memory/child"));
        assert!(matches!(at("4:memory:/other\n", mountinfo, "memory"), Err(CgroupError::NotMounted { .. })));
    }

    #[test]
    fn a_path_outside_the_cgroup_namespace_never_climbs_out_of_the_mount() {
        assert!(matches!(at("0::/../../x\n", PURE, "memory"), Err(CgroupError::NotMounted { .. })));
        let above = "41 31 0:38 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(at("0::/../x\n", above, "memory").unwrap().1, PathBuf::from("/sys/fs/cgroup/x"));
    }

    #[test]
    fn colons_spaces_and_deleted_marks_in_paths_are_kept_apart() {
        let found = at("0::/a:b/kubepods:cri:x (deleted)\n", PURE, "memory").unwrap();
        assert_eq!(found.1, PathBuf::from("/sys/fs/cgroup/a:b/kubepods:cri:x"));
        let spaced = "41 31 0:38 / /mnt/c\\040g rw - cgroup2 cgroup2 rw\n";
        assert_eq!(at("0::/x\n", spaced, "memory").unwrap().1, PathBuf::from("/mnt/c g/x"));
    }

    #[test]
    fn without_any_line_there_is_no_controller() {
        assert!(matches!(at("1:name=systemd:/\n", HYBRID, "memory"), Err(CgroupError::NoController { .. })));
        assert!(matches!(at("", HYBRID, "memory"), Err(CgroupError::NoController { .. })));
    }
}
