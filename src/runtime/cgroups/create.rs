//! Making the directories, refusing somebody else's cgroup, and writing every limit before anything runs in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::limits::{self, Moment};
use super::{
    Cgroup, CgroupError, Hierarchy, Pending, Result, Version, change, cpuset, devices, knob, members, systemd,
};

impl Cgroup {
    /// Makes the cgroup in every hierarchy and writes all limits. On failure, what was made is removed.
    ///
    /// Without root, and when neither a path nor limits were asked for, hierarchies that deny permission are left
    /// out, as in runc; a limit that needs one of those is an error. With systemd only the checks are done here:
    /// the unit, its limits and the properties that `annotations` ask for come with [`Cgroup::join`].
    pub fn create(
        &mut self,
        resources: Option<&LinuxResources>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<()> {
        let none = LinuxResources::default();
        let resources = resources.unwrap_or(&none);
        limits::check(self.version, resources)?;
        devices::check(resources)?;
        for value in change::unplaced(self.version, resources) {
            tracing::warn!("ignored: {value}");
        }
        self.limited = limits::any_asked(resources);
        if self.unit.is_some() {
            self.refuse_foreign(&vec![false; self.hierarchies.len()])?;
            let properties = systemd::from_annotations(annotations)?;
            self.pending = Some(Box::new(Pending { resources: resources.clone(), properties }));
            return Ok(());
        }
        let result = self.make_and_limit(resources);
        if result.is_err() {
            self.undo();
        }
        result
    }

    fn make_and_limit(&mut self, resources: &LinuxResources) -> Result<()> {
        let fresh = self.make_directories(resources)?;
        self.refuse_foreign(&fresh)?;
        self.preexisting = fresh.contains(&false);
        let moment = if self.preexisting { Moment::CreateInExisting } else { Moment::Create };
        if self.version != Version::V2 {
            self.fill_cpuset(resources, &fresh)?;
        }
        if self.version == Version::V2 && self.hierarchies.is_empty() {
            return Ok(()); // rootless without permission; limits were refused on the way
        }
        limits::write(self, resources, moment)
    }

    /// Makes every directory; tells of each hierarchy left in the plan whether its directory is new.
    pub(super) fn make_directories(&mut self, resources: &LinuxResources) -> Result<Vec<bool>> {
        let mut fresh = Vec::with_capacity(self.hierarchies.len());
        let mut kept = Vec::with_capacity(self.hierarchies.len());
        let mut left_out = Vec::new();
        for hierarchy in &self.hierarchies {
            let made = match self.version {
                Version::V2 => make_v2(hierarchy, resources, &mut self.made),
                _ => make_all(&hierarchy.dir, &mut self.made),
            };
            kept.push(made.is_ok());
            match made {
                Ok(new) => fresh.push(new),
                // Only a grouping of processes, that nothing here depends on (runc ignores it likewise).
                Err(error)
                    if self.version != Version::V2 && (hierarchy.is_named() || hierarchy.is_cgroup2()) =>
                {
                    left_out.push(error);
                }
                Err(error) => self.excuse(error, resources)?,
            }
        }
        self.tell_left_out(&left_out);
        let mut kept = kept.into_iter();
        self.hierarchies.retain(|_| kept.next().unwrap_or(false));
        Ok(fresh)
    }

    /// Says, once, in which hierarchies the container stays in its creator's cgroup though they could have been expected to
    /// take it: v1's named ones and the unified one of a hybrid host. No limit is lost with them.
    fn tell_left_out(&self, errors: &[CgroupError]) {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        if errors.is_empty() {
            return;
        }
        let causes = errors.join("; ");
        // A user who asked for nothing is given none of the hierarchies: the usual case.
        if self.rootless && !self.explicit {
            tracing::debug!("the container has no cgroup of its own in hierarchies without limits: {causes}");
        } else {
            tracing::warn!("the container has no cgroup of its own in hierarchies without limits: {causes}");
        }
    }

    /// A failure that is to be ignored without root, or the error as runc words it.
    fn excuse(&self, error: CgroupError, resources: &LinuxResources) -> Result<()> {
        let excusable = self.rootless && !self.explicit && error.is_permission();
        match self.version {
            Version::V2 if self.rootless && !self.explicit && limits::any_asked(resources) => {
                Err(CgroupError::Apply(Box::new(CgroupError::RootlessLimits(Box::new(error)))))
            }
            _ if excusable => {
                tracing::debug!("cgroup left out without permission: {error}");
                Ok(())
            }
            _ => Err(CgroupError::Apply(Box::new(error))),
        }
    }

    /// Refuses a pre-existing cgroup in which something runs, or that is frozen.
    fn refuse_foreign(&self, fresh: &[bool]) -> Result<()> {
        for (hierarchy, fresh) in self.hierarchies.iter().zip(fresh) {
            if *fresh || hierarchy.is_named() {
                continue;
            }
            let processes = match members::pids_in(&hierarchy.dir, true) {
                Ok(pids) => pids.len(),
                Err(error) if error.is_gone() => 0,
                Err(error) => return Err(error),
            };
            if processes > 0 {
                return Err(CgroupError::NotEmpty(processes));
            }
        }
        let freezer_is_new =
            self.hierarchies.iter().zip(fresh).any(|(hierarchy, fresh)| {
                *fresh && (self.version == Version::V2 || hierarchy.has("freezer"))
            });
        if !freezer_is_new && self.is_frozen()? {
            return Err(CgroupError::UnexpectedlyFrozen);
        }
        Ok(())
    }

    fn fill_cpuset(&self, resources: &LinuxResources, fresh: &[bool]) -> Result<()> {
        let found = self.hierarchies.iter().zip(fresh).find(|(hierarchy, _)| hierarchy.has("cpuset"));
        match found {
            Some((h, fresh)) => cpuset::fill(&h.dir, &h.mount, resources.cpu().as_ref(), *fresh),
            None => Ok(()),
        }
    }

    /// Removes the directories that `create` made, newest first; what is in use by then stays.
    pub(super) fn undo(&mut self) {
        for dir in self.made.drain(..).rev() {
            if let Err(error) = fs::remove_dir(&dir) {
                tracing::debug!("cgroup {} was not removed: {error}", dir.display());
            }
        }
    }
}

/// Makes `dir` and the parents it lacks, remembering them; false when it was there.
fn make_all(dir: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    match mkdir(dir) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(false),
        Err(Errno::ENOENT) => {
            let parent = dir.parent().ok_or_else(|| mkdir_error(dir, Errno::ENOENT))?;
            make_all(parent, made)?;
            match mkdir(dir) {
                Ok(()) => {}
                Err(Errno::EEXIST) => return Ok(false),
                Err(errno) => return Err(mkdir_error(dir, errno)),
            }
        }
        // Read-only and unprivileged file systems say so before they say that the directory is there.
        Err(errno) if dir.is_dir() => {
            tracing::debug!("mkdir {}: {errno}, but it is there", dir.display());
            return Ok(false);
        }
        Err(errno) => return Err(mkdir_error(dir, errno)),
    }
    made.push(dir.to_path_buf());
    Ok(true)
}

