//! Checkpoint: criu writes the container's processes into images.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::LinuxNamespaceType;

use super::options::{Folders, bytes, common, field, image_path};
use super::session::{Kind, Response, Session, ask, request};
use super::wire::Message;
use super::{CriuError, OLDEST, Subject, mounts, name, quote, version};
use crate::cli::CheckpointArgs;
use crate::sys;

const LOG_FILE: &str = "dump.log";
/// What init's standard descriptors were: a restore gives it others in their place.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// Since when criu says by a notification that its lazy pages can be fetched.
const STATUS_READY: i32 = 31_500;
/// Since when criu freezes by cgroup v2.
const FREEZER_V2: i32 = 31_400;
/// Fields of `criu_req`.
pub(super) const OPTIONS: u32 = 2;
const NOTIFY_SUCCESS: u32 = 3;
const FEATURES: u32 = 5;

/// Saves the container whose init is `pid`. Without `--leave-running` and `--pre-dump` its processes are gone
/// afterwards.
///
/// # Errors
/// [`CriuError`]; the container then runs on as before.
pub fn dump(args: &CheckpointArgs, subject: &Subject<'_>, pid: Pid) -> Result<(), CriuError> {
    let version = version(OLDEST)?;
    let images = image_path(&args.criu);
    make_images(&images, args.parent_path.as_deref())?;
    let folders = Folders::open(&images, args.criu.work_path.as_deref())?;
    let mut options = common(&args.criu, subject, &folders, LOG_FILE)?;
    options
        .text(field::ROOT, name::plain("the root", bytes(subject.rootfs))?)
        .int(field::PID, pid.as_raw().into())
        .flag(field::LEAVE_RUNNING, args.leave_running)
        .flag(field::TCP_SKIP_IN_FLIGHT, args.tcp_skip_in_flight)
        .flag(field::LINK_REMAP, args.link_remap);
    add_namespaces(&mut options, subject)?;
    if let Some(freezer) = subject.freezer.filter(|path| version >= FREEZER_V2 || !is_v2(path)) {
        options.text(field::FREEZE_CGROUP, name::plain("the freezer", bytes(freezer))?);
    }
    if let Some(server) = &args.page_server {
        options.message(field::PAGE_SERVER, &page_server(server)?);
    }
    if let Some(parent) = &args.parent_path {
        options
            .text(field::PARENT_IMG, name::plain("--parent-path", bytes(parent))?)
            .flag(field::TRACK_MEM, true);
    }
    let mut status = None;
    if args.criu.lazy_pages {
        check_feature("LazyPages", 2, |features| features.lazy_pages)?;
        status = status_descriptor(args.status_fd)?;
        if let Some(status) = status.as_ref().filter(|_| version < STATUS_READY) {
            options.int(field::STATUS_FD, status.as_raw_fd().into());
        }
    }
    let kind = if args.pre_dump {
        check_feature("MemTrack", 1, |features| features.mem_track)?;
        Kind::PreDump
    } else {
        add_mounts(&mut options, subject, pid)?;
        save_descriptors(&images, pid)?;
        Kind::Dump
    };
    converse(kind, &options, status).inspect_err(|_| quote::quote_errors(&folders.log.join(LOG_FILE)))
}

/// Sends the request and answers criu's notifications until it is done.
fn converse(kind: Kind, options: &Message, mut status: Option<OwnedFd>) -> Result<(), CriuError> {
    let session = Session::start(&[])?;
    session.send(&request(kind, Some((OPTIONS, options))))?;
    loop {
        let response = session.receive()?;
        if response.kind != Kind::Notify as i32 {
            break;
        }
        tracing::debug!("notify: {}", response.script);
        if response.script == "status-ready" {
            // Whoever waits for it also waits for its end.
            if let Some(Err(errno)) = status.take().map(|fd| nix::unistd::write(fd, &[0])) {
                tracing::warn!("can't write \\0 to status fd: {errno}");
            }
        }
        session.send(&acknowledgement())?;
    }
    // A pre-dump waits for the dump that is to follow it.
    session.finish(kind != Kind::PreDump)
}

/// The answer to a notification.
pub(super) fn acknowledgement() -> Message {
    let mut message = request(Kind::Notify, None);
    message.flag(NOTIFY_SUCCESS, true);
    message
}

fn make_images(images: &Path, parent: Option<&Path>) -> Result<(), CriuError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(images);
    made.map_err(CriuError::file("cannot make folder", images))?;
    let Some(parent) = parent else { return Ok(()) };
    if parent.is_absolute() {
        return Err(CriuError::Invalid("--parent-path must be relative".to_owned()));
    }
    let parent = images.join(parent);
    match parent.metadata() {
        Ok(data) if data.is_dir() => Ok(()),
        Ok(_) => Err(std::io::Error::from_raw_os_error(libc::ENOTDIR)),
        Err(error) => Err(error),
    }
    .map_err(CriuError::file("invalid --parent-path", &parent))
}

