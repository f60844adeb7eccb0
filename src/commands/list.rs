//! `list`: the containers of a state root, as runc lists them.

use std::path::PathBuf;

use super::container_state::{ContainerState, Owners, json_array, table};
use crate::cli::{Global, ListArgs, ListFormat};
use crate::exit::ExitStatus;
use crate::runtime::{Status, Store, Summary};

/// Prints a table, a JSON array, or the names alone.
#[inline(never)]
pub fn run(global: &Global, args: &ListArgs) -> anyhow::Result<ExitStatus> {
    let containers = Store::open(global)?.list()?;
    let text = if args.quiet {
        containers.iter().map(|container| format!("{}\n", container.id)).collect()
    } else {
        let mut owners = Owners::default();
        let states: Vec<_> = containers.into_iter().map(|container| state(container, &mut owners)).collect();
        match args.format {
            ListFormat::Table => table(&states),
            ListFormat::Json => json_array(&states)?,
        }
    };
    super::print(&text)?;
    Ok(ExitStatus::SUCCESS)
}

fn state(container: Summary, owners: &mut Owners) -> ContainerState {
    let status = container.status_word();
    ContainerState {
        oci_version: container.oci_version,
        id: container.id,
        pid: if container.status == Some(Status::Stopped) { 0 } else { container.init_pid },
        status,
        bundle: shown(container.bundle),
        rootfs: shown(container.rootfs),
        created: container.created,
        annotations: container.annotations,
        owner: owners.name(container.owner),
    }
}

fn shown(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap_or_else(|path| path.to_string_lossy().into_owned())
}
