//! Arguments of `update`. A value that is not given leaves the container's own as it is.

use std::path::PathBuf;

use clap::Args;

use super::values::memory_bytes;

/// Arguments of `update`.
#[derive(Debug, Clone, Default, Args)]
pub struct UpdateArgs {
    /// name of the container
    pub container_id: String,
    /// path to the file with the resources to update, as `linux.resources` in config.json, or '-' to read
    /// from the standard input; all other options are then ignored. What is as it was is left alone; what an update
    /// cannot do is an error
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// per cgroup weight, range is from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// CPU CFS period to be used for hardcapping (in usecs). 0 to use system default
    #[arg(long, value_name = "USECS")]
    pub cpu_period: Option<u64>,
    /// CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period
    #[arg(long, value_name = "USECS", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst a given
    /// period
    #[arg(long, value_name = "USECS")]
    pub cpu_burst: Option<u64>,
    /// CPU shares (relative weight vs. other containers)
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// CPU realtime period to be used for hardcapping (in usecs). 0 to use system default
    #[arg(long, value_name = "USECS")]
    pub cpu_rt_period: Option<u64>,
    /// CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period
    #[arg(long, value_name = "USECS", allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// CPU(s) to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// memory node(s) to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// accepted for older callers and ignored
    #[arg(long, value_name = "SIZE", hide = true, allow_negative_numbers = true, value_parser = memory_bytes)]
    pub kernel_memory: Option<i64>,
    /// accepted for older callers and ignored
    #[arg(long, value_name = "SIZE", hide = true, allow_negative_numbers = true, value_parser = memory_bytes)]
    pub kernel_memory_tcp: Option<i64>,
    /// memory limit (in bytes, or with a unit such as 64M); -1 for none. The limit of memory and swap together stays,
    /// and a memory limit above it is refused
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = memory_bytes)]
    pub memory: Option<i64>,
    /// set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    pub cpu_idle: Option<i64>,
    /// memory reservation or soft limit (in bytes)
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = memory_bytes)]
    pub memory_reservation: Option<i64>,
    /// total memory usage (memory + swap); set '-1' to enable unlimited swap
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = memory_bytes)]
    pub memory_swap: Option<i64>,
    /// maximum number of pids allowed in the container
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// the string of Intel RDT/CAT L3 cache schema
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// the string of Intel RDT/MBA memory bandwidth schema
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
}
