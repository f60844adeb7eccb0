//! Makes a container: from the config to an init that waits to be started. Whatever fails, everything that was made is
//! taken away again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::{Pid, geteuid};
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Process, Spec};

use super::cgroups::{Cgroup, Entered, OnDenied, Place, Version};
use super::container::Container;
use super::error::{Result, RuntimeError};
use super::gate::Gate;
use super::launch::{InitJob, Launched, Service, Settle, launch_init};
use super::node::Node;
use super::process::descriptors::Passed;
use super::process::{affinity, oom_score_adj, rlimits};
use super::proofs::{self, Proof};
use super::record::{FORMAT, Record};
use super::saved::Saved;
use super::seccomp::Filter;
use super::status::{ProcessId, Status};
use super::store::Store;
use super::{bundle, default_bundle, delete, folder, intel_rdt, receipts, seal, seccomp, sockets, validate};
use crate::units::{CpuShare, Ram};

/// What is asked of `create` and `run`.
#[derive(Debug)]
pub struct CreateRequest<'a> {
    pub id: &'a str,
    /// Absolute and there.
    pub bundle: &'a Path,
    pub ram: Option<Ram>,
    pub cpu: Option<CpuShare>,
    /// Where the terminal goes.
    pub console: Option<&'a OwnedFd>,
    pub pidfd_socket: Option<&'a OwnedFd>,
    pub pid_file: Option<&'a Path>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// About limits that this user may not set.
    pub on_denied: OnDenied,
    pub passed: Passed,
    /// What the administrator wants proved.
    pub node: &'a Node,
}

/// A config, and where it is from.
#[derive(Debug)]
pub struct Source {
    pub spec: Spec,
    /// Nothing but `--ram` and `--cpu` was given: the bundle is made in the container's folder.
    pub from_nothing: bool,
}

impl Source {
    /// Reads the bundle's config, or takes the embedded one where there is none but limits are asked for.
    ///
    /// # Errors
    /// The config cannot be read.
    pub fn read(bundle: &Path, limited: bool) -> Result<Self> {
        match bundle::load(bundle) {
            Err(RuntimeError::NoConfig(_)) if limited => {
                let spec = bundle::parse(default_bundle::CONFIG.as_bytes(), Path::new(bundle::CONFIG))?;
                Ok(Self { spec, from_nothing: true })
            }
            spec => Ok(Self { spec: spec?, from_nothing: false }),
        }
    }

    /// The process of the config.
    ///
    /// # Errors
    /// It has none.
    pub fn process(&self) -> Result<&Process> {
        let missing = || RuntimeError::Invalid("process property must not be empty".to_owned());
        self.spec.process().as_ref().ok_or_else(missing)
    }
}

/// Makes the container. The pid file is written and the record is saved when it returns.
///
/// # Errors
/// In runc's words; nothing is left but the record of a proof that was made.
pub fn create(store: &Store, source: Source, request: &CreateRequest<'_>) -> Result<(Container, Launched)> {
    let rootless = !geteuid().is_root();
    let mut spec = source.spec;
    default_bundle::apply_overrides(&mut spec, request.ram, request.cpu)
        .map_err(|error| RuntimeError::Other(error.to_string()))?;
    if !source.from_nothing {
        validate::validate(&spec, request.no_pivot, rootless)?;
    }
    let proofs = Proof::asked(&spec, request.node)?;
    let bundle = if source.from_nothing { Origin::Nothing(request) } else { Origin::Bundle(request.bundle) };
    let Prepared { mut container, mut spec } =
        record(store, request.id, spec, &bundle, request.no_new_keyring)?;
    if source.from_nothing {
        validate_made(&mut container, &spec, request, rootless)?;
    }
    proofs::arrange(&mut spec, &proofs, store.root());
    let filter = match limit(store, &mut container, &mut spec, request.on_denied) {
        Ok(filter) => filter,
        Err(error) => {
            // Nothing runs, and the cgroup may be somebody else's.
            folder::remove(container.directory())?;
            return Err(error);
        }
    };
    match make(&mut container, &spec, filter.as_ref(), request, rootless) {
        Ok(launched) => {
            container.set_spec(spec);
            Ok((container, launched))
        }
        Err(error) => {
            container.set_spec(spec);
            receipts::leave_proofs(store, &container);
            if let Err(second) = delete::destroy(&container) {
                tracing::warn!("{second}");
            }
            Err(error)
        }
    }
}

/// A container that is recorded and has nothing else yet.
pub struct Prepared {
    pub container: Container,
    pub spec: Spec,
}

/// Where a config and its files come from.
enum Origin<'a> {
    Bundle(&'a Path),
    /// The embedded config, in the container's folder.
    Nothing(&'a CreateRequest<'a>),
}

