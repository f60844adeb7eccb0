//! Arguments of the commands that make, end and show containers.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::duration;

/// Arguments of the commands that only name a container.
#[derive(Debug, Clone, Args)]
pub struct ContainerArgs {
    /// name of the container
    pub container_id: String,
}

/// Arguments of `create`, and the larger part of `run`'s.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// name of the container, unique on the host
    pub container_id: String,
    /// path to the root of the bundle directory, defaults to the current directory
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the
    /// console's pseudoterminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// path to an AF_UNIX socket which will receive a file descriptor referencing the init process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// specify the file to write the process id to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// do not use pivot root to jail process inside rootfs; this should be used whenever the rootfs is on
    /// top of a ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// do not create a new session keyring for the container; it will inherit the calling process's one
    #[arg(long)]
    pub no_new_keyring: bool,
    /// pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// a limit that this user may not set: 'require' fails, 'ignore' makes the container without it and warns
    #[arg(long, value_name = "WHAT", default_value = "require", hide_possible_values = true)]
    pub rootless_cgroup: RootlessCgroup,
    /// memory limit of the container in place of the one in config.json: MiB as in 128, a size as in 128M or
    /// 1g, or max; without any config.json the container is made from nothing
    #[arg(long, value_name = "SIZE")]
    pub ram: Option<String>,
    /// CPU time of the container in place of the limit in config.json: percent of one CPU as in 25, or max
    #[arg(long, value_name = "PERCENT")]
    pub cpu: Option<String>,
}

/// What to do without permission for a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum RootlessCgroup {
    /// Fail.
    #[default]
    Require,
    /// Warn, and make the container without the limit.
    Ignore,
}

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// what `create` takes
    #[command(flatten)]
    pub create: CreateArgs,
    /// detach from the container's process
    #[arg(short, long)]
    pub detach: bool,
    /// do not delete the container after it exits
    #[arg(long)]
    pub keep: bool,
    /// disable the use of the subreaper used to reap reparented processes
    #[arg(long)]
    pub no_subreaper: bool,
}

/// Arguments of `delete`.
#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    /// name of the container
    pub container_id: String,
    /// forcibly delete the container if it is still running (uses SIGKILL)
    #[arg(short, long)]
    pub force: bool,
}

/// Arguments of `kill`.
#[derive(Debug, Clone, Args)]
pub struct KillArgs {
    /// name of the container
    pub container_id: String,
    /// the signal, by number or by name with or without SIG
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
    /// accepted for older callers: a container that is not running is then no error
    #[arg(short, long, hide = true)]
    pub all: bool,
}

/// Arguments of `events`.
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// name of the container
    pub container_id: String,
    /// set the stats collection interval
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub interval: Duration,
    /// display the container's stats then exit
    #[arg(long)]
    pub stats: bool,
}

/// Arguments of `list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// select one of: table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    pub format: ListFormat,
    /// display only container IDs
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `ps`.
#[derive(Debug, Clone, Args)]
pub struct PsArgs {
    /// name of the container
    pub container_id: String,
    /// options of ps(1), -ef if there are none
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    pub ps_args: Vec<String>,
    /// select one of: table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    pub format: ListFormat,
}

/// How `list` and `ps` print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns under a title.
    Table,
    /// One JSON array.
    Json,
}

/// Arguments of `spec`.
#[derive(Debug, Clone, Args)]
pub struct SpecArgs {
    /// path to the root of the bundle directory
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// generate a configuration for a rootless container
    #[arg(long)]
    pub rootless: bool,
}
