//! The mount options of the OCI spec (fstab style), as the flags, attributes and data the kernel takes.

use libc::c_ulong;

/// How the owners of a bind mount's files are mapped, when an option asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMap {
    /// `idmap`: the topmost mount only.
    Top,
    /// `ridmap`: all mounts of the tree.
    Tree,
}

/// The parsed options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `MS_*` flags that are asked for.
    pub flags: c_ulong,
    /// `MS_*` flags that are asked not to be there (`rw`, `dev`, `suid`, …).
    pub cleared: c_ulong,
    /// Propagation types in the order given, each `MS_PRIVATE`, … with or without `MS_REC`.
    pub propagation: Vec<c_ulong>,
    /// `MOUNT_ATTR_*` to set on the whole tree (`rro`, `rnosuid`, …).
    pub tree_set: u64,
    /// `MOUNT_ATTR_*` to clear on the whole tree (`rrw`, `rsuid`, …).
    pub tree_clear: u64,
    /// `tmpcopyup`: a tmpfs starts with what was in the directory it covers.
    pub copy_up: bool,
    /// `copy-symlink`: a source that is a symlink is recreated rather than followed.
    pub copy_symlink: bool,
    /// `idmap` or `ridmap`.
    pub id_map: Option<IdMap>,
    /// Everything else, joined by commas: data for the file system.
    pub data: String,
}

/// Options that set (or clear) a flag of mount(2). `acl` is no MS_POSIXACL: it is data.
const FLAGS: &[(&str, bool, c_ulong)] = &[
    ("async", true, libc::MS_SYNCHRONOUS),
    ("atime", true, libc::MS_NOATIME),
    ("bind", false, libc::MS_BIND),
    ("defaults", false, 0),
    ("dev", true, libc::MS_NODEV),
    ("diratime", true, libc::MS_NODIRATIME),
    ("dirsync", false, libc::MS_DIRSYNC),
    ("exec", true, libc::MS_NOEXEC),
    ("iversion", false, libc::MS_I_VERSION),
    ("lazytime", false, libc::MS_LAZYTIME),
    ("loud", true, libc::MS_SILENT),
    ("mand", false, libc::MS_MANDLOCK),
    ("noatime", false, libc::MS_NOATIME),
    ("nodev", false, libc::MS_NODEV),
    ("nodiratime", false, libc::MS_NODIRATIME),
    ("noexec", false, libc::MS_NOEXEC),
    ("noiversion", true, libc::MS_I_VERSION),
    ("nolazytime", true, libc::MS_LAZYTIME),
    ("nomand", true, libc::MS_MANDLOCK),
    ("norelatime", true, libc::MS_RELATIME),
    ("nostrictatime", true, libc::MS_STRICTATIME),
    ("nosuid", false, libc::MS_NOSUID),
    ("nosymfollow", false, libc::MS_NOSYMFOLLOW),
    ("rbind", false, libc::MS_BIND | libc::MS_REC),
    ("relatime", false, libc::MS_RELATIME),
    ("remount", false, libc::MS_REMOUNT),
    ("ro", false, libc::MS_RDONLY),
    ("rw", true, libc::MS_RDONLY),
    ("silent", false, libc::MS_SILENT),
    ("strictatime", false, libc::MS_STRICTATIME),
    ("suid", true, libc::MS_NOSUID),
    ("sync", false, libc::MS_SYNCHRONOUS),
    ("symfollow", true, libc::MS_NOSYMFOLLOW),
];

