//! `list`: the containers of a state root, as runc lists them.

use super::container_state::{ContainerState, Owners, json_array, table};
use crate::cli::{Global, ListArgs, ListFormat};
use crate::exit::ExitStatus;
use crate::runtime::{Container, Status, Store};

/// Prints a table, a JSON array, or the names alone.
#[inline(never)]
pub fn run(global: &Global, args: &ListArgs) -> anyhow::Result<ExitStatus> {
    let containers = Store::open(global)?.list()?;
    let text = if args.quiet {
        containers.iter().map(|container| format!("{}\n", container.id())).collect()
    } else {
        let mut owners = Owners::default();
        let states: Vec<_> = containers.iter().map(|container| state(container, &mut owners)).collect();
        match args.format {
            ListFormat::Table => table(&states),
            ListFormat::Json => json_array(&states)?,
        }
    };
    super::print(&text)?;
    Ok(ExitStatus::SUCCESS)
}

fn state(container: &Container, owners: &mut Owners) -> ContainerState {
    let status = container.status();
    ContainerState {
        oci_version: container.oci_version().to_owned(),
        id: container.id().to_owned(),
        pid: if status == Status::Stopped { 0 } else { container.init_pid() },
        status: status.to_string(),
        bundle: container.bundle().display().to_string(),
        rootfs: container.rootfs().display().to_string(),
        created: container.created().to_owned(),
        annotations: container.annotations().clone().into_iter().collect(),
        owner: owners.name(container.owner()),
    }
}
