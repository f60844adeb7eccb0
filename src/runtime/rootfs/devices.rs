//! The container's /dev: the default devices, those of the spec, and the links that programs expect.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::unistd::{AccessFlags, Gid, Uid, UnlinkatFlags, access, fchownat, symlinkat, unlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::attach::BindSource;
use super::error::{DevError, FailedCall};
use super::mounter::Mounter;
use super::resolve::{Missing, Place, clean, file_type};

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node<'a> {
    path: Cow<'a, Path>,
    kind: SFlag,
    number: u64,
    mode: Mode,
    uid: u32,
    gid: u32,
}

/// The devices every container has, with major and minor number.
const DEFAULTS: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

/// Links in /dev, whose targets are the container's.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Fills /dev.
pub(super) fn set_up_dev(mounter: &Mounter<'_>) -> Result<(), DevError> {
    // Most devices are in /dev itself, which is resolved once.
    let dev = mounter
        .root
        .resolve(Path::new("dev"), || Ok(Missing::Directory))
        .map_err(FailedCall::at("mkdir", "/dev"))
        .map_err(DevError::Node)?;
    let empty = Vec::new();
    let linux = mounter.rootfs.spec.linux().as_ref();
    let devices = linux.and_then(|linux| linux.devices().as_ref()).unwrap_or(&empty);
    for node in nodes(devices)? {
        make_node(mounter, &dev, &node)?;
    }
    link_ptmx(&dev).map_err(DevError::Ptmx)?;
    make_links(&dev).map_err(DevError::Links)
}

/// The default devices that the spec does not redefine, then those of the spec. /dev/ptmx is a link.
fn nodes(devices: &[LinuxDevice]) -> Result<Vec<Node<'_>>, DevError> {
    let mut nodes = Vec::with_capacity(DEFAULTS.len() + devices.len());
    for (path, major, minor) in DEFAULTS {
        if !devices.iter().any(|device| device.path() == Path::new(path)) {
            nodes.push(Node {
                path: Path::new(path).into(),
                kind: SFlag::S_IFCHR,
                number: makedev(major, minor),
                mode: Mode::from_bits_truncate(0o666),
                uid: 0,
                gid: 0,
            });
        }
    }
    for device in devices {
        // A device without path is there for its cgroup rule only.
        if !device.path().as_os_str().is_empty() && clean(device.path()) != Path::new("dev/ptmx") {
            nodes.push(node(device)?);
        }
    }
    Ok(nodes)
}

