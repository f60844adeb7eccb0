//! Arguments of the commands that prove and watch memory.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::duration;

/// How a proof command prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: a JSON object, or one a line.
    Json,
}

/// Whom `test-memory` and `stress-memory` prove, and with what.
#[derive(Debug, Clone, Default, Args)]
pub struct ProvingArgs {
    /// take the cgroup of this process instead of a container's
    #[arg(long, conflicts_with = "cgroup", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// take this memory cgroup instead of a container's
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// how memory is used: all, or some of sequential, pattern, random, file, shm, mlock, fork (default: the first four)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub strategy: Vec<String>,
    /// where the strategy file writes, as the container sees it
    #[arg(long, value_name = "DIR")]
    pub file_dir: Option<PathBuf>,
    /// how much is asked for at a time, such as 1M (default: 256K)
    #[arg(long, value_name = "SIZE")]
    pub step: Option<String>,
    /// where a container has no limit: go up to this many MiB
    #[arg(long, value_name = "MB")]
    pub up_to: Option<u64>,
    /// the limit that should be in the kernel, in MiB
    #[arg(long, value_name = "MB")]
    pub expect: Option<u64>,
    /// go on even where the whole container could be killed
    #[arg(long)]
    pub allow_kill_container: bool,
}

/// Arguments of `test-memory`: one strategy after the other.
#[derive(Debug, Clone, Default, Args)]
pub struct TestMemoryArgs {
    /// name of the container
    #[arg(required_unless_present_any = ["pid", "cgroup"])]
    pub container: Option<String>,
    /// how much to ask for, in MiB (default: enough to cross the limit)
    pub mb: Option<u64>,
    #[command(flatten)]
    pub proving: ProvingArgs,
    /// how long the proof may take
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// say what would be done, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// text, or json: a record a strategy, and the run at the end
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub format: Format,
}

/// Arguments of `stress-memory`: a worker a strategy, one of which may be named twice.
#[derive(Debug, Clone, Default, Args)]
pub struct StressMemoryArgs {
    /// name of the container
    #[arg(required_unless_present_any = ["pid", "cgroup"])]
    pub container: Option<String>,
    /// how much the workers share, in MiB (default: enough to cross the limit)
    pub mb: Option<String>,
    /// for how long (default: 30)
    pub seconds: Option<String>,
    #[command(flatten)]
    pub proving: ProvingArgs,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub format: Format,
}

/// How readings are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum MonitorFormat {
    /// In place on a terminal, else a line a reading.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
    /// OpenMetrics text, for Prometheus.
    Openmetrics,
    /// Prometheus' older text format, for the textfile collector of node exporter.
    Prometheus,
}

/// Arguments of `monitor`.
#[derive(Debug, Clone, Default, Args)]
pub struct MonitorArgs {
    /// name of the container
    #[arg(required_unless_present_any = ["pid", "cgroup", "all"])]
    pub container: Option<String>,
    /// for how long (default: until the container ends); 0 for one reading
    pub seconds: Option<String>,
    /// all containers of this root, as a table
    #[arg(long, conflicts_with_all = ["pid", "cgroup"])]
    pub all: bool,
    /// watch the cgroup of this process instead of a container's
    #[arg(long, conflicts_with = "cgroup", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// watch this memory cgroup instead of a container's
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// time between two readings, 1ms or more
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub interval: Duration,
    /// text, json, openmetrics or prometheus
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub format: MonitorFormat,
    /// with openmetrics or prometheus: the file to put in place at each reading, as node exporter's textfile collector reads it
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How the checklist is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum VerifyFormat {
    /// For people, a line a check as it is made.
    #[default]
    Text,
    /// For programs: a JSON object.
    Json,
    /// For CI systems: JUnit's XML.
    Junit,
    /// A page.
    Html,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, Default, Args)]
pub struct VerifyArgs {
    /// judge this OCI runtime instead of rt, such as runc or /usr/bin/crun
    #[arg(long, value_name = "PATH")]
    pub runtime: Option<PathBuf>,
    /// text, json, junit or html
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub format: VerifyFormat,
}

/// Arguments of `why`.
#[derive(Debug, Clone, Args)]
pub struct WhyArgs {
    /// name of the container, which may be deleted, or its bundle (with a '/')
    #[arg(value_name = "CONTAINER|BUNDLE")]
    pub container: String,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub format: Format,
}

/// How proofs that were made are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: a record a line.
    Json,
    /// A page with pictures.
    Html,
    /// OpenMetrics text: the last verdict of every container.
    Openmetrics,
    /// The same in Prometheus' older text format, for the textfile collector of node exporter.
    Prometheus,
}

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// name of the container, which may be deleted, or a file of records, or a bundle that has one (default: all containers of this root)
    #[arg(value_name = "CONTAINER|FILE|BUNDLE")]
    pub subject: Option<String>,
    /// all proofs, not those of the last run alone
    #[arg(long)]
    pub all: bool,
    /// text, json or html; openmetrics or prometheus for the last verdicts of all containers
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub format: ReportFormat,
    /// write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
