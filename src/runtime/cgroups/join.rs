//! Putting a process into the cgroup: init into all of it, an exec'd process also into a sub-cgroup.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use super::layout::Own;
use super::limits::{self, Moment};
use super::{Cgroup, CgroupError, Entered, Hierarchy, Pending, Place, Result, Version, knob, systemd};

impl Cgroup {
    /// Moves `pid` into the cgroup in every hierarchy that it has not entered by itself, and says where it then has to be.
    /// With systemd it first starts the unit with this process and the limits given to `create` in it.
    pub fn join(&self, pid: Pid, entered: Entered) -> Result<Place> {
        let mut place = Place::default();
        if let Some(unit) = &self.unit {
            let none = Pending { resources: LinuxResources::default(), properties: Vec::new() };
            let pending = self.pending.as_deref().unwrap_or(&none);
            systemd::start(unit, self, pid, &pending.resources, &pending.properties)?;
            self.complete_unit(&pending.resources, pid)?;
            self.hierarchies.iter().filter(|h| self.limits_by(h)).for_each(|h| place.add(h, &h.dir));
            return Ok(place);
        }
        for (index, hierarchy) in self.hierarchies.iter().enumerate() {
            let moved = if entered.has(index) { Ok(()) } else { self.enter(hierarchy, &hierarchy.dir, pid) };
            match moved {
                // Nothing was asked for that would not hold.
                Err(error) if self.rootless && !self.explicit && !self.limited && error.is_permission() => {
                    tracing::debug!("{error}");
                    continue;
                }
                result => result.map_err(|error| CgroupError::Apply(Box::new(error)))?,
            }
            if self.limits_by(hierarchy) {
                place.add(hierarchy, &hierarchy.dir);
            }
        }
        Ok(place)
    }

    /// Whether a hierarchy carries limits of the container.
    fn limits_by(&self, hierarchy: &Hierarchy) -> bool {
        self.version == Version::V2 || !(hierarchy.is_named() || hierarchy.is_cgroup2())
    }

    /// Does what systemd left out: it makes only the directories of the controllers that it knows, and knows only
    /// some limits.
    fn complete_unit(&self, resources: &LinuxResources, pid: Pid) -> Result<()> {
        let mut all = self.clone();
        all.make_directories(resources)?;
        for hierarchy in all.hierarchies.iter().filter(|_| all.version != Version::V2) {
            if hierarchy.has("cpuset") {
                let cpu = resources.cpu().as_ref();
                super::cpuset::fill(&hierarchy.dir, &hierarchy.mount, cpu, false)?;
            }
            if !hierarchy.has("systemd") {
                all.enter(hierarchy, &hierarchy.dir, pid)?;
            }
        }
        limits::write(&all, resources, Moment::CreateInExisting)
    }

    /// Moves an exec'd process `pid` to where `sub` says, and it has not entered by itself; says where it then has to be.
    /// `init` names the container's init: when the v2 cgroup itself takes no process any more (it has sub-cgroups with
    /// controllers, or init moved away and it is gone), the process goes where init is, unless a sub-cgroup was asked for.
    pub fn join_sub(
        &self,
        pid: Pid,
        sub: &SubCgroups,
        init: Option<(Pid, BorrowedFd<'_>)>,
        entered: Entered,
    ) -> Result<Place> {
        let mut place = Place::default();
        let beside = init.filter(|_| self.version == Version::V2 && !sub.is_asked());
        for (index, (hierarchy, dir)) in sub.targets(self)?.into_iter().enumerate() {
            let joined =
                if entered.has(index) { Ok(dir) } else { self.enter_or_beside(hierarchy, dir, pid, beside) };
            match joined {
                Ok(dir) if self.limits_by(hierarchy) || dir != hierarchy.dir => place.add(hierarchy, &dir),
                Ok(_) => {}
                Err(error) if self.rootless => {
                    tracing::warn!("the container's limits do not hold for process {pid}: {error}");
                }
                Err(error) => return Err(CgroupError::Join { pid, reason: Box::new(error) }),
            }
        }
        Ok(place)
    }

    /// Moves `pid` into `dir`, or where that takes none to where init is. Returns where it went.
    fn enter_or_beside<'a>(
        &self,
        hierarchy: &Hierarchy,
        dir: Cow<'a, Path>,
        pid: Pid,
        init: Option<(Pid, BorrowedFd<'_>)>,
    ) -> Result<Cow<'a, Path>> {
        let Err(error) = self.enter(hierarchy, &dir, pid) else { return Ok(dir) };
        let Some(beside) = init.and_then(|init| init_dir(&hierarchy.mount, init)) else { return Err(error) };
        tracing::debug!("{error}; joining the cgroup of init, {}", beside.display());
        write_procs(&beside, pid).map(|()| Cow::Owned(beside))
    }

    /// One hierarchy; what may fail without harm is only logged.
    fn enter(&self, hierarchy: &Hierarchy, dir: &Path, pid: Pid) -> Result<()> {
        match write_procs(dir, pid) {
            Err(error) if self.version != Version::V2 && (hierarchy.is_named() || hierarchy.is_cgroup2()) => {
                // One that was not made has been told of.
                if self.rootless || error.is_gone() {
                    tracing::debug!("{error}");
                } else {
                    tracing::warn!("process {pid} is in no cgroup of its own there: {error}");
                }
                // A sub-cgroup that is not there was somebody's wish, not a part that may be missing.
                if dir == hierarchy.dir { Ok(()) } else { Err(error) }
            }
            result => result,
        }
    }
}

