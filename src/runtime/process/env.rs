//! The environment of a container process: checked, the last of several values wins, HOME is never empty.

use std::collections::HashSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Why a variable was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// No "=".
    #[error("invalid environment variable: missing '='")]
    MissingEquals,
    /// Nothing before the "=".
    #[error("invalid environment variable: name cannot be empty")]
    EmptyName,
    /// exec could not pass it on.
    #[error("invalid environment variable {0:?}: contains nul byte (\\x00)")]
    Nul(String),
}

/// Checked `NAME=value` entries, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    entries: Vec<OsString>,
}

impl Environment {
    /// Prepares the list of a spec. `home` is asked for the home folder of the user only where HOME is missing
    /// or empty.
    pub fn prepare(list: &[String], home: impl FnOnce() -> OsString) -> Result<Self, EnvError> {
        let mut seen = HashSet::with_capacity(list.len());
        let mut entries = Vec::with_capacity(list.len() + 1);
        let mut home_is_set = false;
        // From the end, so that the last value of a name is met first.
        for entry in list.iter().rev() {
            let (name, value) = entry.split_once('=').ok_or(EnvError::MissingEquals)?;
            if name.is_empty() {
                return Err(EnvError::EmptyName);
            }
            if !seen.insert(name) {
                continue;
            }
            if entry.contains('\0') {
                return Err(EnvError::Nul(name.to_owned()));
            }
            if name == "HOME" {
                if value.is_empty() {
                    continue;
                }
                home_is_set = true;
            }
            entries.push(OsString::from(entry));
        }
        entries.reverse();
        if !home_is_set {
            let mut entry = OsString::from("HOME=");
            entry.push(home());
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.entries.iter().find_map(|entry| {
            let value = entry.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(OsStr::from_bytes(value))
        })
    }

    /// Names and values, as hooks take them.
    #[must_use]
    pub fn pairs(&self) -> Vec<(OsString, OsString)> {
        let split = |entry: &OsString| {
            let bytes = entry.as_bytes();
            let at = bytes.iter().position(|byte| *byte == b'=')?;
            Some((OsString::from_vec(bytes[..at].to_vec()), OsString::from_vec(bytes[at + 1..].to_vec())))
        };
        self.entries.iter().filter_map(split).collect()
    }

    /// The entries as exec takes them.
    #[must_use]
    pub fn to_c_strings(&self) -> Vec<CString> {
        self.entries.iter().filter_map(|entry| CString::new(entry.as_bytes()).ok()).collect()
    }
}

/// The variables of socket activation for a process that gets `count` sockets and will be pid 1.
#[must_use]
pub fn listen_variables(count: u32) -> Vec<String> {
    if count == 0 { Vec::new() } else { vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(list: &[&str]) -> Result<Vec<String>, EnvError> {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        let environment = Environment::prepare(&list, || "/root".into())?;
        Ok(environment.entries.iter().map(|entry| entry.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn home_is_set_once_and_never_empty() {
        assert_eq!(prepared(&[]).unwrap(), ["HOME=/root"]);
        assert_eq!(prepared(&["HOME=/over"]).unwrap(), ["HOME=/over"]);
        assert_eq!(prepared(&["HOME=", "PATH=/bin"]).unwrap(), ["PATH=/bin", "HOME=/root"]);
        assert_eq!(prepared(&["HOME=/over", "HOME="]).unwrap(), ["HOME=/root"]);
    }

    #[test]
    fn the_last_value_of_a_name_wins_in_its_place() {
        assert_eq!(
            prepared(&["ONE=two", "HOME=/h", "ONE=three", "A=b=c"]).unwrap(),
            ["HOME=/h", "ONE=three", "A=b=c"]
        );
        assert_eq!(prepared(&["N=\n", "HOME=/h"]).unwrap(), ["N=\n", "HOME=/h"]);
    }

    #[test]
    fn entries_that_exec_cannot_pass_are_refused() {
        assert_eq!(prepared(&["A"]), Err(EnvError::MissingEquals));
        assert_eq!(prepared(&["=A"]), Err(EnvError::EmptyName));
        assert_eq!(prepared(&["A=\0"]), Err(EnvError::Nul("A".to_owned())));
    }

    #[test]
    fn values_and_pairs_split_at_the_first_equals_sign() {
        let list = ["PATH=/a=b".to_owned(), "PATHS=x".to_owned()];
        let environment = Environment::prepare(&list, || "/".into()).unwrap();
        assert_eq!(environment.get("PATH"), Some(OsStr::new("/a=b")));
        assert_eq!(environment.get("PAT"), None);
        assert_eq!(environment.pairs()[1], ("PATHS".into(), "x".into()));
        assert_eq!(environment.to_c_strings().len(), 3);
    }
}
