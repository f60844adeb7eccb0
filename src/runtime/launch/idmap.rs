//! Id maps and clock offsets of a process in new namespaces, written by its parent.

use std::fs;
use std::io;
use std::process::Command;

use nix::unistd::{Pid, getegid, geteuid};
use oci_spec::runtime::{LinuxIdMapping, Spec};

use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::store::in_user_namespace;

/// Writes the id maps of `spec` for `pid`, which has made a user namespace.
///
/// # Errors
/// The kernel refuses a map, or newuidmap(1) and newgidmap(1), which take the place of privileges, do.
pub fn write_id_maps(spec: &Spec, pid: Pid) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    let gids = linux.gid_mappings().as_deref().unwrap_or_default();
    let privileged = geteuid().is_root() && !in_user_namespace();
    let only_self =
        |maps: &[LinuxIdMapping], own: u32| matches!(maps, [map] if map.host_id() == own && map.size() == 1);
    if !privileged && only_self(gids, getegid().as_raw()) {
        // Without privileges a group map needs this (user_namespaces(7)).
        write(pid, "setgroups", "deny").or_else(ignore_missing)?;
    }
    if !uids.is_empty() {
        map(pid, "uid_map", "newuidmap", uids, privileged || only_self(uids, geteuid().as_raw()))?;
    }
    if !gids.is_empty() {
        map(pid, "gid_map", "newgidmap", gids, privileged || only_self(gids, getegid().as_raw()))?;
    }
    Ok(())
}

fn ignore_missing(error: RuntimeError) -> Result<()> {
    match error {
        RuntimeError::File { error, .. } if error.kind() == io::ErrorKind::NotFound => Ok(()),
        error => Err(error),
    }
}

fn map(pid: Pid, file: &str, tool: &str, maps: &[LinuxIdMapping], directly: bool) -> Result<()> {
    let text = lines(maps);
    match write(pid, file, &text) {
        Err(RuntimeError::File { error, .. })
            if !directly && error.kind() == io::ErrorKind::PermissionDenied => {}
        written => return written,
    }
    let mut command = Command::new(tool);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.container_id(), map.host_id(), map.size()].map(|id| id.to_string()));
    }
    let output = command.output().map_err(|error| {
        RuntimeError::Start(format!(
            "cannot write {file}, and cannot run {tool}: {error} (install the package uidmap, or map the own id only)"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RuntimeError::Start(format!("{tool} failed ({}): {said}", output.status)))
}

/// The kernel's form: "inside outside length" a line.
fn lines(maps: &[LinuxIdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())).collect()
}

/// Writes the clock offsets of `spec` for `pid`, which has made a time namespace for its children.
///
/// # Errors
/// The kernel refuses them.
pub fn write_time_offsets(spec: &Spec, pid: Pid) -> Result<()> {
    let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    let text: String = offsets
        .into_iter()
        .flatten()
        .map(|(clock, offset)| {
            format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0))
        })
        .collect();
    if text.is_empty() {
        return Ok(());
    }
    write(pid, "timens_offsets", &text)
}

fn write(pid: Pid, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, text).map_err(RuntimeError::file("write", path))
}

/// The maps of the own user namespace as the kernel shows them, in the form of the spec.
pub fn read_id_map(file: &str) -> io::Result<Vec<[u32; 3]>> {
    let text = fs::read_to_string(format!("/proc/self/{file}"))?;
    let numbers = |line: &str| -> Option<[u32; 3]> {
        let mut fields = line.split_whitespace().map(|field| field.parse().ok());
        Some([fields.next()??, fields.next()??, fields.next()??])
    };
    Ok(text.lines().filter_map(numbers).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines_of_three_numbers() {
        let maps: Vec<LinuxIdMapping> = serde_json::from_str(
            r#"[{"containerID":0,"hostID":1000,"size":1},{"containerID":1,"hostID":100000,"size":65536}]"#,
        )
        .unwrap();
        assert_eq!(lines(&maps), "0 1000 1\n1 100000 65536\n");
        assert!(!read_id_map("uid_map").unwrap().is_empty());
    }
}
