//! `update`: changes the limits of a container.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::cli::{Global, UpdateArgs};
use crate::exit::ExitStatus;
use crate::runtime::cgroups::drop_zero_pids;
use crate::runtime::{Status, Store, bundle, update};

/// Writes the given limits and remembers them; a failure leaves the old ones.
#[inline(never)]
pub fn run(global: &Global, args: &UpdateArgs) -> anyhow::Result<ExitStatus> {
    let mut change = match &args.resources {
        Some(path) => read_resources(path)?,
        None => from_options(args),
    };
    if args.l3_cache_schema.is_some() {
        bail!("Intel RDT/CAT: l3 cache schema is not enabled");
    }
    if args.mem_bw_schema.is_some() {
        bail!("Intel RDT/MBA: memory bandwidth schema is not enabled");
    }
    let mut container = Store::open(global)?.load_locked(&args.container_id)?;
    ensure!(container.status()? != Status::Stopped, "container not running");
    if args.resources.is_some() {
        // From the engine that wrote the config.
        drop_zero_pids(&mut change, container.oci_version());
    }
    update::update(&mut container, &change)?;
    Ok(ExitStatus::SUCCESS)
}

fn read_resources(path: &Path) -> anyhow::Result<LinuxResources> {
    let mut text = Vec::new();
    let mut path = path;
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut text).context("cannot read resources from standard input")?;
        path = Path::new("standard input");
    } else {
        text =
            std::fs::read(path).with_context(|| format!("cannot read resources from {}", path.display()))?;
    }
    bundle::parse_resources(&text, path).context("cannot parse resources")
}

fn from_options(args: &UpdateArgs) -> LinuxResources {
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(args.memory)
        .set_swap(args.memory_swap)
        .set_reservation(args.memory_reservation)
        .set_kernel(args.kernel_memory)
        .set_kernel_tcp(args.kernel_memory_tcp);
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(args.cpu_share)
        .set_quota(args.cpu_quota)
        .set_period(args.cpu_period)
        .set_burst(args.cpu_burst)
        .set_idle(args.cpu_idle)
        .set_realtime_period(args.cpu_rt_period)
        .set_realtime_runtime(args.cpu_rt_runtime)
        .set_cpus(args.cpuset_cpus.clone())
        .set_mems(args.cpuset_mems.clone());
    let mut io = LinuxBlockIo::default();
    io.set_weight(args.blkio_weight);
    let pids = args.pids_limit.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    });
    let mut resources = LinuxResources::default();
    resources
        .set_memory(Some(memory).filter(|memory| *memory != LinuxMemory::default()))
        .set_cpu(Some(cpu).filter(|cpu| *cpu != LinuxCpu::default()))
        .set_block_io(Some(io).filter(|io| *io != LinuxBlockIo::default()))
        .set_pids(pids);
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_given_options_become_limits() {
        assert_eq!(from_options(&UpdateArgs::default()), LinuxResources::default());
        let args =
            UpdateArgs { memory: Some(64), cpu_quota: Some(-1), pids_limit: Some(0), ..Default::default() };
        let resources = from_options(&args);
        assert_eq!(resources.memory().unwrap().limit(), Some(64));
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(-1));
        assert_eq!(resources.pids().unwrap().limit(), 0);
        assert!(resources.block_io().is_none());
    }
}
