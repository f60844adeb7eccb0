//! The options that a dump and a restore share: criu's `criu_opts`.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::wire::Message;
use super::{CriuError, Subject, name};
use crate::cli::CriuArgs;

/// Names of `criu_opts`' fields, by their numbers in criu's rpc.proto.
pub(super) mod field {
    pub const IMAGES_DIR_FD: u32 = 1;
    pub const PID: u32 = 2;
    pub const LEAVE_RUNNING: u32 = 3;
    pub const EXT_UNIX_SK: u32 = 4;
    pub const TCP_ESTABLISHED: u32 = 5;
    pub const EVASIVE_DEVICES: u32 = 6;
    pub const SHELL_JOB: u32 = 7;
    pub const FILE_LOCKS: u32 = 8;
    pub const LOG_LEVEL: u32 = 9;
    pub const LOG_FILE: u32 = 10;
    pub const PAGE_SERVER: u32 = 11;
    pub const NOTIFY_SCRIPTS: u32 = 12;
    pub const ROOT: u32 = 13;
    pub const PARENT_IMG: u32 = 14;
    pub const TRACK_MEM: u32 = 15;
    pub const AUTO_DEDUP: u32 = 16;
    pub const WORK_DIR_FD: u32 = 17;
    pub const LINK_REMAP: u32 = 18;
    pub const EXT_MNT: u32 = 23;
    pub const MANAGE_CGROUPS: u32 = 24;
    pub const CG_ROOT: u32 = 25;
    pub const RST_SIBLING: u32 = 26;
    pub const INHERIT_FD: u32 = 27;
    pub const MANAGE_CGROUPS_MODE: u32 = 34;
    pub const EXTERNAL: u32 = 37;
    pub const EMPTY_NS: u32 = 38;
    pub const JOIN_NS: u32 = 39;
    pub const FREEZE_CGROUP: u32 = 44;
    pub const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub const LAZY_PAGES: u32 = 48;
    pub const STATUS_FD: u32 = 49;
    pub const ORPHAN_PTS_MASTER: u32 = 50;
    pub const CONFIG_FILE: u32 = 51;
    pub const LSM_PROFILE: u32 = 53;
    pub const LSM_MOUNT_CONTEXT: u32 = 63;
}

/// Errors and warnings, and what was done.
const LOG_LEVEL: i64 = 4;
/// Settings of the host's administrator for every container; criu does not mind if it is missing.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";
/// The annotation that names another one, or none at all if it is empty.
const CONFIG_ANNOTATION: &str = "org.criu.config";

/// Where images and logs go. The descriptors must live until criu is done: it opens them through /proc.
pub(super) struct Folders {
    pub images: PathBuf,
    images_fd: File,
    work_fd: Option<File>,
    /// Folder of criu's log.
    pub log: PathBuf,
}

impl Folders {
    /// Opens them; the one for work is made if it is missing.
    pub(super) fn open(images: &Path, work: Option<&Path>) -> Result<Self, CriuError> {
        let images_fd = File::open(images).map_err(CriuError::file("cannot open", images))?;
        let work_fd = work.map(|work| make(work).and_then(|()| open(work))).transpose()?;
        let log = work.unwrap_or(images).to_owned();
        Ok(Self { images: images.to_owned(), images_fd, work_fd, log })
    }
}

fn open(folder: &Path) -> Result<File, CriuError> {
    File::open(folder).map_err(CriuError::file("cannot open", folder))
}

/// Makes a folder that only its owner sees, if there is none: a container can be saved more than once.
pub(super) fn make(folder: &Path) -> Result<(), CriuError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(CriuError::file("cannot make folder", folder)(error))
        }
        _ => Ok(()),
    }
}

/// The folder of the images as the user names it, or runc's default.
pub(super) fn image_path(args: &CriuArgs) -> PathBuf {
    args.image_path.clone().unwrap_or_else(|| PathBuf::from("checkpoint"))
}

