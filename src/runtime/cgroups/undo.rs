//! What control files said before an update, so that it can be set back as a whole: also what create never asked for, and
//! whichever of several files was refused.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::limits::Moment;
use super::{Cgroup, CgroupError, Result, Version, devices, knob, systemd};

/// Control files by path, with their text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Before {
    files: Vec<(PathBuf, String)>,
    /// The update changes device rules: those asked for before are the ones to set back.
    devices: bool,
}

/// Files with a line for each device or interface, and what a line that was not there is taken away by.
const BY_KEY: [(&str, &str); 11] = [
    ("io.max", "rbps=max wbps=max riops=max wiops=max"),
    ("io.weight", "default"),
    ("io.bfq.weight", "default"),
    ("rdma.max", "hca_handle=max hca_object=max"),
    ("blkio.throttle.read_bps_device", "0"),
    ("blkio.throttle.write_bps_device", "0"),
    ("blkio.throttle.read_iops_device", "0"),
    ("blkio.throttle.write_iops_device", "0"),
    ("blkio.weight_device", "default"),
    ("blkio.bfq.weight_device", "default"),
    ("blkio.leaf_weight_device", "default"),
];

/// One file may have to be written before another, such as v1's limits of memory and of memory and swap.
const PASSES: usize = 3;

impl Cgroup {
    /// What the files say that an update by `planned` may write. What is not there, or cannot be read, is not in it.
    pub fn before(&self, planned: &LinuxResources) -> Before {
        let touched = touched(self.version, planned);
        let paths =
            touched.iter().filter_map(|(controller, name)| Some(self.path_of(controller)?.join(name)));
        let files = paths.filter_map(|path| Some((text_of(&path)?, path))).map(|(text, path)| (path, text));
        Before { files: files.collect(), devices: planned.devices().is_some() }
    }

    /// Sets back what an update changed. `asked`: what was asked for before it.
    ///
    /// # Errors
    /// Something is not as it was.
    pub fn set_back(&self, before: &Before, asked: &LinuxResources) -> Result<()> {
        let changed: Vec<_> =
            before.files.iter().filter(|(path, text)| text_of(path).as_ref() != Some(text)).collect();
        if let Some(unit) = self.unit.as_ref().filter(|_| !changed.is_empty() || before.devices) {
            let devices = before.devices.then_some(asked);
            systemd::set_back(unit, self, &before.files, devices)?;
        }
        let mut result = Ok(());
        for _ in 0..PASSES {
            result = Ok(());
            for (path, text) in &before.files {
                if let Err(error) = restore(path, text) {
                    result = Err(error);
                }
            }
        }
        if before.devices {
            devices::write(self, asked, Moment::Update)?;
        }
        result
    }
}

/// The control files that the fields of an update are written to, with their v1 controller.
fn touched(version: Version, planned: &LinuxResources) -> Vec<(&'static str, String)> {
    let v2 = version == Version::V2;
    let mut files = Vec::new();
    let mut add = |controller, names: &[&str]| {
        files.extend(names.iter().map(|name| (controller, (*name).to_owned())));
    };
    if planned.memory().is_some() {
        add("memory", if v2 { &MEMORY_V2 } else { &MEMORY_V1 });
    }
    if planned.cpu().is_some() {
        add("cpu", if v2 { &CPU_V2 } else { &CPU_V1 });
        add("cpuset", &["cpuset.cpus", "cpuset.mems"]);
    }
    if planned.pids().is_some() {
        add("pids", &["pids.max"]);
    }
    if planned.block_io().is_some() {
        add("blkio", if v2 { &IO_V2 } else { &BLKIO_V1 });
        add("blkio", &BY_KEY.map(|(name, _)| name));
    }
    if planned.network().is_some() {
        add("net_cls", &["net_cls.classid"]);
        add("net_prio", &["net_prio.ifpriomap"]);
    }
    if planned.rdma().is_some() {
        add("rdma", &["rdma.max"]);
    }
    for limit in planned.hugepage_limits().iter().flatten() {
        for kind in if v2 { ["max", "rsvd.max"] } else { ["limit_in_bytes", "rsvd.limit_in_bytes"] } {
            files.push(("hugetlb", format!("hugetlb.{}.{kind}", limit.page_size())));
        }
    }
    files.extend(planned.unified().iter().flatten().map(|(name, _)| ("", name.clone())));
    files.sort_unstable();
    files.dedup_by(|a, b| a.1 == b.1);
    files
}

