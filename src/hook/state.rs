//! The state of a container as a hook gets it on its standard input.

use std::path::PathBuf;

use serde::Deserialize;

use crate::json::{self, JsonError};

/// What is believed of it. Not its status: runc says `created` in poststart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct State {
    pub id: String,
    /// The host's pid of the container's init.
    pub pid: i32,
    pub bundle: PathBuf,
}

/// Input that is no state of a container with a process.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("standard input is no state of a container (a hook gets it from the runtime)")]
    NoState(#[from] JsonError),
    #[error("the state on standard input names no process: pid {0}")]
    NoPid(i32),
    #[error("the state on standard input names no absolute bundle: '{}'", .0.display())]
    NoBundle(PathBuf),
}

impl State {
    /// Reads the JSON.
    ///
    /// # Errors
    /// It is something else, or lacks what a proof needs.
    pub fn parse(text: &[u8]) -> Result<Self, StateError> {
        let state: Self = json::from_slice(text, &json::Plain)?;
        if state.pid <= 0 {
            return Err(StateError::NoPid(state.pid));
        }
        if !state.bundle.is_absolute() {
            return Err(StateError::NoBundle(state.bundle));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_and_bundle_are_needed_and_the_rest_is_ignored() {
        let text =
            br#"{"ociVersion":"1.0.2","id":"c","status":"stopped","pid":7,"bundle":"/b","annotations":{}}"#;
        let state = State::parse(text).unwrap();
        assert_eq!((state.id.as_str(), state.pid, state.bundle), ("c", 7, PathBuf::from("/b")));
        let bad = |text: &str| State::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(bad("").contains("no state"));
        assert!(bad(r#"["c",7,"/b"]"#).contains("no state"));
        assert!(bad(r#"{"id":"c","bundle":"/b"}"#).contains("no state"));
        assert!(bad(r#"{"id":"c","pid":0,"bundle":"/b"}"#).contains("pid 0"));
        assert!(bad(r#"{"id":"c","pid":-1,"bundle":"/b"}"#).contains("pid -1"));
        assert!(bad(r#"{"id":"c","pid":7,"bundle":"b"}"#).contains("'b'"));
    }
}
