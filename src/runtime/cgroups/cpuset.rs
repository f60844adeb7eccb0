//! v1 cpuset: a new cgroup has no CPUs and no memory nodes, and takes no process until it has (ENOSPC).

use std::path::Path;

use oci_spec::runtime::LinuxCpu;

use super::{Result, knob};

const CPUS: &str = "cpuset.cpus";
const MEMS: &str = "cpuset.mems";

/// Gives a new cgroup what is asked for and, where nothing is, what its parent has. Parents without a value get
/// their own parent's first, up to the mount point, which always has one.
pub(super) fn fill(dir: &Path, mount: &Path, cpu: Option<&LinuxCpu>, fresh: bool) -> Result<()> {
    let (cpus, mems) = asked(cpu);
    // What is asked for must be a part of what the parent has.
    if let Some(parent) = dir.parent().filter(|_| dir != mount && (cpus.is_some() || mems.is_some())) {
        inherit(parent, mount, read(parent)?)?;
    }
    write(dir, cpu)?;
    if cpus.is_some() && mems.is_some() {
        return Ok(());
    }
    // Of a new directory it is known that the rest is empty.
    let now = if fresh {
        (cpus.unwrap_or_default().to_owned(), mems.unwrap_or_default().to_owned())
    } else {
        read(dir)?
    };
    inherit(dir, mount, now).map(drop)
}

/// Writes the CPUs and memory nodes that are asked for.
pub(super) fn write(dir: &Path, cpu: Option<&LinuxCpu>) -> Result<()> {
    let (cpus, mems) = asked(cpu);
    if let Some(cpus) = cpus {
        knob::write(dir, CPUS, cpus)?;
    }
    if let Some(mems) = mems {
        knob::write(dir, MEMS, mems)?;
    }
    Ok(())
}

/// The asked CPUs and memory nodes; an empty string means not asked.
pub(super) fn asked(cpu: Option<&LinuxCpu>) -> (Option<&str>, Option<&str>) {
    fn given(value: &Option<String>) -> Option<&str> {
        value.as_deref().filter(|value| !value.is_empty())
    }
    (cpu.and_then(|cpu| given(cpu.cpus())), cpu.and_then(|cpu| given(cpu.mems())))
}

/// Completes the CPUs and memory nodes `now` of `dir` with its parent's, and returns them.
fn inherit(dir: &Path, mount: &Path, now: (String, String)) -> Result<(String, String)> {
    let (mut cpus, mut mems) = now;
    let (false, Some(parent)) = (dir == mount || !(cpus.is_empty() || mems.is_empty()), dir.parent()) else {
        return Ok((cpus, mems));
    };
    let given = inherit(parent, mount, read(parent)?)?;
    if cpus.is_empty() {
        cpus = given.0;
        knob::write(dir, CPUS, &cpus)?;
    }
    if mems.is_empty() {
        mems = given.1;
        knob::write(dir, MEMS, &mems)?;
    }
    Ok((cpus, mems))
}

fn read(dir: &Path) -> Result<(String, String)> {
    let value = |name| knob::read(dir, name).map(|text| text.trim_end().to_owned());
    Ok((value(CPUS)?, value(MEMS)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &Path, cpus: &str, mems: &str) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join(CPUS), cpus).unwrap();
        std::fs::write(dir.join(MEMS), mems).unwrap();
    }

    #[test]
    fn empty_parents_are_filled_from_the_mount_point_down() {
        let root = tempfile::tempdir().unwrap();
        let (parent, leaf) = (root.path().join("p"), root.path().join("p/c"));
        make(root.path(), "0-1\n", "0\n");
        make(&parent, "\n", "0\n");
        make(&leaf, "", "");
        fill(&leaf, root.path(), None, false).unwrap();
        assert_eq!(knob::read(&parent, CPUS).unwrap().trim(), "0-1");
        assert_eq!(knob::read(&leaf, CPUS).unwrap(), "0-1");
        assert_eq!(knob::read(&leaf, MEMS).unwrap(), "0");
    }

    #[test]
    fn asked_values_are_not_replaced_by_the_parents() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("c");
        make(root.path(), "0-3\n", "0\n");
        make(&leaf, "", "");
        let cpu: LinuxCpu = serde_json::from_str(r#"{"cpus": "2", "mems": ""}"#).unwrap();
        fill(&leaf, root.path(), Some(&cpu), true).unwrap();
        assert_eq!(knob::read(&leaf, CPUS).unwrap(), "2");
        assert_eq!(knob::read(&leaf, MEMS).unwrap(), "0");
    }
}