const MEMORY_V2: [&str; 3] = ["memory.max", "memory.swap.max", "memory.low"];
const MEMORY_V1: [&str; 5] = [
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.swappiness",
    "memory.oom_control",
];
const CPU_V2: [&str; 4] = ["cpu.idle", "cpu.weight", "cpu.max", "cpu.max.burst"];
const CPU_V1: [&str; 7] = [
    "cpu.idle",
    "cpu.shares",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.cfs_burst_us",
    "cpu.rt_period_us",
    "cpu.rt_runtime_us",
];
const IO_V2: [&str; 0] = [];
const BLKIO_V1: [&str; 3] = ["blkio.weight", "blkio.bfq.weight", "blkio.leaf_weight"];

/// What the file says, in the form in which it is written; `None` if it is not there or not for reading.
fn text_of(path: &Path) -> Option<String> {
    let text = knob::read(path.parent()?, path.file_name()?.to_str()?).ok()?;
    if path.ends_with("memory.oom_control") {
        return text.lines().find_map(|line| line.strip_prefix("oom_kill_disable ")).map(str::to_owned);
    }
    Some(text.trim_end().to_owned())
}

/// Writes the lines that a file has lost, and takes away those that it did not have.
fn restore(path: &Path, text: &str) -> Result<()> {
    let now = text_of(path).ok_or(CgroupError::NotExist)?;
    if now == text {
        return Ok(());
    }
    let mut file = knob::open_to_write(path)?;
    let Some((_, removal)) = BY_KEY.iter().find(|(name, _)| path.ends_with(name)) else {
        // An empty set of CPUs is an empty line; interfaces always have all of theirs.
        let lost = text.split('\n').filter(|line| !now.lines().any(|known| known == *line));
        return lost.into_iter().try_for_each(|line| knob::write_to(&mut file, path, &format!("{line}\n")));
    };
    let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    for line in text.lines().filter(|line| !now.lines().any(|known| known == *line)) {
        knob::write_to(&mut file, path, line)?;
    }
    for line in now.lines().filter(|line| !text.lines().any(|known| key(known) == key(line))) {
        knob::write_to(&mut file, path, &format!("{} {removal}", key(line)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::lab::{fixture, hierarchy};
    use super::*;

    #[test]
    fn every_file_that_an_update_writes_is_known_before() {
        let all = r#"{"memory":{"limit":1},"cpu":{"shares":1},"pids":{"limit":1},"blockIO":{"weight":10},
            "hugepageLimits":[{"pageSize":"2MB","limit":1}],"network":{"classID":1},"rdma":{"x":{}},
            "unified":{"memory.high":"1","memory.max":"1"}}"#;
        let planned = serde_json::from_str(all).unwrap();
        let names =
            |version| touched(version, &planned).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        let (v1, v2) = (names(Version::V1), names(Version::V2));
        for name in
            ["memory.memsw.limit_in_bytes", "cpu.shares", "blkio.throttle.read_bps_device", "net_cls.classid"]
        {
            assert!(v1.iter().any(|known| known == name), "{name}");
        }
        for name in
            ["memory.swap.max", "memory.high", "cpu.max", "io.max", "hugetlb.2MB.max", "rdma.max", "pids.max"]
        {
            assert!(v2.iter().any(|known| known == name), "{name}");
        }
        assert!(touched(Version::V2, &LinuxResources::default()).is_empty());
    }

    #[test]
    fn lines_by_device_are_set_back_one_by_one() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = fixture(Version::V2, vec![hierarchy(&[], root.path())]);
        let file = root.path().join("box/io.max");
        std::fs::create_dir(root.path().join("box")).unwrap();
        std::fs::write(&file, "8:0 rbps=9 wbps=max riops=max wiops=max\n").unwrap();
        let planned = serde_json::from_str(
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5},{"major":8,"minor":16,"rate":5}]}}"#,
        )
        .unwrap();
        let before = cgroup.before(&planned);
        std::fs::write(
            &file,
            "8:0 rbps=5 wbps=max riops=max wiops=max\n8:16 rbps=5 wbps=max riops=max wiops=max\n",
        )
        .unwrap();
        restore(&file, &before.files[0].1).unwrap();
        // A folder keeps one write after the other.
        let lines = "8:0 rbps=9 wbps=max riops=max wiops=max8:16 rbps=max wbps=max riops=max wiops=max";
        assert!(std::fs::read_to_string(&file).unwrap().starts_with(lines));
    }

    #[test]
    fn the_oom_killer_is_read_in_the_form_in_which_it_is_written() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("memory.oom_control");
        std::fs::write(&file, "oom_kill_disable 1\nunder_oom 0\noom_kill 7\n").unwrap();
        assert_eq!(text_of(&file).as_deref(), Some("1"));
        assert_eq!(text_of(&root.path().join("none")), None);
    }
}
