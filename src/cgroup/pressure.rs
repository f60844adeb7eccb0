//! Pressure-stall information of memory, and which file tells it for a process.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CgroupError;
use super::locate::{self, CgroupMount, Version};
use super::{read, v2};

const HOST: &str = "/proc/pressure/memory";

/// One reading of a `memory.pressure` file (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Percent of the last 10 s in which some task waited for memory.
    pub some_avg10: f64,
    /// Time in which some task waited, in microseconds since the cgroup was made.
    pub some_total_us: u64,
    /// Percent of the last 10 s in which all tasks waited.
    pub full_avg10: f64,
    /// Time in which all tasks waited, in microseconds since the cgroup was made.
    pub full_total_us: u64,
}

impl Pressure {
    /// Reads the file's text; `None` where it holds no `some` line.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |kind: &str| text.lines().find_map(|l| l.strip_prefix(kind)?.strip_prefix(' '));
        fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
            line.split(' ').find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
        }
        let percent = |text: &str| text.parse().ok().filter(|value: &f64| (0.0..=100.0).contains(value));
        let total = read::decimal;
        let some = line("some")?;
        let full = line("full").unwrap_or_default();
        Some(Self {
            some_avg10: percent(field(some, "avg10")?)?,
            some_total_us: total(field(some, "total")?)?,
            full_avg10: field(full, "avg10").and_then(percent).unwrap_or(0.0),
            full_total_us: field(full, "total").and_then(total).unwrap_or(0),
        })
    }
}

/// The pressure that the kernel recorded for the cgroup in `dir`; `None` where it records none there.
#[must_use]
pub fn of_folder(dir: &Path) -> Option<Pressure> {
    let text = match read::text_if_there(&dir.join(v2::PRESSURE)) {
        Ok(text) => text?,
        Err(error) if is_off(&error) => return None,
        Err(CgroupError::Read { path, source }) => {
            tracing::warn!("cannot read '{}': {source}", path.display());
            return None;
        }
        Err(_) => return None,
    };
    Pressure::parse(&text)
}

/// Whether the kernel was booted without it.
fn is_off(error: &CgroupError) -> bool {
    matches!(error, CgroupError::Read { source, .. } if source.raw_os_error() == Some(nix::libc::EOPNOTSUPP))
}

/// Whose pressure a source tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PressureScope {
    /// The container's cgroup; on a hybrid host its cgroup of the unified hierarchy, where the kernel
    /// records pressure under a v1 limit too.
    Cgroup,
    /// The whole host: nothing narrower exists.
    Host,
}

/// The file that tells pressure for a process, kept open.
#[derive(Debug)]
pub struct PressureSource {
    pub scope: PressureScope,
    file: read::Kept,
}

impl PressureSource {
    /// The narrowest source for `pid`: its unified cgroup, unless that is the root, which is the host's.
    pub fn of(pid: i32) -> Result<Option<Self>, CgroupError> {
        let membership = locate::membership_of(pid)?;
        Self::open(unified_dir(&membership, &locate::mounts()?).as_deref(), Path::new(HOST))
    }

    /// The host's.
    pub fn of_host() -> Result<Option<Self>, CgroupError> {
        Ok(Self::readable(PressureScope::Host, PathBuf::from(HOST))?.map(|(source, _)| source))
    }

    /// The one of the cgroup in `dir` alone, and what it tells now; `None` where it has none.
    pub fn of_folder(dir: &Path) -> Result<Option<(Self, Pressure)>, CgroupError> {
        Self::readable(PressureScope::Cgroup, dir.join(v2::PRESSURE))
    }

    fn open(cgroup_dir: Option<&Path>, host: &Path) -> Result<Option<Self>, CgroupError> {
        if let Some(dir) = cgroup_dir
            && let Some((source, _)) = Self::of_folder(dir)?
        {
            return Ok(Some(source));
        }
        Ok(Self::readable(PressureScope::Host, host.to_owned())?.map(|(source, _)| source))
    }

    /// With PSI off the file is there and each read fails.
    fn readable(scope: PressureScope, path: PathBuf) -> Result<Option<(Self, Pressure)>, CgroupError> {
        let Some(file) = read::Kept::open_if_there(path)? else { return Ok(None) };
        let source = Self { scope, file };
        match source.read() {
            Ok(pressure) => Ok(Some((source, pressure))),
            // Whoever reads on finds that the cgroup is gone.
            Err(error) if is_off(&error) || error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The pressure now.
    pub fn read(&self) -> Result<Pressure, CgroupError> {
        self.file.with_text(Pressure::parse, "pressure-stall information")
    }
}

/// The folder whose pressure file tells of process `pid`, beside its v1 controllers; `None` where there is none.
#[must_use]
pub fn folder_of(pid: i32) -> Option<PathBuf> {
    unified_dir(&locate::membership_of(pid).ok()?, &locate::mounts().ok()?)
}

/// The folder of the process in the unified hierarchy; `None` at its root or where none is mounted.
pub fn unified_dir(membership: &str, mounts: &[CgroupMount]) -> Option<PathBuf> {
    // No v1 controller has an empty name, so this asks for the `0::` line.
    let location = locate::locate_in(membership, mounts, "").ok()?;
    (location.version == Version::V2 && location.path != "/").then_some(location.dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.00 total=698\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=483\n";
        let want = Pressure { some_avg10: 1.5, some_total_us: 698, full_avg10: 0.25, full_total_us: 483 };
        assert_eq!(Pressure::parse(text), Some(want));
        assert_eq!(Pressure::parse(""), None);
        assert_eq!(Pressure::parse("some avg10=x total=1"), None);
    }

    #[test]
    fn the_host_stands_in_only_where_the_cgroup_has_none() {
        let tmp = tempfile::tempdir().unwrap();
        let host = tmp.path().join("host");
        assert!(PressureSource::open(Some(tmp.path()), &host).unwrap().is_none());
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
        std::fs::write(&host, text).unwrap();
        let source = PressureSource::open(Some(tmp.path()), &host).unwrap().unwrap();
        assert_eq!(source.scope, PressureScope::Host);
        std::fs::write(tmp.path().join(v2::PRESSURE), text).unwrap();
        let source = PressureSource::open(Some(tmp.path()), &host).unwrap().unwrap();
        assert_eq!(source.scope, PressureScope::Cgroup);
    }

    #[test]
    fn the_host_does_not_stand_in_where_a_cgroup_cannot_be_read() {
        let tmp = tempfile::tempdir().unwrap();
        let host = tmp.path().join("host");
        std::fs::write(&host, "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap();
        // It opens, and each read fails.
        std::fs::create_dir(tmp.path().join(v2::PRESSURE)).unwrap();
        let error = PressureSource::open(Some(tmp.path()), &host).unwrap_err();
        assert!(error.to_string().contains(v2::PRESSURE), "{error}");
    }
}
