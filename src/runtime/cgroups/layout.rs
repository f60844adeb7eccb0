//! Which cgroup hierarchies this process sees, and where it lives in them. One read of
//! `/proc/self/mountinfo` and one of `/proc/self/cgroup`; a pure cgroup v2 host needs no mountinfo.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::error::CgroupError;
use super::knob;
use crate::small_file;

/// Where everybody mounts cgroups.
pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// Where systemd mounts cgroup2 on a hybrid host; runc knows no other place.
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// One mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Controllers (`cpu`, `cpuacct`), or the one name of a named hierarchy (`name=systemd`).
    pub controllers: Vec<String>,
    /// The part of the hierarchy that the mount shows; `/` but inside some containers.
    pub root: PathBuf,
    pub point: PathBuf,
}

/// What the host offers.
#[derive(Debug)]
pub(super) enum Host {
    /// cgroup v2 alone, at this mount point.
    Unified(PathBuf),
    /// v1 hierarchies, and where cgroup2 is mounted beside them (hybrid).
    Legacy { mounts: Vec<Mount>, cgroup2: Option<PathBuf> },
}

/// The lines of `/proc/self/cgroup`: hierarchy's names (`""` for cgroup2) and this process's path in it.
#[derive(Debug, Default)]
pub(super) struct Own(Vec<(String, PathBuf)>);

impl Own {
    pub(super) fn read() -> Result<Self, CgroupError> {
        read("/proc/self/cgroup").map(|text| Self::parse(&text))
    }

    /// Reads `/proc/PID/cgroup` text; lines that are not three fields are skipped.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut own = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            if let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) {
                let path = PathBuf::from(OsString::from_vec(path.to_vec()));
                own.push((String::from_utf8_lossy(names).into_owned(), path));
            }
        }
        Self(own)
    }

    /// This process's path for a controller, a `name=` hierarchy, or (`""`) cgroup2.
    pub(super) fn path(&self, controller: &str) -> Option<&Path> {
        self.0
            .iter()
            .find(|(names, _)| names.split(',').any(|name| name == controller))
            .map(|(_, path)| path.as_path())
    }

    fn knows(&self, name: &str) -> bool {
        !name.is_empty() && self.path(name).is_some()
    }
}

fn read(path: &str) -> Result<Vec<u8>, CgroupError> {
    // A mount's line may be as long as a page.
    knob::read_by(small_file::all, Path::new(path))
}

/// The part of its hierarchy that the mount at `point` shows.
pub(super) fn mount_root(point: &Path) -> Option<PathBuf> {
    let mountinfo = read("/proc/self/mountinfo").ok()?;
    let mut entries = mountinfo.split(|byte| *byte == b'\n').filter_map(Entry::parse);
    // Of mounts on the same point the last one is seen.
    entries.rfind(|entry| unescape(entry.point) == point).map(|entry| unescape(entry.root))
}

impl Host {
    /// Looks at the host. `own` tells controllers from mount options.
    pub(super) fn detect(own: &Own) -> Result<Self, CgroupError> {
        // A failing statfs is taken for v1, as in runc: then mountinfo decides.
        if statfs(ROOT).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            return Ok(Self::Unified(PathBuf::from(ROOT)));
        }
        Self::parse_legacy(&read("/proc/self/mountinfo")?, own)
    }

    pub(super) fn parse_legacy(mountinfo: &[u8], own: &Own) -> Result<Self, CgroupError> {
        let mut mounts: Vec<Mount> = Vec::with_capacity(16);
        let mut cgroup2 = None;
        for line in mountinfo.split(|byte| *byte == b'\n') {
            let Some(entry) = Entry::parse(line) else { continue };
            if entry.fs_type == b"cgroup2" {
                let point = unescape(entry.point);
                if point == Path::new(HYBRID) {
                    cgroup2 = Some(point);
                }
            } else if entry.fs_type == b"cgroup" {
                push_mount(&mut mounts, &entry, own);
            }
        }
        if mounts.is_empty() {
            return Err(CgroupError::NoMount);
        }
        Ok(Self::Legacy { mounts, cgroup2 })
    }
}

/// Adds a hierarchy; of two mounts of the same one, the first below the usual root wins.
fn push_mount(mounts: &mut Vec<Mount>, entry: &Entry<'_>, own: &Own) {
    let controllers: Vec<String> = entry
        .options
        .split(|byte| *byte == b',')
        .filter_map(|option| std::str::from_utf8(option).ok())
        .filter(|option| own.knows(option))
        .map(str::to_owned)
        .collect();
    if controllers.is_empty() {
        return;
    }
    let mount = Mount { controllers, root: unescape(entry.root), point: unescape(entry.point) };
    match mounts.iter_mut().find(|known| known.controllers == mount.controllers) {
        None => mounts.push(mount),
        Some(known) if !known.point.starts_with(ROOT) && mount.point.starts_with(ROOT) => *known = mount,
        Some(_) => {}
    }
}

/// The fields of a mountinfo line that matter here (proc_pid_mountinfo(5)).
struct Entry<'a> {
    root: &'a [u8],
    point: &'a [u8],
    fs_type: &'a [u8],
    options: &'a [u8],
}

impl<'a> Entry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = fields.nth(3)?;
        let point = fields.next()?;
        fields.find(|field| *field == b"-")?;
        let fs_type = fields.next()?;
        let options = fields.nth(1)?;
        Some(Self { root, point, fs_type, options })
    }
}

/// Undoes mountinfo's `\040` escapes (space, tab, newline, backslash).
fn unescape(field: &[u8]) -> PathBuf {
    if !field.contains(&b'\\') {
        return PathBuf::from(std::ffi::OsStr::from_bytes(field));
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = (*first == b'\\' && tail.len() >= 3)
            .then(|| {
                std::str::from_utf8(&tail[..3]).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok())
            })
            .flatten();
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = b"9:name=systemd:/user.slice\n7:cpu,cpuacct:/a\n4:memory:/p/q\n0::/u\n";
    const MOUNTS: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        30 31 0:35 / /mnt/other/memory rw,relatime - cgroup cgroup rw,memory\n\
        35 31 0:31 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory\n\
        36 31 0:32 /dock\\040er /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        37 31 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrid_host_is_read_from_mountinfo() {
        let own = Own::parse(OWN);
        let Host::Legacy { mounts, cgroup2 } = Host::parse_legacy(MOUNTS, &own).unwrap() else {
            panic!("not legacy");
        };
        assert_eq!(cgroup2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let names: Vec<_> = mounts.iter().map(|m| m.controllers.join(",")).collect();
        assert_eq!(names, ["memory", "cpu,cpuacct", "name=systemd"]);
        assert_eq!(mounts[0].point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(mounts[1].root, Path::new("/dock er"));
    }

    #[test]
    fn own_path_is_found_by_controller_name_and_for_cgroup2() {
        let own = Own::parse(OWN);
        assert_eq!(own.path("cpuacct"), Some(Path::new("/a")));
        assert_eq!(own.path("name=systemd"), Some(Path::new("/user.slice")));
        assert_eq!(own.path(""), Some(Path::new("/u")));
        assert_eq!(own.path("pids"), None);
    }

    #[test]
    fn no_cgroup_mount_is_an_error() {
        assert!(matches!(Host::parse_legacy(b"", &Own::default()), Err(CgroupError::NoMount)));
    }
}