/// Records a container with the config of a bundle, which is saved beside.
///
/// # Errors
/// The name is taken, the root file system is missing, or the folder cannot be written to; nothing is left.
pub fn prepare(store: &Store, id: &str, spec: Spec, bundle: &Path) -> Result<Prepared> {
    let mut prepared = record(store, id, spec, &Origin::Bundle(bundle), false)?;
    let Prepared { container, spec } = &mut prepared;
    let saved = compile_filter(store, spec)
        .and_then(|filter| Saved::write(container.directory(), spec, filter.as_ref()));
    match saved {
        Ok(saved) => container.record_mut().saved = Some(saved),
        Err(error) => {
            folder::remove(container.directory())?;
            return Err(error);
        }
    }
    Ok(prepared)
}

fn record(
    store: &Store,
    id: &str,
    mut spec: Spec,
    origin: &Origin<'_>,
    no_new_keyring: bool,
) -> Result<Prepared> {
    let (dir, lock) = store.create_folder(id)?;
    let undo = Folder(&dir);
    let bundle = match origin {
        Origin::Bundle(bundle) => (*bundle).to_owned(),
        Origin::Nothing(request) => {
            let (bundle, limited) = make_bundle(&dir, request)?;
            spec = limited;
            bundle
        }
    };
    let rootfs = rootfs_of(&spec, &bundle)?;
    let record = record_of(store, id, &spec, bundle, rootfs, no_new_keyring)?;
    record.write(&dir)?;
    undo.keep();
    Ok(Prepared { container: Container::new(dir, record, Some(lock)), spec })
}

/// The config that was made here is checked like any other.
fn validate_made(
    container: &mut Container,
    spec: &Spec,
    request: &CreateRequest<'_>,
    rootless: bool,
) -> Result<()> {
    validate::validate(spec, request.no_pivot, rootless).inspect_err(|_| {
        if let Err(second) = delete::destroy(container) {
            tracing::warn!("{second}");
        }
    })
}

/// Removes a folder in which nothing is recorded yet.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        // An empty one goes without a descriptor, of which there may be none left.
        if fs::remove_dir(self.0).is_err() {
            let _ = fs::remove_dir_all(self.0);
        }
    }
}

fn make_bundle(dir: &Path, request: &CreateRequest<'_>) -> Result<(PathBuf, Spec)> {
    let other = |error: default_bundle::DefaultBundleError| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        RuntimeError::Other(format!("{error}{cause}"))
    };
    let bundle = default_bundle::materialize(dir, request.id, &seal::host_binary()).map_err(other)?;
    let mut spec = bundle::load(&bundle)?;
    default_bundle::apply_overrides(&mut spec, request.ram, request.cpu).map_err(other)?;
    Ok((bundle, spec))
}

/// The root file system, absolute and without symlinks.
fn rootfs_of(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let path = spec.root().as_ref().map(|root| bundle.join(root.path())).unwrap_or_default();
    let real = fs::canonicalize(&path).map_err(|error| {
        RuntimeError::Invalid(format!(
            "invalid rootfs: stat {}: {}",
            path.display(),
            super::process::reason::Reason::of(&error)
        ))
    })?;
    if real.is_dir() {
        return Ok(real);
    }
    Err(RuntimeError::Invalid(format!("invalid rootfs: {} is not a directory", path.display())))
}

fn record_of(
    store: &Store,
    id: &str,
    spec: &Spec,
    bundle: PathBuf,
    rootfs: PathBuf,
    no_new_keyring: bool,
) -> Result<Record> {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let cgroup = Cgroup::plan(path, id, store.systemd_cgroup, store.rootless_cgroups)?;
    let annotations: BTreeMap<_, _> =
        spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(Record {
        format: FORMAT,
        rt_version: env!("CARGO_PKG_VERSION").to_owned(),
        id: id.to_owned(),
        oci_version: spec.version().clone(),
        bundle,
        rootfs,
        created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
        annotations,
        ready: false,
        init: None,
        cgroup,
        asked: linux.and_then(|linux| linux.resources().clone()),
        undo: None,
        rdt: None,
        no_new_keyring,
        baseline: None,
        end: None,
        saved: None,
        more: serde_json::Map::new(),
    })
}

/// Everything that needs no process: the filter, what exec will need, and the cgroup with its limits.
fn limit(
    store: &Store,
    container: &mut Container,
    spec: &mut Spec,
    on_denied: OnDenied,
) -> Result<Option<Filter>> {
    let filter = compile_filter(store, spec)?;
    container.record_mut().saved = Some(Saved::write(container.directory(), spec, filter.as_ref())?);
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let held_back = held_back(container.cgroup(), spec);
    let resources = held_back.as_ref().map(|(rest, _)| rest).or(resources);
    let record = container.record_mut();
    let settled = match resources {
        Some(resources) => record.cgroup.settle(resources, on_denied).map_err(RuntimeError::limit)?,
        None => None,
    };
    let resources = settled.as_ref().or(resources);
    record.cgroup.create(resources, &record.annotations).map_err(RuntimeError::start)?;
    if container.cgroup().was_preexisting() {
        container.record_mut().baseline = receipts::baseline(container);
    }
    Ok(filter)
}

