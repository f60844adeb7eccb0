//! Restore: criu makes the processes in its images run again, the first of them as a child of rt.

use std::error::Error;
use std::fs::{DirBuilder, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::dump::{DESCRIPTORS, OPTIONS, acknowledgement, external_namespace, joined};
use super::options::{Folders, bytes, common, field, image_path, pair};
use super::session::{Kind, Session, handled, request};
use super::wire::Message;
use super::{CriuError, OLDEST, Subject, mounts, name, quote, version};
use crate::cli::RestoreArgs;
use crate::runtime::rootfs::{Rootfs, SourceProvider, open_source};
use crate::sys;

const LOG_FILE: &str = "restore.log";
/// Since when another LSM profile can be given.
const LSM: i32 = 31_600;
/// Where the root file system is mounted for criu, below the state folder.
const CRIU_ROOT: &str = "criu-root";

/// What the caller does on the way.
pub trait RestoreEvents {
    /// Puts criu, and so all it will start, into the container's cgroup, with its limits.
    ///
    /// # Errors
    /// Whatever fails; the restore then fails too.
    fn join_cgroup(&mut self, criu: Pid) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// The namespaces are there and init is in them, but nothing runs yet: the time of the `prestart` and
    /// `createRuntime` hooks.
    ///
    /// # Errors
    /// Whatever fails; the restore then fails too.
    fn namespaces_ready(&mut self, init: Pid) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// The controlling end of the container's terminal.
    ///
    /// # Errors
    /// Whatever fails; the restore then fails too.
    fn terminal(&mut self, master: OwnedFd) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Init is restored and about to run: its pid can be saved.
    ///
    /// # Errors
    /// Whatever fails; the restore then fails too.
    fn restored(&mut self, init: Pid) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Restores the container, with rt's stdin, stdout and stderr in place of its own if those were pipes.
/// `scratch` is a folder that nobody else writes to. Returns the pid of init, a child of this process.
///
/// # Errors
/// [`CriuError`]; nothing of the container then runs.
pub fn restore(
    args: &RestoreArgs,
    subject: &Subject<'_>,
    scratch: &Path,
    events: &mut dyn RestoreEvents,
) -> Result<Pid, CriuError> {
    let version = version(OLDEST)?;
    let folders = Folders::open(&image_path(&args.criu), args.criu.work_path.as_deref())?;
    let root = CriuRoot::mount(subject.rootfs, scratch)?;
    let mut options = common(&args.criu, subject, &folders, LOG_FILE)?;
    options
        .flag(field::EVASIVE_DEVICES, true)
        .flag(field::RST_SIBLING, true)
        .text(field::ROOT, name::plain("the root", bytes(&root.0))?);
    for (flag, number, value) in [
        ("--lsm-profile", field::LSM_PROFILE, &args.lsm_profile),
        ("--lsm-mount-context", field::LSM_MOUNT_CONTEXT, &args.lsm_mount_context),
    ] {
        let Some(value) = value else { continue };
        if version < LSM {
            return Err(CriuError::Invalid(format!("{flag} requires at least CRIU 3.16")));
        }
        options.text(number, name::plain(flag, value)?);
    }
    let inherited = add_namespaces(&mut options, subject)?;
    add_mounts(&mut options, subject)?;
    make_mountpoints(subject)?;
    add_pipes(&mut options, &folders.images)?;
    converse(options, &inherited, events).inspect_err(|_| quote::quote_errors(&folders.log.join(LOG_FILE)))
}

fn add_mounts(options: &mut Message, subject: &Subject<'_>) -> Result<(), CriuError> {
    for external in mounts::externals(subject) {
        mounts::add(options, &external.place, &external.source)?;
    }
    mounts::add(options, Path::new(mounts::MASK), Path::new(mounts::MASK))
}

fn converse(
    mut options: Message,
    inherited: &[OwnedFd],
    events: &mut dyn RestoreEvents,
) -> Result<Pid, CriuError> {
    let session = Session::start(inherited)?;
    events.join_cgroup(session.pid()).map_err(handled)?;
    add_cgroup_roots(&mut options, session.pid())?;
    session.send(&request(Kind::Restore, Some((OPTIONS, &options))))?;
    let init = loop {
        let response = session.receive()?;
        if response.kind != Kind::Notify as i32 {
            break Pid::from_raw(response.restored);
        }
        tracing::debug!("notify: {}", response.script);
        let pid = Pid::from_raw(response.pid);
        match response.script.as_str() {
            "setup-namespaces" => events.namespaces_ready(pid),
            "post-restore" => events.restored(pid),
            "orphan-pts-master" => match response.descriptors.into_iter().next() {
                Some(master) => events.terminal(master),
                None => return Err(CriuError::Protocol("a terminal without a descriptor")),
            },
            _ => Ok(()),
        }
        .map_err(handled)?;
        session.send(&acknowledgement())?;
    };
    session.finish(true)?;
    Ok(init)
}

/// The root file system mounted a second time: criu wants a mount point whose parent is not mounted over.
struct CriuRoot(PathBuf);

impl CriuRoot {
    fn mount(rootfs: &Path, scratch: &Path) -> Result<Self, CriuError> {
        let path = scratch.join(CRIU_ROOT);
        let made = DirBuilder::new().mode(0o755).create(&path);
        made.map_err(CriuError::file("cannot make folder", &path))?;
        let root = Self(path.canonicalize().map_err(CriuError::file("cannot resolve", &path))?);
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(rootfs), &root.0, None::<&str>, flags, None::<&str>)
            .map_err(|errno| CriuError::file("cannot bind the rootfs to", &root.0)(errno.into()))?;
        Ok(root)
    }
}

impl Drop for CriuRoot {
    fn drop(&mut self) {
        // EINVAL: it never was mounted.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Hands over the namespaces that the container joins: net and pid as descriptors under the key that the dump
/// gave them, the others by path.
fn add_namespaces(options: &mut Message, subject: &Subject<'_>) -> Result<Vec<OwnedFd>, CriuError> {
    let mut inherited = Vec::new();
    for (kind, path) in joined(subject) {
        if let Some((_, key)) = external_namespace(kind) {
            let namespace = File::open(&path).map_err(CriuError::file("cannot open namespace", &path))?;
            options.message(field::INHERIT_FD, &inherit(key, namespace.as_raw_fd()));
            inherited.push(namespace.into());
            continue;
        }
        let kind = match kind {
            LinuxNamespaceType::Mount => "mnt",
            LinuxNamespaceType::Ipc => "ipc",
            LinuxNamespaceType::Uts => "uts",
            LinuxNamespaceType::User => "user",
            LinuxNamespaceType::Time => "time",
            other => return Err(CriuError::Invalid(format!("do not know how to handle namespace {other}"))),
        };
        options.message(field::JOIN_NS, &pair(kind, name::plain("the namespace", bytes(&path))?));
    }
    Ok(inherited)
}

fn inherit(key: &str, descriptor: i32) -> Message {
    let mut message = Message::default();
    message.text(1, key).int(2, descriptor.into());
    message
}

/// Pipes that the container had as stdin, stdout and stderr are replaced by what rt has there.
fn add_pipes(options: &mut Message, images: &Path) -> Result<(), CriuError> {
    let path = images.join(DESCRIPTORS);
    let text = std::fs::read(&path).map_err(CriuError::file("cannot read", &path))?;
    let names: Option<Vec<String>> = serde_json::from_slice(&text)
        .map_err(|error| CriuError::file("cannot understand", &path)(error.into()))?;
    for (number, name) in (0..).zip(names.unwrap_or_default()) {
        if name::is_pipe(&name) {
            options.message(field::INHERIT_FD, &inherit(&name, number));
        }
    }
    Ok(())
}

/// Tells criu where its cgroups are, so that those of the images become children of the container's.
fn add_cgroup_roots(options: &mut Message, criu: Pid) -> Result<(), CriuError> {
    let path = PathBuf::from(format!("/proc/{criu}/cgroup"));
    let text = std::fs::read_to_string(&path).map_err(CriuError::file("cannot read", &path))?;
    for (controller, path) in cgroups_of(&text) {
        options.message(field::CG_ROOT, &pair(controller, name::plain("the cgroup", path)?));
    }
    Ok(())
}

/// Controllers (`name=systemd` is one, `""` is v2) and paths of a /proc/PID/cgroup.
fn cgroups_of(text: &str) -> Vec<(&str, &str)> {
    let parts = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    parts.flat_map(|(names, path)| names.split(',').map(move |name| (name, path))).collect()
}

/// Makes the mount points that config.json needs in the root file system and in what is bound into it: a
/// throw-away process mounts everything as for a new container, in a mount namespace that ends with it. The
/// cgroups are left out: criu has their mount points in its images.
fn make_mountpoints(subject: &Subject<'_>) -> Result<(), CriuError> {
    let mut spec = subject.spec.clone();
    let mounts = spec.mounts().iter().flatten().filter(|mount| mount.typ().as_deref() != Some("cgroup"));
    let mounts: Vec<_> = mounts.cloned().collect();
    spec.set_mounts(Some(mounts));
    let work = || {
        let failed = |errno: nix::errno::Errno| format!("cannot leave the mount namespace: {errno}");
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
        let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(failed)?;
        let rootfs = Rootfs {
            spec: &spec,
            root: subject.rootfs,
            user_namespace: false,
            cgroup_namespace: false,
            mount_namespace: true,
            no_pivot: false,
            cgroup_v1_paths: &[],
            cgroup2_path: None,
        };
        rootfs.prepare(&mut OwnSources(&spec)).map(drop).map_err(|error| error.to_string())
    };
    let said = sys::criu::in_child(work).map_err(CriuError::io("cannot fork"))?;
    said.map_err(|why| CriuError::Invalid(format!("create criu restore mountpoints: {why}")))
}

/// Opens what is to be mounted by itself: the throw-away process has all privileges.
struct OwnSources<'a>(&'a Spec);

impl SourceProvider for OwnSources<'_> {
    fn mount_source(&mut self, index: usize) -> std::io::Result<OwnedFd> {
        open_source(self.0, index, Pid::this()).map_err(std::io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_split() {
        let text = "5:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n";
        let expected = [("cpu", "/a"), ("cpuacct", "/a"), ("name=systemd", "/b"), ("", "/c")];
        assert_eq!(cgroups_of(text), expected);
    }

    #[test]
    fn only_pipes_are_inherited() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(DESCRIPTORS), r#"["/tmp/pipe:[7]","pipe:[77]","/dev/null"]"#)
            .unwrap();
        let mut options = Message::default();
        add_pipes(&mut options, folder.path()).unwrap();
        let mut expected = Message::default();
        expected.message(field::INHERIT_FD, &inherit("pipe:[77]", 1));
        assert_eq!(options, expected);
        std::fs::write(folder.path().join(DESCRIPTORS), "null").unwrap();
        add_pipes(&mut Message::default(), folder.path()).unwrap();
        assert!(add_pipes(&mut options, &folder.path().join("none")).is_err());
    }
}
