//! Mounts that criu must not look into because the runtime makes them: bind mounts from the host, masked
//! files, device nodes. criu knows each by a key, its place in the container.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;

use super::options::{bytes, field, pair};
use super::wire::Message;
use super::{CriuError, Subject, name};

/// Bind-mounted from the host where the container cannot make nodes.
const DEFAULT_DEVICES: [&str; 6] =
    ["/dev/null", "/dev/random", "/dev/full", "/dev/tty", "/dev/zero", "/dev/urandom"];
/// What a masked file is mounted over with.
pub(super) const MASK: &str = "/dev/null";
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A place in the container and what is mounted there from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct External {
    /// The key, a path in the container.
    pub place: PathBuf,
    /// Path on the host.
    pub source: PathBuf,
}

/// All of a container's but for masked files.
pub(super) fn externals(subject: &Subject<'_>) -> Vec<External> {
    let mut found = Vec::new();
    let mut add = |place: &Path, source: &Path| {
        let place = place_in(subject.rootfs, place);
        found.push(External { place, source: source.to_owned() });
    };
    for mount in subject.spec.mounts().iter().flatten() {
        if is_bind(mount) {
            add(mount.destination(), mount.source().as_deref().unwrap_or(Path::new("")));
        } else if mount.typ().as_deref() == Some("cgroup") {
            for (name, directory) in subject.cgroup_binds {
                add(&mount.destination().join(name), directory);
            }
        }
    }
    let linux = subject.spec.linux().as_ref();
    let named = linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten();
    let devices = named.map(|device| device.path().as_path()).chain(DEFAULT_DEVICES.map(Path::new));
    for device in devices {
        add(device, device);
    }
    found
}

/// Whether something of the host is mounted: by type, or by option.
pub(super) fn is_bind(mount: &Mount) -> bool {
    let mut options = mount.options().iter().flatten();
    mount.typ().as_deref() == Some("bind") || options.any(|option| option == "bind" || option == "rbind")
}

/// The files that are masked in the container whose root is seen at `root`. A link in it is followed there, not to
/// what has its target's name on the host.
pub(super) fn masked_files(subject: &Subject<'_>, root: &Path) -> Vec<External> {
    let linux = subject.spec.linux().as_ref();
    let paths = linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten();
    let places = paths.map(|path| place_in(root, Path::new(path)));
    let is_file = |place: &PathBuf| {
        let there = root.join(place.strip_prefix("/").unwrap_or(place));
        there.symlink_metadata().is_ok_and(|data| !data.is_dir() && !data.is_symlink())
    };
    places.filter(is_file).map(|place| External { place, source: MASK.into() }).collect()
}

/// Adds a mount under its key: a dump says the key twice, a restore says what is to be mounted.
pub(super) fn add(options: &mut Message, place: &Path, value: &Path) -> Result<(), CriuError> {
    let key = name::key("the mount", bytes(place))?;
    options.message(field::EXT_MNT, &pair(key, name::plain("the source of a mount", bytes(value))?));
    Ok(())
}

/// Where `path` leads in the tree below `root`, links resolved as if `root` were `/`. What is missing is taken
/// as it is named. Only a name for criu: nothing is opened by it.
fn place_in(root: &Path, path: &Path) -> PathBuf {
    let mut place = PathBuf::from("/");
    let mut links = 0;
    let path = path.strip_prefix(root).unwrap_or(path);
    let mut todo: VecDeque<OsString> = names(path).collect();
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            place.pop();
            continue;
        }
        place.push(&name);
        let here = root.join(place.strip_prefix("/").unwrap_or(&place));
        let Ok(target) = here.read_link() else { continue };
        links += 1;
        if links > MAX_LINKS {
            continue;
        }
        place.pop();
        if target.is_absolute() {
            place = PathBuf::from("/");
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            todo.push_front(name);
        }
    }
    place
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use oci_spec::runtime::{MountBuilder, SpecBuilder};

    use super::*;

    #[test]
    fn links_stay_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("real/conf")).unwrap();
        symlink("/real/conf", root.join("conf")).unwrap();
        symlink("../../../real", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (path, place) in [
            ("/conf", "/real/conf"),
            ("conf/x/y", "/real/conf/x/y"),
            ("/up/conf/.", "/real/conf"),
            ("/../..//etc", "/etc"),
            ("/loop", "/loop"),
        ] {
            assert_eq!(place_in(root, Path::new(path)), Path::new(place), "{path}");
        }
        assert_eq!(place_in(root, &root.join("conf")), Path::new("/real/conf"));
    }

    #[test]
    fn a_link_of_the_image_chooses_no_other_mount() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        symlink("/etc]:/etc/shadow", root.join("data")).unwrap();
        symlink("/\n", root.join("line")).unwrap();
        for place in ["/data", "/data/x", "/line"] {
            let mut options = Message::default();
            let refused = add(&mut options, &place_in(root, Path::new(place)), Path::new("/srv"));
            assert!(refused.unwrap_err().to_string().starts_with("cannot hand the mount"), "{place}");
            assert_eq!(options, Message::default());
        }
    }

    #[test]
    fn masks_are_where_links_lead_in_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::fs::write(root.join("real/file"), "").unwrap();
        // A file of the host, which is none of the container.
        let outside = folder.path().join("outside");
        std::fs::write(&outside, "").unwrap();
        symlink("/real", root.join("link")).unwrap();
        symlink(&outside, root.join("out")).unwrap();
        let masked = ["/link/file", "/out", "/real", "/none"].map(str::to_owned).to_vec();
        let linux = oci_spec::runtime::LinuxBuilder::default().masked_paths(masked).build().unwrap();
        let spec = SpecBuilder::default().linux(linux).build().unwrap();
        let subject = Subject { spec: &spec, rootfs: &root, cgroup_binds: &[], freezer: None };
        let found = masked_files(&subject, &root);
        assert_eq!(found, [External { place: "/real/file".into(), source: MASK.into() }]);
    }

    #[test]
    fn binds_cgroups_and_devices_are_external() {
        let mount = |kind: &str, place: &str, option: &str| {
            let options = vec![option.to_owned()];
            MountBuilder::default()
                .typ(kind)
                .destination(place)
                .source("/src")
                .options(options)
                .build()
                .unwrap()
        };
        let mounts = vec![
            mount("tmpfs", "/tmp", "rw"),
            mount("none", "/data", "rbind"),
            mount("cgroup", "/sys/fs/cgroup", "ro"),
        ];
        let spec = SpecBuilder::default().mounts(mounts).build().unwrap();
        let binds = [("memory".to_owned(), PathBuf::from("/sys/fs/cgroup/memory/c"))];
        let folder = tempfile::tempdir().unwrap();
        let rootfs = folder.path();
        let subject = Subject { spec: &spec, rootfs, cgroup_binds: &binds, freezer: None };
        let found = externals(&subject);
        let external = |place: &str, source: &str| External { place: place.into(), source: source.into() };
        assert_eq!(found[0], external("/data", "/src"));
        assert_eq!(found[1], external("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/c"));
        assert_eq!(found[2], external("/dev/null", "/dev/null"));
        assert_eq!(found.len(), 2 + DEFAULT_DEVICES.len());
    }
}
