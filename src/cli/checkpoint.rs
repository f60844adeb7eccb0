//! Arguments of `checkpoint` and `restore`.

use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::Args;

/// What `checkpoint` and `restore` both hand to criu.
#[derive(Debug, Clone, Default, Args)]
pub struct CriuArgs {
    /// path for criu image files (default: "checkpoint")
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// path for saving work files and logs
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// allow open tcp connections
    #[arg(long)]
    pub tcp_established: bool,
    /// allow external unix sockets
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// allow shell jobs
    #[arg(long)]
    pub shell_job: bool,
    /// use userfaultfd to lazily restore memory pages
    #[arg(long)]
    pub lazy_pages: bool,
    /// handle file locks, for safety
    #[arg(long)]
    pub file_locks: bool,
    /// cgroups mode: soft|full|strict|ignore (default: soft)
    #[arg(long, value_name = "MODE")]
    pub manage_cgroups_mode: Option<String>,
    /// create a namespace, but don't restore its properties
    #[arg(long, value_name = "NAMESPACE")]
    pub empty_ns: Vec<String>,
    /// enable auto deduplication of memory images
    #[arg(long)]
    pub auto_dedup: bool,
}

/// Arguments of `checkpoint`.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckpointArgs {
    /// name of the container
    pub container_id: String,
    /// what criu is told
    #[command(flatten)]
    pub criu: CriuArgs,
    /// path for previous criu image files in pre-dump
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// leave the process running after checkpointing
    #[arg(long)]
    pub leave_running: bool,
    /// skip in-flight tcp connections
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// allow one to link unlinked files back when possible
    #[arg(long)]
    pub link_remap: bool,
    /// criu writes \0 to this FD once lazy-pages is ready
    #[arg(long, value_name = "FD", allow_negative_numbers = true, default_value_t = -1)]
    pub status_fd: RawFd,
    /// ADDRESS:PORT of the page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// dump container's memory information only, leave the container running after this
    #[arg(long)]
    pub pre_dump: bool,
}

/// Arguments of `restore`.
#[derive(Debug, Clone, Default, Args)]
pub struct RestoreArgs {
    /// name of the container to be restored
    pub container_id: String,
    /// what criu is told
    #[command(flatten)]
    pub criu: CriuArgs,
    /// path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the
    /// console's pseudoterminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// path to the root of the bundle directory
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// detach from the container's process
    #[arg(short, long)]
    pub detach: bool,
    /// specify the file to write the process id to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// disable the use of the subreaper used to reap reparented processes
    #[arg(long)]
    pub no_subreaper: bool,
    /// do not use pivot root to jail process inside rootfs; this should be used whenever the rootfs is on
    /// top of a ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// specify an LSM profile to be used during restore in the form of TYPE:NAME
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// specify an LSM mount context to be used during restore
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
}