/// The limits without those that wait until a proof is made, and these.
fn held_back(cgroup: &Cgroup, spec: &Spec) -> Option<(LinuxResources, HashMap<String, String>)> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    let waits = cgroup.version() == Version::V2 && proofs::is_proved_at_create(spec);
    waits.then(|| proofs::without_oom_group(resources))?
}

fn make(
    container: &mut Container,
    spec: &Spec,
    filter: Option<&Filter>,
    request: &CreateRequest<'_>,
    rootless: bool,
) -> Result<Launched> {
    let gate =
        Gate::create(container.directory()).map_err(RuntimeError::file("mkfifo", container.directory()))?;
    let cgroup = container.cgroup().clone();
    let state = container.oci_state(Status::Creating);
    let process = spec.process().as_ref().ok_or(RuntimeError::NotFound)?;
    let v1_paths = cgroup.v1_paths();
    let rootfs = container.rootfs().to_owned();
    let bundle = container.bundle().to_owned();
    let job = InitJob {
        spec,
        process,
        id: request.id,
        rootfs: &rootfs,
        filter,
        cgroup_v1_paths: &v1_paths,
        cgroup2_path: cgroup.path_of(""),
        state: &state,
        console: request.console,
        passed: request.passed,
        no_pivot: request.no_pivot,
        no_new_keyring: request.no_new_keyring,
        rootless,
    };
    let service = Service { spec, bundle: &bundle, state: &state, filter, cgroup: &cgroup };
    let launched = {
        // The child must not keep the lock when rt ends; it cannot be borrowed while the record changes.
        let lock = container.take_lock();
        let mut settle = Init { container, cgroup: &cgroup, spec, process };
        let settled = launch_init(&job, gate, &service, lock.as_ref(), &mut settle);
        container.give_lock(lock);
        settled?
    };
    let completed = match held_back(&cgroup, spec) {
        Some((_, later)) => cgroup.write_unified(&later).map_err(RuntimeError::start),
        None => Ok(()),
    };
    if let Err(error) = completed.and_then(|()| finish(container, &launched, request)) {
        kill_and_reap(&launched);
        return Err(error);
    }
    Ok(launched)
}

/// What has to be before init does anything.
struct Init<'a> {
    container: &'a mut Container,
    cgroup: &'a Cgroup,
    spec: &'a Spec,
    process: &'a Process,
}

impl Settle for Init<'_> {
    fn record(&mut self, pid: Pid) -> Result<()> {
        self.container.record_mut().init = Some(ProcessId::of(pid.as_raw())?);
        self.container.save()
    }

    fn enter(&mut self, pid: Pid, entered: Entered) -> Result<Place> {
        self.cgroup.join(pid, entered).map_err(RuntimeError::start)
    }

    fn limit(&mut self, pid: Pid) -> Result<()> {
        if let Some(rdt) = self.spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) {
            let group =
                intel_rdt::apply(self.container.id(), pid.as_raw(), rdt).map_err(RuntimeError::start)?;
            self.container.record_mut().rdt = Some(group);
            self.container.save()?;
        }
        affinity::reset(pid.as_raw());
        if let Some(score) = self.process.oom_score_adj() {
            oom_score_adj::verify(pid.as_raw(), score).map_err(RuntimeError::start)?;
        }
        rlimits::apply(self.process.rlimits().as_deref().unwrap_or_default(), pid.as_raw())
            .map_err(RuntimeError::start)
    }
}

fn finish(container: &mut Container, launched: &Launched, request: &CreateRequest<'_>) -> Result<()> {
    if let Some(socket) = request.pidfd_socket {
        sockets::send_pidfd(socket, "standard", launched.pidfd.as_fd())?;
    }
    if let Some(path) = request.pid_file {
        super::pid_file::write(path, launched.pid)?;
    }
    container.record_mut().ready = true;
    container.save()
}

fn kill_and_reap(launched: &Launched) {
    let _ = crate::sys::clone::pidfd_send_signal(&launched.pidfd, libc::SIGKILL);
    let _ = nix::sys::wait::waitpid(launched.pid, None);
}

/// Compiles the seccomp profile, and takes it out of the config: the filter stands for it from now on, and an engine's
/// profile is most of a config that start, exec and delete would read again.
fn compile_filter(store: &Store, spec: &mut Spec) -> Result<Option<Filter>> {
    let Some(linux) = spec.linux_mut() else { return Ok(None) };
    let Some(profile) = linux.seccomp() else { return Ok(None) };
    let filter =
        seccomp::compile_cached(profile, &store.kept_beside().filters()).map_err(RuntimeError::start)?;
    linux.set_seccomp(None);
    Ok(Some(filter))
}

/// Whether the container has pids of its own, which all end with init.
pub(super) fn has_own_pids(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|n| n.typ() == LinuxNamespaceType::Pid && n.path().is_none())
}