/// Makes a v2 directory, with every controller that there is enabled for it in all its ancestors.
fn make_v2(hierarchy: &Hierarchy, resources: &LinuxResources, made: &mut Vec<PathBuf>) -> Result<bool> {
    let controllers = knob::read(&hierarchy.mount, "cgroup.controllers")?;
    let below = hierarchy.dir.strip_prefix(&hierarchy.mount).unwrap_or(Path::new(""));
    let mut current = hierarchy.mount.clone();
    let mut fresh = false;
    for component in below.components() {
        enable(&current, &controllers);
        current.push(component);
        fresh = match mkdir(&current) {
            Ok(()) => {
                made.push(current.clone());
                true
            }
            Err(Errno::EEXIST) => false,
            Err(_) if current.is_dir() => false,
            Err(errno) => return Err(mkdir_error(&current, errno)),
        };
    }
    ensure_domain(&hierarchy.dir, limits::needs_domain(resources))?;
    Ok(fresh)
}

/// Enables controllers for the children of `dir`. What cannot be enabled here shows when a limit needs it.
fn enable(dir: &Path, controllers: &str) {
    let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    if all.is_empty() || knob::write(dir, "cgroup.subtree_control", &all.join(" ")).is_ok() {
        return;
    }
    // One refused controller refuses the whole line.
    for one in &all {
        if let Err(error) = knob::write(dir, "cgroup.subtree_control", one) {
            tracing::debug!("{error}");
        }
    }
}

/// A cgroup below one that has processes of its own is no domain: it can be used threaded, but then only with
/// the controllers that know threads.
fn ensure_domain(dir: &Path, needs_domain: bool) -> Result<()> {
    let state = knob::read(dir, "cgroup.type").unwrap_or_default();
    let refuse =
        |state: &str| Err(CgroupError::NotDomain { path: dir.to_path_buf(), state: state.to_owned() });
    match state.trim() {
        "domain invalid" if needs_domain => refuse("an invalid state"),
        "domain invalid" => {
            if let Err(error) = knob::write(dir, "cgroup.type", "threaded") {
                tracing::debug!("{error}");
            }
            Ok(())
        }
        state @ ("threaded" | "domain threaded") if needs_domain => refuse(&format!("{state} mode")),
        _ => Ok(()),
    }
}

fn mkdir(dir: &Path) -> std::result::Result<(), Errno> {
    nix::unistd::mkdir(dir, nix::sys::stat::Mode::from_bits_truncate(0o755))
}

fn mkdir_error(dir: &Path, errno: Errno) -> CgroupError {
    CgroupError::Mkdir { path: dir.to_path_buf(), error: errno.into() }
}