fn node(device: &LinuxDevice) -> Result<Node<'_>, DevError> {
    let kind = match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => return Err(DevError::NotADevice { path: device.path().clone() }),
    };
    let number = |number: i64| {
        u64::try_from(number)
            .map_err(|_| DevError::Node(FailedCall::new("mknodat", device.path().display(), Errno::EINVAL)))
    };
    Ok(Node {
        path: device.path().into(),
        kind,
        number: if kind == SFlag::S_IFIFO {
            0
        } else {
            makedev(number(device.major())?, number(device.minor())?)
        },
        mode: Mode::from_bits_truncate(device.file_mode().unwrap_or(0o666)),
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

fn make_node(mounter: &Mounter<'_>, dev: &Place, node: &Node<'_>) -> Result<(), DevError> {
    let relative = mounter.root.relative(&node.path);
    if relative.parent() == Some(Path::new("dev")) {
        let name = relative.file_name().unwrap_or_default();
        return make_node_in(mounter, dev.fd.as_fd(), name, node);
    }
    let (parent, name) = mounter
        .root
        .resolve_parent(&relative)
        .map_err(FailedCall::at("mkdir parent of device inode", &node.path))
        .map_err(DevError::Node)?;
    make_node_in(mounter, parent.fd.as_fd(), &name, node)
}

fn make_node_in(
    mounter: &Mounter<'_>,
    directory: BorrowedFd<'_>,
    name: &OsStr,
    node: &Node<'_>,
) -> Result<(), DevError> {
    // No mknod in a user namespace.
    if mounter.rootfs.user_namespace {
        return bind_node(directory, name, &node.path).map_err(DevError::Node);
    }
    match mknodat(directory, name, node.kind, node.mode, node.number) {
        Ok(()) if node.uid == 0 && node.gid == 0 => Ok(()),
        Ok(()) => own_node(directory, name, node),
        Err(Errno::EEXIST) => Ok(()),
        Err(Errno::EPERM | Errno::EACCES) => bind_node(directory, name, &node.path).map_err(DevError::Node),
        Err(errno) => Err(DevError::Node(FailedCall::at("mknodat", &node.path)(errno))),
    }
}

/// Gives a device its owner, after a look at whether it is still the one that was made: the directory may be
/// on a volume that somebody else changes.
fn own_node(directory: BorrowedFd<'_>, name: &OsStr, node: &Node<'_>) -> Result<(), DevError> {
    let failed = |call| move |errno| DevError::Node(FailedCall::at(call, &node.path)(errno));
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(directory, name, flags, Mode::empty()).map_err(failed("open"))?;
    let stat = fstat(&made).map_err(failed("fstat"))?;
    if file_type(&stat) != node.kind || stat.st_rdev != node.number {
        return Err(DevError::Replaced { path: node.path.to_path_buf() });
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    fchownat(&made, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).map_err(failed("fchownat"))
}

/// Binds the host's device on a new file.
fn bind_node(directory: BorrowedFd<'_>, name: &OsStr, device: &Path) -> Result<(), FailedCall> {
    let flags = OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let target = openat(directory, name, flags, Mode::empty())
        .map_err(FailedCall::at("create device inode", device))?;
    BindSource::open(AT_FDCWD, device, false)
        .and_then(|origin| origin.attach(target.as_fd(), false))
        .map_err(FailedCall::at("bind device", device))
}

fn link_ptmx(dev: &Place) -> Result<(), FailedCall> {
    let link = || symlinkat("pts/ptmx", &dev.fd, "ptmx");
    link()
        .or_else(|errno| match errno {
            Errno::EEXIST => {
                unlinkat(&dev.fd, "ptmx", UnlinkatFlags::NoRemoveDir)?;
                link()
            }
            errno => Err(errno),
        })
        .map_err(FailedCall::at("symlink", "/dev/ptmx"))
}

fn make_links(dev: &Place) -> Result<(), FailedCall> {
    // The kernel may be built without /proc/kcore.
    let kcore = access("/proc/kcore", AccessFlags::F_OK).is_ok().then_some(("core", "/proc/kcore"));
    for (name, target) in LINKS.into_iter().chain(kcore) {
        match symlinkat(target, &dev.fd, name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                return Err(FailedCall::at("symlink", PathBuf::from("/dev").join(name))(errno));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(json: &str) -> Vec<LinuxDevice> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_spec_replaces_a_default_device_of_the_same_path() {
        let devices = devices(
            r#"[{"path":"/dev/tty","type":"c","major":5,"minor":0,"fileMode":420,"uid":1,"gid":2},
                {"path":"/dev/ptmx","type":"c","major":5,"minor":2}]"#,
        );
        let nodes = nodes(&devices).unwrap();
        assert_eq!(nodes.len(), DEFAULTS.len());
        let last = nodes.last().unwrap();
        assert_eq!((last.path.as_ref(), last.uid, last.gid), (Path::new("/dev/tty"), 1, 2));
        assert_eq!(last.mode.bits(), 0o644);
    }

    #[test]
    fn a_device_of_all_types_is_none() {
        let devices = devices(r#"[{"path":"/dev/x","type":"a","major":1,"minor":1}]"#);
        let error = nodes(&devices).unwrap_err();
        assert!(error.to_string().ends_with(r#"a is not a valid device type for device "/dev/x""#));
    }
}
