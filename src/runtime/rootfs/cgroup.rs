//! /sys/fs/cgroup of a container: cgroup2 where the host is unified, else a tmpfs with one mount for each
//! hierarchy. Without a cgroup namespace the container's own directories are bind-mounted. With one, nothing
//! but the container's own cgroup is ever seen.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use libc::c_ulong;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat, stat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::symlinkat;

use super::attach::{self, BindSource};
use super::bind;
use super::error::{FailedCall, MountFailure};
use super::filesystem::{self, reopen};
use super::mounter::Mounter;
use super::options::MountOptions;
use super::proc_guard::{self, Cover};
use super::request::Request;
use super::resolve::Missing;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
const DEFAULT_FLAGS: c_ulong = libc::MS_NOEXEC | libc::MS_NOSUID | libc::MS_NODEV;

/// Mounts what `request`, of type `cgroup`, asks for on this host.
pub(super) fn mount(mounter: &Mounter<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    let has_v1 = !mounter.rootfs.cgroup_v1_paths.is_empty();
    if !has_v1 && is_unified() { mount_v2(mounter, request) } else { mount_v1(mounter, request) }
}

fn is_unified() -> bool {
    statfs(CGROUP_ROOT).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn mount_v2(mounter: &Mounter<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    let request = Request { kind: "cgroup2", options: request.options.clone(), ..*request };
    let place = mounter.mountpoint(&request, || Ok(Missing::Directory))?;
    proc_guard::check(mounter.root.path(), &place.path, Cover::Other)?;
    match filesystem::mount_on(mounter, &request, &place, &request.options.data) {
        // EPERM: a user namespace without a cgroup namespace of its own (runc issue 2158). EBUSY: a cgroup2 is
        // there already, which came with a bind mount of the host's /sys.
        Err(MountFailure::Call(FailedCall { errno: Errno::EPERM | Errno::EBUSY, .. })) => {
            bind_v2(mounter, &request)
        }
        result => result,
    }
}

/// Binds what a mount of cgroup2 would show: where there is a cgroup namespace, its root (CVE-2023-25809).
fn bind_v2(mounter: &Mounter<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    if !mounter.rootfs.cgroup_namespace {
        return bind_directory(mounter, request, Path::new(CGROUP_ROOT), request.destination, 0);
    }
    match mounter.rootfs.cgroup2_path {
        // A rootless runtime may have made no cgroup.
        Some(path) if exists(path) => bind_directory(mounter, request, path, request.destination, 0),
        _ => cover(mounter, request),
    }
}

fn exists(path: &Path) -> bool {
    !matches!(stat(path), Err(Errno::ENOENT))
}

/// Covers the host's cgroups, which may be writable, with an empty read-only tmpfs.
fn cover(mounter: &Mounter<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    let place = mounter.mountpoint(request, || Ok(Missing::Fail))?;
    attach::mount_filesystem(
        place.fd.as_fd(),
        Path::new("tmpfs"),
        "tmpfs",
        libc::MS_RDONLY,
        "nr_blocks=1,nr_inodes=1",
    )
    .map_err(|errno| mounter.failed_mount("mount", request, errno).into())
}

fn mount_v1(mounter: &Mounter<'_>, request: &Request<'_>) -> Result<(), MountFailure> {
    let tmpfs = Request {
        index: request.index,
        kind: "tmpfs",
        origin: Path::new("tmpfs"),
        destination: request.destination,
        options: MountOptions {
            flags: DEFAULT_FLAGS,
            propagation: request.options.propagation.clone(),
            data: "mode=755".to_owned(),
            ..MountOptions::default()
        },
        id_mapped: false,
    };
    let place = mounter.mountpoint(&tmpfs, || Ok(Missing::Directory))?;
    proc_guard::check(mounter.root.path(), &place.path, Cover::Other)?;
    filesystem::mount_on(mounter, &tmpfs, &place, &tmpfs.options.data)?;
    let directory = reopen(mounter, &place)?;
    for (name, path) in mounter.rootfs.cgroup_v1_paths {
        mount_hierarchy(mounter, request, directory.as_fd(), name, path)?;
    }
    for (name, _) in mounter.rootfs.cgroup_v1_paths {
        link_controllers(directory.as_fd(), name)?;
    }
    Ok(())
}

/// `cpu,cpuacct` is found as `cpu` and as `cpuacct` too.
fn link_controllers(directory: BorrowedFd<'_>, name: &str) -> Result<(), FailedCall> {
    for controller in name.split(',').filter(|controller| *controller != name) {
        match symlinkat(name, directory, controller) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(FailedCall::new("symlinkat", controller, errno)),
        }
    }
    Ok(())
}

fn mount_hierarchy(
    mounter: &Mounter<'_>,
    request: &Request<'_>,
    directory: BorrowedFd<'_>,
    name: &str,
    path: &Path,
) -> Result<(), MountFailure> {
    if !mounter.rootfs.cgroup_namespace {
        return bind_directory(mounter, request, path, &request.destination.join(name), libc::MS_REC);
    }
    let failed = |call| move |errno| FailedCall::new(call, request.destination.join(name).display(), errno);
    mkdirat(directory, name, Mode::from_bits_truncate(0o755)).map_err(failed("mkdirat"))?;
    // The tmpfs is new and nobody else sees it: nothing but the directory just made has this name.
    let open = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let target = openat(directory, name, open, Mode::empty()).map_err(failed("openat"))?;
    let flags = DEFAULT_FLAGS | (request.options.flags & libc::MS_RDONLY);
    let (origin, data) = match name {
        "systemd" => ("systemd", "name=systemd"),
        controllers => ("cgroup", controllers),
    };
    attach::mount_filesystem(target.as_fd(), Path::new(origin), "cgroup", flags, data)
        .map_err(failed("mount cgroup on"))?;
    Ok(())
}

/// Binds the directory `origin` of the host on `destination`, with the flags of `request`; what is mounted
/// beneath it comes along if `recursive` is `MS_REC`.
fn bind_directory(
    mounter: &Mounter<'_>,
    request: &Request<'_>,
    origin: &Path,
    destination: &Path,
    recursive: c_ulong,
) -> Result<(), MountFailure> {
    let options = MountOptions {
        flags: libc::MS_BIND | recursive | request.options.flags,
        propagation: request.options.propagation.clone(),
        ..MountOptions::default()
    };
    let destination = PathBuf::from(destination);
    let bound = Request {
        index: request.index,
        kind: "bind",
        origin,
        destination: &destination,
        options,
        id_mapped: false,
    };
    let tree = BindSource::open(mounter.start(), origin, recursive != 0)
        .map_err(FailedCall::at("open_tree", origin))?;
    bind::attach_and_set(mounter, &bound, tree)
}
