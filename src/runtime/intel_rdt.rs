//! Intel RDT: cache and memory bandwidth classes of the resctrl file system. Own code but for finding the mount:
//! libcontainer refuses a class whose schemata differ where runc writes them, and has other words.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};
use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use super::process::reason::Reason;

const DEFAULT_MOUNT: &str = "/sys/fs/resctrl";
/// RDTGROUP_SUPER_MAGIC of linux/magic.h.
const MAGIC: FsType = FsType(0x0765_5821);

/// Why a class could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntelRdtError {
    /// No resctrl file system is mounted.
    #[error("intelRdt is specified in config, but Intel RDT is not enabled")]
    Disabled,
    /// No cache allocation.
    #[error("intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled")]
    NoCat,
    /// No bandwidth allocation.
    #[error("intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled")]
    NoMba,
    /// A class that would leave its folder.
    #[error("invalid intelRdt.ClosID {0:?}")]
    ClosId(String),
    /// A class without schemata belongs to somebody else, who has not made it.
    #[error(
        "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty): stat {path}: {reason}",
        path = path.display()
    )]
    NotPrecreated {
        /// Its folder.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
    /// The kernel refused a folder, a process or schemata; it says why in a file of its own.
    #[error("intelrdt: {doing}: {reason}{status}")]
    Refused {
        /// "unable to add pid 7" and the like.
        doing: String,
        /// The kernel's answer.
        reason: Reason,
        /// ", last_cmd_status: …", or empty.
        status: String,
    },
}

/// What was made for a container, kept in its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdtGroup {
    /// The class; processes of an exec join it too.
    pub path: PathBuf,
    /// Whether the class is the container's own and goes with it.
    pub owned: bool,
    /// The monitoring group, which always goes with the container.
    pub monitoring: Option<PathBuf>,
}

/// Where resctrl is mounted.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    match statfs(DEFAULT_MOUNT) {
        Ok(found) if found.filesystem_type() == MAGIC => Some(PathBuf::from(DEFAULT_MOUNT)),
        // The kernel makes the folder where it supports resctrl, but it can be mounted somewhere else.
        Ok(_) => libcontainer::process::intel_rdt::find_resctrl_mount_point().ok(),
        Err(_) => None,
    }
}

/// Checks a spec against the host, before anything is made.
pub fn validate(rdt: &LinuxIntelRdt) -> Result<(), IntelRdtError> {
    validate_on(&mount_point().ok_or(IntelRdtError::Disabled)?, rdt)
}

fn validate_on(mount: &Path, rdt: &LinuxIntelRdt) -> Result<(), IntelRdtError> {
    let class = rdt.clos_id().as_deref().unwrap_or_default();
    if class == "." || class == ".." || (class.len() > 1 && class.contains('/')) {
        return Err(IntelRdtError::ClosId(class.to_owned()));
    }
    if is_given(rdt.l3_cache_schema()) && !mount.join("info/L3").exists() {
        return Err(IntelRdtError::NoCat);
    }
    if is_given(rdt.mem_bw_schema()) && !mount.join("info/MB").exists() {
        return Err(IntelRdtError::NoMba);
    }
    Ok(())
}

fn is_given(schema: &Option<String>) -> bool {
    schema.as_deref().is_some_and(|schema| !schema.is_empty())
}

/// Puts the init process into its class, makes the class and its monitoring group where needed, and writes the
/// schemata. On an error after something was made it is removed again.
pub fn apply(id: &str, pid: i32, rdt: &LinuxIntelRdt) -> Result<RdtGroup, IntelRdtError> {
    apply_on(&mount_point().ok_or(IntelRdtError::Disabled)?, id, pid, rdt)
}

fn apply_on(mount: &Path, id: &str, pid: i32, rdt: &LinuxIntelRdt) -> Result<RdtGroup, IntelRdtError> {
    let class = rdt.clos_id().as_deref().filter(|class| !class.is_empty());
    let path = match class {
        Some("/") => mount.to_owned(),
        class => mount.join(class.unwrap_or(id)),
    };
    let schemata = schemata(rdt);
    if class.is_some() && schemata.is_empty() {
        std::fs::metadata(&path).map_err(|error| IntelRdtError::NotPrecreated {
            path: path.clone(),
            reason: Reason::of(&error),
        })?;
    }
    let monitoring = rdt.enable_monitoring().unwrap_or(false).then(|| path.join("mon_groups").join(id));
    let group = RdtGroup { path, owned: class.is_none(), monitoring };
    fill(mount, &group, pid, &schemata).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = group.destroy();
    })?;
    Ok(group)
}

fn fill(mount: &Path, group: &RdtGroup, pid: i32, schemata: &str) -> Result<(), IntelRdtError> {
    for folder in std::iter::once(&group.path).chain(&group.monitoring) {
        make(mount, folder)?;
        join(mount, folder, pid)?;
    }
    if schemata.is_empty() {
        return Ok(());
    }
    std::fs::write(group.path.join("schemata"), schemata)
        .map_err(|error| refused(mount, format!("unable to write {schemata:?}"), &error))
}

