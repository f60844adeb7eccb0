//! The command line as types: runc's commands and flags under runc's names, and rt's own.
//! Only `parse` knows how arguments are read; nothing here does anything else.

mod checkpoint;
mod exec;
mod help;
mod hook;
mod lifecycle;
mod normalise;
mod parse;
mod proof;
mod update;
pub mod values;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::runtime::node::NodeProof;

pub use checkpoint::{CheckpointArgs, CriuArgs, RestoreArgs};
pub use exec::ExecArgs;
pub use help::{page, program_name};
pub use hook::HookArgs;
pub use lifecycle::{
    ContainerArgs, CreateArgs, DeleteArgs, EventsArgs, KillArgs, ListArgs, ListFormat, PsArgs,
    RootlessCgroup, RunArgs, SpecArgs,
};
pub use parse::{Stop, parse};
pub use proof::{
    Format, MonitorArgs, MonitorFormat, ProvingArgs, ReportArgs, ReportFormat, StressMemoryArgs,
    TestMemoryArgs, VerifyArgs, VerifyFormat, WhyArgs,
};
pub use update::UpdateArgs;

/// Everything that was asked on the command line.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "rt",
    about = "Open Container Initiative runtime",
    disable_version_flag = true,
    args_override_self = true,
    subcommand_required = true,
    infer_subcommands = false
)]
pub struct Cli {
    /// The options before the command.
    #[command(flatten)]
    pub global: Global,
    /// print the version
    #[arg(short, long)]
    pub version: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The options that every command has.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// root directory for storage of container state (this should be located in tmpfs)
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub root: Option<PathBuf>,
    /// set the log file to write logs to (default is '/dev/stderr')
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// set the log format ('text' or 'json')
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub log_format: LogFormat,
    /// enable debug logging
    #[arg(long)]
    pub debug: bool,
    /// enable systemd cgroup support, expects cgroupsPath to be of form "slice:prefix:name"
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// ignore cgroup permission errors ('true', 'false', or 'auto')
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        ignore_case = true
    )]
    pub rootless: Rootless,
    /// the node's configuration (default is '/etc/rt/config.json', which need not exist)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// prove the memory limit of every container, such as prestart:record or poststart:enforce
    #[arg(long, value_name = "STAGE:POLICY")]
    pub proof: Option<NodeProof>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// logrus' text: `time="…" level=… msg="…"`.
    #[default]
    Text,
    /// A JSON object a line, as engines read it.
    Json,
}

/// Whether errors about cgroup permissions are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    /// When not root, or in a user namespace.
    #[default]
    Auto,
    /// Always.
    #[value(alias = "1", alias = "t")]
    True,
    /// Never.
    #[value(alias = "0", alias = "f")]
    False,
}

/// A command and its arguments.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// checkpoint a running container
    Checkpoint(CheckpointArgs),
    /// create a container
    Create(CreateArgs),
    /// delete any resources held by the container often used with detached container
    Delete(DeleteArgs),
    /// display container events such as OOM notifications, cpu, memory, and IO usage statistics
    Events(EventsArgs),
    /// execute new process inside the container
    Exec(ExecArgs),
    /// show the enabled features
    Features,
    /// prove a memory limit as a hook of any OCI runtime: prestart, createRuntime or poststart
    Hook(HookArgs),
    /// send the specified signal (default: SIGTERM) to the container's init process
    Kill(KillArgs),
    /// list the containers started with the given root
    List(ListArgs),
    /// suspend all processes inside the container
    Pause(ContainerArgs),
    /// display the processes running inside a container
    Ps(PsArgs),
    /// restore a container from a previous checkpoint
    Restore(RestoreArgs),
    /// resume all processes that have been previously paused
    Resume(ContainerArgs),
    /// create and run a container
    Run(RunArgs),
    /// create a new specification file
    Spec(SpecArgs),
    /// execute the user defined process in a created container
    Start(ContainerArgs),
    /// output the state of a container
    State(ContainerArgs),
    /// update container resource constraints
    Update(UpdateArgs),
    /// prove that a container's memory limit holds
    TestMemory(TestMemoryArgs),
    /// keep a container's memory limit under pressure
    StressMemory(StressMemoryArgs),
    /// show a container's memory as it changes
    Monitor(MonitorArgs),
    /// check what the runtime promises on this machine
    Verify(VerifyArgs),
    /// show the memory proofs that were made of a container
    Report(ReportArgs),
    /// say why a container died
    Why(WhyArgs),
    /// print the completions for a shell
    Completions(CompletionsArgs),
    /// write the manual pages into a directory
    Man(ManArgs),
}

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// the shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// where the pages go; it must exist
    pub directory: PathBuf,
}
