//! The state of a container as the OCI runtime spec has it: what hooks and seccomp agents are given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::unistd::Pid;
use serde::Serialize;

use super::status::Status;

/// The `state` of the OCI runtime spec.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState {
    pub oci_version: String,
    pub id: String,
    pub status: String,
    /// Left out where the container has no process.
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    pub bundle: PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl OciState {
    /// As JSON, at another point of the container's life.
    #[must_use]
    pub fn at(&self, status: Status, pid: i32) -> Vec<u8> {
        let state = Self { status: status.to_string(), pid, ..self.clone() };
        serde_json::to_vec(&state).unwrap_or_default()
    }

    /// As JSON, for a container that is being made, with this init.
    #[must_use]
    pub fn with_pid(&self, init: Pid) -> Vec<u8> {
        self.at(Status::Creating, init.as_raw())
    }
}
