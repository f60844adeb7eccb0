//! v2: a BPF program on the cgroup. The new one is attached before the old ones are taken away: in between both
//! must allow, so that there is no moment without a filter.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use libcgroups::v2::devices::bpf::{BpfError, prog};
use libcgroups::v2::devices::program::Program;

use super::super::{CgroupError, Result};
use super::rules::{Rule, Rules};

/// The crate passes the pointer on as a C string, so the end must be there.
const LICENSE: &str = "Apache\0";

pub(super) fn write(dir: &Path, target: &Rules) -> Result<()> {
    let refuse = |reason: String| CgroupError::DeviceFilter { path: dir.to_path_buf(), reason };
    let exceptions: Vec<_> = target.exceptions().map(Rule::to_spec).collect();
    let program =
        Program::from_rules(&exceptions, target.default_allow).map_err(|error| refuse(error.to_string()))?;
    let cgroup = File::open(dir).map_err(|error| CgroupError::Open { path: dir.to_path_buf(), error })?;
    let bpf = |error: BpfError| refuse(error.to_string());
    // RLIMIT_MEMLOCK is left alone: since Linux 5.11 programs are charged to the memory cgroup instead.
    let new = Loaded::load(&program).map_err(bpf)?;
    let old = prog::query(cgroup.as_raw_fd()).map_err(bpf)?;
    let old: Vec<Loaded> = old.into_iter().map(|info| Loaded(info.fd)).collect();
    prog::attach(new.0, cgroup.as_raw_fd()).map_err(bpf)?;
    for program in old {
        prog::detach2(program.0, cgroup.as_raw_fd()).map_err(bpf)?;
    }
    Ok(())
}

/// A loaded program's descriptor, closed at the end: the cgroup keeps the program.
struct Loaded(RawFd);

impl Loaded {
    fn load(program: &Program) -> std::result::Result<Self, BpfError> {
        prog::load(LICENSE, program.bytecodes()).map(Self)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = nix::unistd::close(self.0);
    }
}