/// Namespaces that the container has joined are none of criu's business.
fn add_namespaces(options: &mut Message, subject: &Subject<'_>) -> Result<(), CriuError> {
    for (kind, path) in joined(subject) {
        let Some((name, key)) = external_namespace(kind) else { continue };
        let data = path.metadata().map_err(CriuError::file("cannot find namespace", &path))?;
        options.text(field::EXTERNAL, format!("{name}[{}]:{key}", data.ino()));
    }
    Ok(())
}

/// The namespaces that config.json gives a path for.
pub(super) fn joined(subject: &Subject<'_>) -> impl Iterator<Item = (LinuxNamespaceType, PathBuf)> {
    let linux = subject.spec.linux().as_ref();
    let all = linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten();
    all.filter_map(|namespace| Some((namespace.typ(), namespace.path().clone()?)))
        .filter(|(_, path)| !path.as_os_str().is_empty())
}

/// Name and key of the namespaces that criu can take from outside.
pub(super) fn external_namespace(kind: LinuxNamespaceType) -> Option<(&'static str, &'static str)> {
    match kind {
        LinuxNamespaceType::Network => Some(("net", "extRootNetNS")),
        LinuxNamespaceType::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

fn is_v2(cgroup: &Path) -> bool {
    cgroup.join("cgroup.freeze").exists()
}

fn page_server(text: &str) -> Result<Message, CriuError> {
    let invalid = || CriuError::Invalid("Use --page-server ADDRESS:PORT to specify page server".to_owned());
    let (address, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    // An IPv6 address is in brackets, or its last part would be the port.
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let address = bare.or(Some(address).filter(|address| !address.contains(':'))).ok_or_else(invalid)?;
    if address.is_empty() || port.is_empty() {
        return Err(invalid());
    }
    let port: u16 = port.parse().map_err(|_| CriuError::Invalid("Invalid port number".to_owned()))?;
    let mut server = Message::default();
    server.text(1, address).int(2, port.into());
    Ok(server)
}

fn status_descriptor(number: i32) -> Result<Option<OwnedFd>, CriuError> {
    if number == -1 {
        return Ok(None);
    }
    let invalid = |errno| CriuError::Invalid(format!("invalid --status-fd argument {number}: {errno}"));
    sys::criu::take_writable(number).map(Some).map_err(invalid)
}

/// Asks criu and the kernel for a feature by its field in `criu_features`.
fn check_feature(name: &'static str, number: u32, has: fn(&Response) -> bool) -> Result<(), CriuError> {
    let mut features = Message::default();
    features.flag(number, true);
    let response = ask(&request(Kind::FeatureCheck, Some((FEATURES, &features))))?;
    if has(&response) { Ok(()) } else { Err(CriuError::MissingFeature(name)) }
}

fn add_mounts(options: &mut Message, subject: &Subject<'_>, pid: Pid) -> Result<(), CriuError> {
    for external in mounts::externals(subject) {
        mounts::add(options, &external.place, &external.place)?;
    }
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    for masked in mounts::masked_files(subject, &root) {
        mounts::add(options, &masked.place, &masked.source)?;
    }
    Ok(())
}

fn save_descriptors(images: &Path, pid: Pid) -> Result<(), CriuError> {
    let name = |number: i32| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        link.map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let names = [name(0), name(1), name(2)];
    let path = images.join(DESCRIPTORS);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let text = serde_json::to_vec(&names).unwrap_or_default();
    options
        .open(&path)
        .and_then(|mut file| file.write_all(&text))
        .map_err(CriuError::file("cannot write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers_have_address_and_port() {
        let mut expected = Message::default();
        expected.text(1, "0.0.0.0").int(2, 27277);
        assert_eq!(page_server("0.0.0.0:27277").unwrap(), expected);
        let mut expected = Message::default();
        expected.text(1, "::1").int(2, 1);
        assert_eq!(page_server("[::1]:1").unwrap(), expected);
        for text in ["", "host", "host:", ":1", "host:x", "::1:1", "host:70000"] {
            assert!(page_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parents_are_relative_folders() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("a/images");
        make_images(&images, None).unwrap();
        make_images(&images, Some(Path::new(".."))).unwrap();
        for parent in ["/abs", "../none"] {
            let error = make_images(&images, Some(Path::new(parent))).unwrap_err();
            assert!(error.to_string().contains("--parent-path"), "{error}");
        }
    }

    #[test]
    fn descriptors_are_saved_as_links_read() {
        let folder = tempfile::tempdir().unwrap();
        save_descriptors(folder.path(), Pid::this()).unwrap();
        let text = std::fs::read(folder.path().join(DESCRIPTORS)).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<String>>(&text).unwrap().len(), 3);
    }
}