/// What every dump and restore is told.
pub(super) fn common(
    args: &CriuArgs,
    subject: &Subject<'_>,
    folders: &Folders,
    log_file: &str,
) -> Result<Message, CriuError> {
    let mut options = Message::default();
    options
        .int(field::IMAGES_DIR_FD, folders.images_fd.as_raw_fd().into())
        .int(field::LOG_LEVEL, LOG_LEVEL)
        .text(field::LOG_FILE, log_file)
        .flag(field::MANAGE_CGROUPS, true)
        .int(field::MANAGE_CGROUPS_MODE, cgroups_mode(args.manage_cgroups_mode.as_deref())?)
        .flag(field::NOTIFY_SCRIPTS, true)
        .flag(field::SHELL_JOB, args.shell_job)
        .flag(field::TCP_ESTABLISHED, args.tcp_established)
        .flag(field::EXT_UNIX_SK, args.ext_unix_sk)
        .flag(field::FILE_LOCKS, args.file_locks)
        .int(field::EMPTY_NS, empty_namespaces(&args.empty_ns)?)
        .flag(field::ORPHAN_PTS_MASTER, true)
        .flag(field::AUTO_DEDUP, args.auto_dedup)
        .flag(field::LAZY_PAGES, args.lazy_pages);
    if let Some(work) = &folders.work_fd {
        options.int(field::WORK_DIR_FD, work.as_raw_fd().into());
    }
    if let Some(file) = config_file(subject.spec.annotations().as_ref()) {
        options.text(field::CONFIG_FILE, name::plain("the configuration", file)?);
    }
    Ok(options)
}

fn config_file(annotations: Option<&HashMap<String, String>>) -> Option<&str> {
    let named = annotations.and_then(|annotations| annotations.get(CONFIG_ANNOTATION));
    Some(named.map_or(CONFIG_FILE, String::as_str)).filter(|file| !file.is_empty())
}

/// criu's `criu_cg_mode`.
fn cgroups_mode(name: Option<&str>) -> Result<i64, CriuError> {
    match name {
        None => Ok(6),
        Some("ignore") => Ok(0),
        Some("soft") => Ok(3),
        Some("full") => Ok(4),
        Some("strict") => Ok(5),
        Some(_) => Err(CriuError::Invalid("invalid manage-cgroups-mode value".to_owned())),
    }
}

/// The clone flags of the namespaces that criu makes but does not fill. That of the network always is one:
/// who made the container's network makes it again.
fn empty_namespaces(names: &[String]) -> Result<i64, CriuError> {
    match names.iter().find(|name| *name != "network") {
        Some(name) => Err(CriuError::Invalid(format!("namespace {name:?} is not supported"))),
        None => Ok(libc::CLONE_NEWNET.into()),
    }
}

/// The message `key = 1, value = 2`, as criu has several.
pub(super) fn pair(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Message {
    let mut pair = Message::default();
    pair.text(1, key).text(2, value);
    pair
}

/// A path as criu takes it.
pub(super) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_network_can_be_left_empty() {
        assert_eq!(empty_namespaces(&[]).unwrap(), 0x4000_0000);
        assert_eq!(empty_namespaces(&["network".to_owned()]).unwrap(), 0x4000_0000);
        let error = empty_namespaces(&["pid".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "namespace \"pid\" is not supported");
    }

    #[test]
    fn modes_are_crius() {
        assert_eq!(cgroups_mode(None).unwrap(), 6);
        assert_eq!(cgroups_mode(Some("ignore")).unwrap(), 0);
        assert!(cgroups_mode(Some("soft ")).is_err());
    }

    #[test]
    fn an_annotation_names_the_configuration() {
        let with = |value: &str| HashMap::from([(CONFIG_ANNOTATION.to_owned(), value.to_owned())]);
        assert_eq!(config_file(None), Some(CONFIG_FILE));
        assert_eq!(config_file(Some(&HashMap::new())), Some(CONFIG_FILE));
        assert_eq!(config_file(Some(&with("/x"))), Some("/x"));
        assert_eq!(config_file(Some(&with(""))), None);
    }
}