/// Options (and values of `rootfsPropagation`) that set a propagation type.
const PROPAGATION: &[(&str, c_ulong)] = &[
    ("private", libc::MS_PRIVATE),
    ("rprivate", libc::MS_PRIVATE | libc::MS_REC),
    ("rshared", libc::MS_SHARED | libc::MS_REC),
    ("rslave", libc::MS_SLAVE | libc::MS_REC),
    ("runbindable", libc::MS_UNBINDABLE | libc::MS_REC),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Options that set (or clear) an attribute on all mounts of a tree.
const TREE: &[(&str, bool, u64)] = &[
    ("ratime", true, libc::MOUNT_ATTR_NOATIME),
    ("rdev", true, libc::MOUNT_ATTR_NODEV),
    ("rdiratime", true, libc::MOUNT_ATTR_NODIRATIME),
    ("rexec", true, libc::MOUNT_ATTR_NOEXEC),
    ("rnoatime", false, libc::MOUNT_ATTR_NOATIME),
    ("rnodev", false, libc::MOUNT_ATTR_NODEV),
    ("rnodiratime", false, libc::MOUNT_ATTR_NODIRATIME),
    ("rnoexec", false, libc::MOUNT_ATTR_NOEXEC),
    ("rnorelatime", true, libc::MOUNT_ATTR_RELATIME),
    ("rnostrictatime", true, libc::MOUNT_ATTR_STRICTATIME),
    ("rnosuid", false, libc::MOUNT_ATTR_NOSUID),
    ("rnosymfollow", false, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ("rrelatime", false, libc::MOUNT_ATTR_RELATIME),
    ("rro", false, libc::MOUNT_ATTR_RDONLY),
    ("rrw", true, libc::MOUNT_ATTR_RDONLY),
    ("rstrictatime", false, libc::MOUNT_ATTR_STRICTATIME),
    ("rsuid", true, libc::MOUNT_ATTR_NOSUID),
    ("rsymfollow", true, libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// The names of all mount options that are known, sorted: what `features` lists, in runc's choice (`idmap`
/// and `ridmap` are announced elsewhere).
pub fn known_mount_options() -> Vec<&'static str> {
    let mut names: Vec<_> = FLAGS.iter().map(|(name, ..)| *name).collect();
    names.extend(PROPAGATION.iter().map(|(name, _)| *name));
    names.extend(TREE.iter().map(|(name, ..)| *name));
    names.push("tmpcopyup");
    names.sort_unstable();
    names
}

/// The flags of a propagation type, `None` when there is no such type.
pub(super) fn propagation_flags(name: &str) -> Option<c_ulong> {
    PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, flags)| *flags)
}

impl MountOptions {
    /// Sorts `options` into what the kernel takes. What is unknown is data for the file system.
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    /// Whether a bind mount is asked for: then the type of the mount means nothing.
    pub fn is_bind(&self) -> bool {
        self.flags & libc::MS_BIND != 0
    }

    fn add(&mut self, option: &str) {
        if let Some((_, clear, flag)) = FLAGS.iter().find(|(name, ..)| *name == option) {
            // The atime flags are rather an enum, yet each is taken by itself, as runc does.
            if *clear {
                self.flags &= !flag;
                self.cleared |= flag;
            } else {
                self.flags |= flag;
                self.cleared &= !flag;
            }
        } else if let Some(flags) = propagation_flags(option) {
            self.propagation.push(flags);
        } else if let Some((_, clear, attribute)) = TREE.iter().find(|(name, ..)| *name == option) {
            self.add_tree_attribute(*clear, *attribute);
        } else {
            self.add_extension(option);
        }
    }

    fn add_tree_attribute(&mut self, clear: bool, attribute: u64) {
        if clear {
            self.tree_clear |= attribute;
            self.tree_set &= !attribute;
        } else {
            self.tree_set |= attribute;
            self.tree_clear &= !attribute;
        }
        // mount_setattr(2): to change the access time mode, all of its bits must be in attr_clr.
        if attribute & libc::MOUNT_ATTR__ATIME == attribute {
            self.tree_clear |= libc::MOUNT_ATTR__ATIME;
        }
    }

    fn add_extension(&mut self, option: &str) {
        match option {
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.copy_symlink = true,
            "idmap" => self.id_map = Some(IdMap::Top),
            "ridmap" => self.id_map = Some(IdMap::Tree),
            data => {
                if !self.data.is_empty() {
                    self.data.push(',');
                }
                self.data.push_str(data);
            }
        }
    }
}

/// The names of mount(2) flags, for messages.
pub(super) fn flag_names(flags: c_ulong) -> String {
    const NAMES: &[(&str, c_ulong)] = &[
        ("MS_RDONLY", libc::MS_RDONLY),
        ("MS_NOSUID", libc::MS_NOSUID),
        ("MS_NODEV", libc::MS_NODEV),
        ("MS_NOEXEC", libc::MS_NOEXEC),
        ("MS_SYNCHRONOUS", libc::MS_SYNCHRONOUS),
        ("MS_REMOUNT", libc::MS_REMOUNT),
        ("MS_MANDLOCK", libc::MS_MANDLOCK),
        ("MS_DIRSYNC", libc::MS_DIRSYNC),
        ("MS_NOSYMFOLLOW", libc::MS_NOSYMFOLLOW),
        ("MS_NOATIME", libc::MS_NOATIME),
        ("MS_NODIRATIME", libc::MS_NODIRATIME),
        ("MS_BIND", libc::MS_BIND),
        ("MS_MOVE", libc::MS_MOVE),
        ("MS_REC", libc::MS_REC),
        ("MS_SILENT", libc::MS_SILENT),
        ("MS_UNBINDABLE", libc::MS_UNBINDABLE),
        ("MS_PRIVATE", libc::MS_PRIVATE),
        ("MS_SLAVE", libc::MS_SLAVE),
        ("MS_SHARED", libc::MS_SHARED),
        ("MS_RELATIME", libc::MS_RELATIME),
        ("MS_I_VERSION", libc::MS_I_VERSION),
        ("MS_STRICTATIME", libc::MS_STRICTATIME),
        ("MS_LAZYTIME", libc::MS_LAZYTIME),
    ];
    let mut rest = flags;
    let mut names = Vec::new();
    for (name, flag) in NAMES {
        if flags & flag == *flag {
            names.push((*name).to_owned());
            rest &= !flag;
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> MountOptions {
        MountOptions::parse(&options.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_two_opposite_options_wins() {
        let parsed = parse("ro,rw,nodev");
        assert_eq!((parsed.flags, parsed.cleared), (libc::MS_NODEV, libc::MS_RDONLY));
        let parsed = parse("rw,ro");
        assert_eq!((parsed.flags, parsed.cleared), (libc::MS_RDONLY, 0));
    }

    #[test]
    fn unknown_options_are_data_in_their_order() {
        let parsed = parse("nosuid,mode=755,size=64m,acl,defaults");
        assert_eq!(parsed.data, "mode=755,size=64m,acl");
        assert_eq!(parsed.flags, libc::MS_NOSUID);
    }

    #[test]
    fn propagation_options_are_kept_in_their_order() {
        let parsed = parse("rbind,rshared,slave");
        assert_eq!(parsed.propagation, [libc::MS_SHARED | libc::MS_REC, libc::MS_SLAVE]);
        assert!(parsed.is_bind());
    }

    #[test]
    fn an_access_time_mode_of_a_tree_clears_all_modes_first() {
        let parsed = parse("rbind,rnoatime");
        assert_eq!(parsed.tree_set, libc::MOUNT_ATTR_NOATIME);
        assert_eq!(parsed.tree_clear, libc::MOUNT_ATTR__ATIME);
        assert_eq!(parse("rbind,rro").tree_set, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(parse("rbind,rrelatime").tree_clear, libc::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn extensions_are_no_data() {
        let parsed = parse("tmpcopyup,ridmap,copy-symlink");
        assert!(parsed.copy_up && parsed.copy_symlink && parsed.data.is_empty());
        assert_eq!(parsed.id_map, Some(IdMap::Tree));
    }

    #[test]
    fn known_options_are_sorted_and_none_twice() {
        let names = known_mount_options();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(names.len(), FLAGS.len() + PROPAGATION.len() + TREE.len() + 1);
    }

    #[test]
    fn unnamed_flags_are_shown_in_hexadecimal() {
        assert_eq!(flag_names(libc::MS_RDONLY | libc::MS_BIND | 1 << 9), "MS_RDONLY|MS_BIND|0x200");
    }
}
