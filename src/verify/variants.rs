//! Containers beside the main one: one whose swap is limited too, and one without a memory limit.

use oci_spec::runtime::{LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder, Spec};

use super::runtime::{Folder, Runtime};
use super::{LIMIT_BYTES, List, Seen, Step, Wrong};
use crate::cgroup::{MemoryCgroup, Version, locate, v1, v2};
use crate::monitor::Source;
use crate::units::Mib;

/// A limit of memory and swap together forbids swap.
pub fn swap(runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::CgroupSetup, "swap-limit", || {
        let limit = i64::try_from(LIMIT_BYTES).unwrap_or(i64::MAX);
        let memory = LinuxMemoryBuilder::default().limit(limit).swap(limit);
        let change = |spec: &mut Spec| set_memory(spec, memory);
        with_container(runtime, folder, "swap", change, |_, pid| {
            let location = locate(pid, "memory").map_err(|e| Wrong::from_error(&e))?;
            let cgroup = MemoryCgroup::at(&location).map_err(|e| Wrong::from_error(&e))?;
            swap_is_forbidden(&cgroup)
        })
    });
}

fn swap_is_forbidden(cgroup: &MemoryCgroup) -> Seen {
    let (file, together) = match cgroup.version {
        Version::V1 => (v1::MEMSW_LIMIT, true),
        Version::V2 => (v2::SWAP_LIMIT, false),
    };
    if !cgroup.file(file).exists() {
        return Err(Wrong::not_applicable("the kernel accounts no swap"));
    }
    let limit = cgroup.swap_limit().map_err(|e| Wrong::from_error(&e))?;
    let wanted = if together { LIMIT_BYTES } else { 0 };
    let whose = if together { "memory and swap together" } else { "swap" };
    match limit {
        Some(bytes) if bytes == wanted => Ok(format!("the kernel's limit of {whose} is {}", Mib(bytes))),
        Some(bytes) => {
            Err(Wrong::new(format!("the kernel's limit of {whose} is {}, not {}", Mib(bytes), Mib(wanted))))
        }
        None => Err(Wrong::new(format!("the kernel has no limit of {whose}, and one was asked for"))),
    }
}

/// So many processes the container may have.
const PIDS: i64 = 99;

/// The limit of processes that is asked for is in the kernel.
pub fn pids(runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::CgroupSetup, "pids-limit", || {
        let ours = i32::try_from(std::process::id()).unwrap_or_default();
        if locate(ours, "pids").is_err() {
            return Err(Wrong::not_applicable("the kernel counts no processes by cgroup"));
        }
        with_container(runtime, folder, "pids", set_pids, |_, pid| {
            let file = locate(pid, "pids").map_err(|e| Wrong::from_error(&e))?.dir.join("pids.max");
            match std::fs::read_to_string(&file).as_deref().map(str::trim) {
                Ok(limit) if limit == PIDS.to_string() => {
                    Ok(format!("the kernel's limit is {PIDS} processes"))
                }
                Ok("max") => {
                    Err(Wrong::new(format!("the kernel has no limit, and {PIDS} processes were asked for")))
                }
                Ok(other) => Err(Wrong::new(format!("the kernel's limit is {other} processes, not {PIDS}"))),
                Err(e) => Err(Wrong::new(format!("cannot read {}: {e}", file.display()))),
            }
        })
    });
}

fn set_pids(spec: &mut Spec) -> Result<(), Wrong> {
    set_memory(spec, LinuxMemoryBuilder::default().limit(i64::try_from(LIMIT_BYTES).unwrap_or(i64::MAX)))?;
    let pids = LinuxPidsBuilder::default().limit(PIDS).build().map_err(|e| Wrong::from_error(&e))?;
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    resources.ok_or_else(|| Wrong::new("the bundle has no resources"))?.set_pids(Some(pids));
    Ok(())
}

/// A container without a limit is said to have none, and is not compared with some huge number.
pub fn unlimited(runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::Monitoring, "unlimited", || {
        let none = LinuxMemoryBuilder::default();
        with_container(
            runtime,
            folder,
            "unlimited",
            |spec| set_memory(spec, none),
            |_, pid| {
                let reading = Source::of_process(pid)
                    .and_then(|mut source| source.read())
                    .map_err(|e| Wrong::from_error(&e))?;
                match (reading.limit_bytes, &reading.limiter) {
                    (None, _) => Ok("a container without a limit is shown as unlimited".to_owned()),
                    (Some(bytes), Some(above)) => {
                        Ok(format!("without a limit of its own, that of {above} is shown: {}", Mib(bytes)))
                    }
                    (Some(bytes), None) => {
                        Err(Wrong::new(format!("no limit was asked for, and the kernel has {}", Mib(bytes))))
                    }
                }
            },
        )
    });
}

pub fn set_memory(spec: &mut Spec, memory: LinuxMemoryBuilder) -> Result<(), Wrong> {
    let memory = memory.build().map_err(|e| Wrong::from_error(&e))?;
    let mut linux = spec.linux().clone().ok_or_else(|| Wrong::new("the bundle has no linux section"))?;
    let mut resources = match linux.resources().clone() {
        Some(resources) => resources,
        None => LinuxResourcesBuilder::default().build().map_err(|e| Wrong::from_error(&e))?,
    };
    resources.set_memory(Some(memory));
    linux.set_resources(Some(resources));
    spec.set_linux(Some(linux));
    Ok(())
}

/// Makes a container, looks at it by its name and the pid of its init, and deletes it whatever was seen.
pub fn with_container(
    runtime: &Runtime,
    folder: &Folder,
    name: &str,
    change: impl FnOnce(&mut Spec) -> Result<(), Wrong>,
    look: impl FnOnce(&str, i32) -> Seen,
) -> Seen {
    let id = format!("{}-{name}", folder.id);
    let created = runtime.create_from(folder, &id, change);
    let seen = created.and_then(|()| {
        let state = runtime.state(folder, &id);
        look(&id, state.ok_or_else(|| Wrong::new("created, but state does not know it"))?.pid)
    });
    let deleted = runtime.call(folder, &["delete", "--force", &id]);
    let seen = seen?;
    deleted.map(|()| seen)
}