fn make(mount: &Path, folder: &Path) -> Result<(), IntelRdtError> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(refused(mount, format!("mkdir {}", folder.display()), &error))
        }
        _ => Ok(()),
    }
}

fn join(mount: &Path, folder: &Path, pid: i32) -> Result<(), IntelRdtError> {
    std::fs::write(folder.join("tasks"), pid.to_string())
        .map_err(|error| refused(mount, format!("unable to add pid {pid}"), &error))
}

fn refused(mount: &Path, doing: String, error: &std::io::Error) -> IntelRdtError {
    let status = std::fs::read_to_string(mount.join("info/last_cmd_status"));
    let status = status.map(|status| format!(", last_cmd_status: {}", status.trim())).unwrap_or_default();
    IntelRdtError::Refused { doing, reason: Reason::of(error), status }
}

/// One line per resource, the older fields first.
fn schemata(rdt: &LinuxIntelRdt) -> String {
    let older = [rdt.l3_cache_schema(), rdt.mem_bw_schema()].into_iter().flatten();
    let lines = older.chain(rdt.schemata().iter().flatten()).filter(|line| !line.is_empty());
    lines.fold(String::new(), |text, line| text + line + "\n")
}

impl RdtGroup {
    /// Puts a process of an exec into the class.
    pub fn join(&self, pid: i32) -> Result<(), IntelRdtError> {
        let mount = mount_point().ok_or(IntelRdtError::Disabled)?;
        join(&mount, &self.path, pid)
    }

    /// Removes what belongs to the container. What is gone already is fine.
    pub fn destroy(&self) -> std::io::Result<()> {
        let remove = |path: &Path| match std::fs::remove_dir(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        match (&self.monitoring, self.owned) {
            // The monitoring group goes with the class.
            (_, true) => remove(&self.path),
            (Some(monitoring), false) => remove(monitoring),
            (None, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(json: &str) -> LinuxIntelRdt {
        serde_json::from_str(json).unwrap()
    }

    /// A folder that looks like resctrl as far as names go; `tasks` and `schemata` are plain files here.
    fn fake() -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(mount.path().join("info/L3")).unwrap();
        std::fs::write(mount.path().join("info/last_cmd_status"), "ok\n").unwrap();
        mount
    }

    #[test]
    fn specs_that_the_host_cannot_do_are_refused() {
        let mount = fake();
        let check = |json: &str| validate_on(mount.path(), &rdt(json)).map_err(|error| error.to_string());
        for class in [".", "..", "foo/bar"] {
            let error = check(&format!(r#"{{"closID":"{class}"}}"#)).unwrap_err();
            assert_eq!(error, format!("invalid intelRdt.ClosID {class:?}"));
        }
        assert_eq!(check(r#"{"closID":"/"}"#), Ok(()));
        assert_eq!(check(r#"{"l3CacheSchema":"L3:0=ff"}"#), Ok(()));
        assert_eq!(
            check(r#"{"memBwSchema":"MB:0=20"}"#).unwrap_err(),
            "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled"
        );
        if mount_point().is_none() {
            assert_eq!(
                validate(&rdt("{}")).unwrap_err().to_string(),
                "intelRdt is specified in config, but Intel RDT is not enabled"
            );
        }
    }

    #[test]
    fn a_class_of_its_own_is_made_and_written() {
        let mount = fake();
        let spec = rdt(r#"{"l3CacheSchema":"L3:0=ff","memBwSchema":"","schemata":["L2:0=f","SMBA:0=5"]}"#);
        let group = apply_on(mount.path(), "ct1", 42, &spec).unwrap();
        assert_eq!(group, RdtGroup { path: mount.path().join("ct1"), owned: true, monitoring: None });
        let read = |file| std::fs::read_to_string(group.path.join(file)).unwrap();
        assert_eq!(read("tasks"), "42");
        assert_eq!(read("schemata"), "L3:0=ff\nL2:0=f\nSMBA:0=5\n");
    }

    #[test]
    fn a_class_of_somebody_else_must_be_there() {
        let mount = fake();
        let error = apply_on(mount.path(), "ct1", 42, &rdt(r#"{"closID":"gold"}"#)).unwrap_err();
        assert!(error.to_string().starts_with("clos dir not accessible (must be pre-created"), "{error}");
        std::fs::create_dir(mount.path().join("gold")).unwrap();
        let group = apply_on(mount.path(), "ct1", 42, &rdt(r#"{"closID":"gold"}"#)).unwrap();
        assert!(!group.owned);
        group.destroy().unwrap();
        assert!(mount.path().join("gold").exists());
    }

    #[test]
    fn what_the_kernel_says_is_told() {
        let mount = fake();
        let error = apply_on(mount.path(), "a/b", 42, &rdt("{}")).unwrap_err().to_string();
        assert!(error.ends_with("no such file or directory, last_cmd_status: ok"), "{error}");
    }
}
