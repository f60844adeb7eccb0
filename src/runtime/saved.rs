//! What create saves beside the record for later commands: the config, and the compiled seccomp filter. Both protect, so the
//! record has their sums: what is missing, cut or exchanged is refused.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::bundle;
use super::error::{Result, RuntimeError};
use super::seccomp::Filter;

/// The compiled seccomp filter, for exec.
pub const SECCOMP: &str = "seccomp";

/// What was saved, as the record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    config: Sum,
    /// None where the config has no profile.
    #[serde(default)]
    seccomp: Option<Sum>,
}

/// Tells a file from one that was damaged, or is another container's. Who can write into the folder could write the record too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    bytes: usize,
    crc32: u32,
}

impl Sum {
    fn of(content: &[u8]) -> Self {
        Self { bytes: content.len(), crc32: crc32fast::hash(content) }
    }
}

impl Saved {
    /// Writes both into the state folder `dir`. The profile is not in `spec` any more: the filter stands for it.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(dir: &Path, spec: &Spec, filter: Option<&Filter>) -> Result<Self> {
        let text = serde_json::to_vec(spec).map_err(|error| RuntimeError::Other(error.to_string()))?;
        let filter = filter.map(Filter::to_bytes);
        let put = |name: &str, content: &[u8]| -> Result<Sum> {
            let path = dir.join(name);
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(content)).map_err(RuntimeError::file("write", path))?;
            Ok(Sum::of(content))
        };
        let config = put(bundle::CONFIG, &text)?;
        let seccomp = filter.map(|filter| put(SECCOMP, &filter)).transpose()?;
        Ok(Self { config, seccomp })
    }
}

/// The saved config. `saved` is what the record says of it; an older rt did not say anything.
///
/// # Errors
/// It cannot be read, or is not what was saved.
pub(super) fn config(dir: &Path, saved: Option<Saved>) -> Result<Spec> {
    let path = dir.join(bundle::CONFIG);
    let text = read(&path, saved.map(|saved| saved.config))?;
    serde_json::from_slice(&text).map_err(|error| RuntimeError::Parse { path, cause: error.to_string() })
}

/// The saved filter; None where the container has none.
///
/// # Errors
/// As for [`config`].
pub(super) fn filter(dir: &Path, saved: Option<Saved>) -> Result<Option<Filter>> {
    let path = dir.join(SECCOMP);
    let bytes = match saved {
        Some(Saved { seccomp: None, .. }) => return Ok(None),
        Some(Saved { seccomp, .. }) => read(&path, seccomp)?,
        None => match read(&path, None) {
            Err(RuntimeError::File { error, .. }) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        },
    };
    Filter::from_bytes(&bytes).map(Some).map_err(RuntimeError::start)
}

fn read(path: &Path, sum: Option<Sum>) -> Result<Vec<u8>> {
    let content = std::fs::read(path).map_err(RuntimeError::file("read", path))?;
    match sum {
        Some(sum) if sum != Sum::of(&content) => Err(RuntimeError::Altered(path.to_owned())),
        _ => Ok(content),
    }
}

/// Whether a saved file is lost for good, so that another try finds it no better.
pub(super) fn is_lost(error: &RuntimeError) -> bool {
    let missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    match error {
        RuntimeError::Altered(_) | RuntimeError::Parse { .. } => true,
        RuntimeError::File { error, .. } => missing(error),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn spec() -> Spec {
        serde_json::from_str(r#"{"ociVersion":"1.2.0","hostname":"box"}"#).unwrap()
    }

    #[test]
    fn a_saved_config_is_read_and_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::write(dir.path(), &spec(), None).unwrap();
        let path = dir.path().join(bundle::CONFIG);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(config(dir.path(), Some(saved)).unwrap(), spec());
        fs::write(&path, r#"{"ociVersion":"1.2.0","hostname":"bax"}"#).unwrap();
        let error = config(dir.path(), Some(saved)).unwrap_err();
        assert!(
            is_lost(&error) && error.to_string().ends_with("config.json is not what create saved"),
            "{error}"
        );
        assert!(config(dir.path(), None).is_ok(), "an older rt did not note what it saved");
        fs::remove_file(&path).unwrap();
        assert!(is_lost(&config(dir.path(), Some(saved)).unwrap_err()));
    }

    #[test]
    fn a_filter_that_belongs_there_may_not_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let without = Saved::write(dir.path(), &spec(), None).unwrap();
        assert!(filter(dir.path(), Some(without)).unwrap().is_none());
        assert!(filter(dir.path(), None).unwrap().is_none());
        let with = Saved { seccomp: Some(Sum::of(b"filter")), ..without };
        assert!(is_lost(&filter(dir.path(), Some(with)).unwrap_err()));
        fs::write(dir.path().join(SECCOMP), "filtar").unwrap();
        assert!(matches!(filter(dir.path(), Some(with)), Err(RuntimeError::Altered(_))));
    }
}
