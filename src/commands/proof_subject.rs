//! From a container's name to what the prover and the monitor need of it.

use std::path::Path;

use anyhow::{Context, bail};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use crate::cgroup::v1;
use crate::cli::Global;
use crate::proof::{Asked, Place, RecordDir, Status, Subject};
use crate::runtime::{self, Container, STATE_FILE, Store};

/// How a subject is named on the command line: one of the three.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub container: Option<&'a str>,
    pub pid: Option<i32>,
    pub cgroup: Option<&'a Path>,
}

/// The subject that is named, and the limit that was asked for it, where that is known.
pub fn of(global: &Global, named: Named<'_>) -> anyhow::Result<(Subject, Asked)> {
    match (named.container, named.pid, named.cgroup) {
        (_, Some(pid), _) => Ok((Subject::of_process(Pid::from_raw(pid)), Asked::Unknown)),
        (_, None, Some(dir)) => Ok((Subject::of_folder(dir.to_owned()), Asked::Unknown)),
        (Some(id), None, None) => of_container(global, id),
        (None, None, None) => bail!("no container, --pid or --cgroup is named"),
    }
}

/// The container as a subject, and the limit that was asked for it (the config saved at create, and later updates).
pub fn of_container(global: &Global, id: &str) -> anyhow::Result<(Subject, Asked)> {
    let container = Store::open(global)?.load(id).with_context(|| format!("cannot load container '{id}'"))?;
    let status = container.status()?;
    let init = match status {
        runtime::Status::Stopped => None,
        _ => Some(Pid::from_raw(container.init_pid())),
    };
    let subject = Subject {
        id: id.to_owned(),
        bundle: Some(container.bundle().to_owned()),
        place: init.map(Place::Process),
        cgroup: container.cgroup().memory(),
        init,
        status: match status {
            runtime::Status::Stopped => Status::Stopped,
            runtime::Status::Paused => Status::Paused,
            _ => Status::Live,
        },
        record_dirs: vec![record_dir(&container)?, container.bundle().to_owned().into()],
    };
    Ok((subject, asked(container.asked_resources())))
}

/// The container's own folder, for records: as long as the container has one.
pub fn record_dir(container: &Container) -> anyhow::Result<RecordDir> {
    let dir = container.directory().to_owned();
    let failed = || format!("cannot look at {}", dir.display());
    RecordDir::guarded(dir.clone(), STATE_FILE).with_context(failed)
}

/// The memory limit in a container's resources: the spec's absent, 0 and −1 all mean none, as does the number by which
/// v1 says so.
pub fn asked(resources: Option<&LinuxResources>) -> Asked {
    let limit = resources.and_then(|resources| *resources.memory()).and_then(|memory| memory.limit());
    match limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0).and_then(v1::limit) {
        Some(bytes) => Asked::Limited(bytes),
        None => Asked::Unlimited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_limit_is_the_specs() {
        let of = |json: &str| asked(Some(&serde_json::from_str(json).unwrap()));
        assert_eq!(of(r#"{"memory":{"limit":67108864}}"#), Asked::Limited(64 << 20));
        assert_eq!(of(r#"{"memory":{"limit":-1}}"#), Asked::Unlimited);
        assert_eq!(of(r#"{"memory":{"limit":0}}"#), Asked::Unlimited);
        assert_eq!(of(r#"{"memory":{"limit":9223372036854771712}}"#), Asked::Unlimited);
        assert_eq!(of("{}"), Asked::Unlimited);
        assert_eq!(asked(None), Asked::Unlimited);
    }
}
