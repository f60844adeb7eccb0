//! The parent's part: sources of mounts that the child cannot open, taken in the child's mount namespace with
//! the host's privileges.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, chroot, fchdir};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

use super::error::{FailedCall, RootfsError, SourceFailure};
use super::options::IdMap;
use super::request::Request;
use crate::sys::mount::{UserNamespaceHolder, clone_tree, set_idmap};

/// A detached mount of the source of the mount with this index in `spec`, as `child` sees it: sources made by
/// earlier mounts are there. Its files' owners are mapped if the mount says so, by the mount's own mappings
/// or else by those of the child's user namespace.
///
/// The caller has one thread; its mount namespace, root and working directory are the same afterwards, even
/// after an error.
///
/// # Errors
/// [`RootfsError::Source`].
pub fn open_source(spec: &Spec, mount_index: usize, child: Pid) -> Result<OwnedFd, RootfsError> {
    let mount = spec.mounts().as_ref().and_then(|mounts| mounts.get(mount_index));
    let Some(mount) = mount else {
        let cause = SourceFailure::NoSuchMount(mount_index);
        return Err(RootfsError::Source { origin: PathBuf::new(), cause });
    };
    let request = Request::new(mount_index, mount);
    open_request(spec, mount, &request, child)
        .map_err(|cause| RootfsError::Source { origin: request.origin.to_owned(), cause })
}

fn open_request(
    spec: &Spec,
    mount: &Mount,
    request: &Request<'_>,
    child: Pid,
) -> Result<OwnedFd, SourceFailure> {
    let user_namespace = if request.id_mapped { Some(id_map_of(spec, mount, child)?) } else { None };
    // Relative to where we are now, not to where the other namespace puts us.
    let origin = std::path::absolute(request.origin)
        .map_err(|error| FailedCall::at("getcwd", request.origin)(errno_of(&error)))?;
    let tree = in_mount_namespace(child, || {
        clone_tree(nix::fcntl::AT_FDCWD, &origin, request.is_recursive())
            .map_err(FailedCall::at("open_tree(OPEN_TREE_CLONE)", &origin))
    })?;
    if let Some(user_namespace) = user_namespace {
        let recursive = request.options.id_map == Some(IdMap::Tree);
        set_idmap(tree.as_fd(), user_namespace.as_fd(), recursive).map_err(SourceFailure::IdMap)?;
    }
    Ok(tree)
}

/// The user namespace whose mappings apply to `mount`.
fn id_map_of(spec: &Spec, mount: &Mount, child: Pid) -> Result<File, SourceFailure> {
    let (uids, gids) = (mount.uid_mappings(), mount.gid_mappings());
    if (uids.is_none() && gids.is_none()) || is_containers_mapping(spec, mount) {
        let path = format!("/proc/{child}/ns/user");
        return File::open(&path).map_err(|error| FailedCall::new("open", path, errno_of(&error)).into());
    }
    let (uids, gids) = (uids.as_deref().unwrap_or(&[]), gids.as_deref().unwrap_or(&[]));
    make_user_namespace(uids, gids).map_err(SourceFailure::UserNamespace)
}

/// Whether the mount's mappings are those that the container's own, new user namespace got.
fn is_containers_mapping(spec: &Spec, mount: &Mount) -> bool {
    let Some(linux) = spec.linux() else { return false };
    let is_new = linux.namespaces().iter().flatten().any(|namespace| {
        namespace.typ() == LinuxNamespaceType::User
            && namespace.path().as_ref().is_none_or(|path| path.as_os_str().is_empty())
    });
    is_new && linux.uid_mappings() == mount.uid_mappings() && linux.gid_mappings() == mount.gid_mappings()
}

/// A user namespace with these mappings and nobody in it.
fn make_user_namespace(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> io::Result<File> {
    let holder = UserNamespaceHolder::spawn()?;
    let pid = holder.pid();
    write_map(&format!("/proc/{pid}/uid_map"), uids)?;
    write_map(&format!("/proc/{pid}/gid_map"), gids)?;
    File::open(format!("/proc/{pid}/ns/user"))
}

/// Writes all lines at once: the kernel takes a single write.
fn write_map(path: &str, mappings: &[LinuxIdMapping]) -> io::Result<()> {
    let mut text = String::new();
    for mapping in mappings {
        let (container, host, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
        text.push_str(&format!("{container} {host} {size}\n"));
    }
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// Runs `work` in the mount namespace of `child`, then comes back.
fn in_mount_namespace<T>(child: Pid, work: impl FnOnce() -> Result<T, FailedCall>) -> Result<T, FailedCall> {
    let open_at = |path: &str, flags| {
        open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).map_err(FailedCall::at("open", path))
    };
    let theirs = open_at(&format!("/proc/{child}/ns/mnt"), OFlag::O_RDONLY)?;
    let ours = open_at("/proc/self/ns/mnt", OFlag::O_RDONLY)?;
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let (root, here) = (open_at("/", directory)?, open_at(".", directory)?);
    setns(theirs, CloneFlags::CLONE_NEWNS)
        .map_err(FailedCall::at("setns", format!("/proc/{child}/ns/mnt")))?;
    let result = work();
    // setns goes to the root of the namespace, which is not ours if we are in a chroot.
    let back = setns(ours, CloneFlags::CLONE_NEWNS)
        .and_then(|()| fchdir(&root))
        .and_then(|()| chroot("."))
        .and_then(|()| fchdir(&here));
    match back {
        Ok(()) => result,
        Err(errno) => Err(FailedCall::new("setns", "back to the runtime's mount namespace", errno)),
    }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