/// The sub-cgroups asked for by `exec --cgroup`: one path for all hierarchies, or paths by v1 controller.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SubCgroups(Vec<(String, String)>);

impl SubCgroups {
    /// Reads `path` or `controller[,controller…]:path` arguments.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut paths: Vec<(String, String)> = Vec::new();
        let refuse = |text: String| Err(CgroupError::SubCgroupArgument(text));
        for argument in arguments {
            match argument.split_once(':') {
                None if arguments.len() == 1 => paths.push((String::new(), argument.clone())),
                None => return refuse(format!("{argument} (missing <controller>: prefix)")),
                Some((controllers, path)) => {
                    for controller in controllers.split(',') {
                        if controller.is_empty() {
                            return refuse(format!("{argument} (empty <controller> prefix)"));
                        }
                        if paths.iter().any(|(known, _)| known == controller) {
                            return refuse(format!("controller {controller} specified multiple times"));
                        }
                        paths.push((controller.to_owned(), path.to_owned()));
                    }
                }
            }
        }
        Ok(Self(paths))
    }

    fn is_asked(&self) -> bool {
        self.0.iter().any(|(_, path)| !path.is_empty())
    }

    /// The directory to join in each hierarchy.
    pub(super) fn targets<'a>(&self, cgroup: &'a Cgroup) -> Result<Vec<(&'a Hierarchy, Cow<'a, Path>)>> {
        let mut targets: Vec<_> =
            cgroup.hierarchies.iter().map(|h| (h, Cow::Borrowed(h.dir.as_path()))).collect();
        for (controller, path) in &self.0 {
            let mut found = false;
            for (hierarchy, dir) in &mut targets {
                // Without a controller the path is for all of them.
                if controller.is_empty() || (!hierarchy.is_cgroup2() && hierarchy.has(controller)) {
                    *dir = Cow::Owned(below(&hierarchy.dir, path)?);
                    found = true;
                }
            }
            if !found && !controller.is_empty() {
                return Err(CgroupError::UnknownController(controller.clone()));
            }
        }
        Ok(targets)
    }
}

/// `base/path`, which may not leave `base`.
fn below(base: &Path, path: &str) -> Result<PathBuf> {
    let mut depth = 0_usize;
    let mut joined = base.to_path_buf();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => {
                joined.push(name);
                depth += 1;
            }
            Component::ParentDir if depth == 0 => return Err(CgroupError::BadSubCgroup(path.to_owned())),
            Component::ParentDir => {
                joined.pop();
                depth -= 1;
            }
            _ => {}
        }
    }
    Ok(joined)
}

fn write_procs(dir: &Path, pid: Pid) -> Result<()> {
    let path = dir.join("cgroup.procs");
    let mut file = knob::open_to_write(&path)?;
    let text = pid.to_string();
    let mut attempt = 0;
    loop {
        match knob::write_to(&mut file, &path, &text) {
            // The kernel refuses a process that is only just being made; runc's patience.
            Err(error) if error.errno() == Some(Errno::EINVAL) && attempt < 4 => {
                sleep(Duration::from_millis(30));
                attempt += 1;
            }
            // A user's process outside of what was delegated: the user's systemd may move it.
            Err(error) if error.is_permission() && pid.as_raw() > 0 => {
                return match crate::systemd::attach(dir, pid) {
                    Some(Ok(())) => Ok(()),
                    Some(Err(refused)) => {
                        tracing::debug!("{refused}");
                        Err(error)
                    }
                    None => Err(error),
                };
            }
            result => return result,
        }
    }
}

/// Where the init behind a pidfd is in cgroup2 now. Of a process that has ended the kernel says `/`, and its pid may be
/// another's: what was read counts if it lives on.
fn init_dir(mount: &Path, (pid, pidfd): (Pid, BorrowedFd<'_>)) -> Option<PathBuf> {
    let text = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    let mut ended = [PollFd::new(pidfd, PollFlags::POLLIN)];
    if poll(&mut ended, PollTimeout::ZERO) != Ok(0) {
        return None;
    }
    let own = Own::parse(&text);
    own.path("").map(|path| mount.join(path.strip_prefix("/").unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<SubCgroups> {
        SubCgroups::parse(&arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn sub_cgroup_arguments_follow_runc() {
        assert_eq!(parse(&["/"]).unwrap().0, [(String::new(), "/".to_owned())]);
        let both = parse(&["memory:a", "cpu,cpuacct:b"]).unwrap();
        assert_eq!(both.0.len(), 3);
        for (bad, words) in [
            (vec!["memory:a", "b"], "missing <controller>: prefix"),
            (vec![":a"], "empty <controller> prefix"),
            (vec!["memory:a", "memory:b"], "specified multiple times"),
        ] {
            assert!(parse(&bad).unwrap_err().to_string().contains(words));
        }
    }

    #[test]
    fn sub_cgroup_may_not_leave_the_cgroup() {
        let base = Path::new("/c/box");
        assert_eq!(below(base, "/").unwrap(), base);
        assert_eq!(below(base, "a/../b").unwrap(), base.join("b"));
        for bad in ["..", "../boxer", "a/../../x"] {
            assert_eq!(below(base, bad).unwrap_err().to_string(), format!("bad sub cgroup path: {bad}"));
        }
    }
}
