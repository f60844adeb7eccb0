//! What the administrator of this machine says about proofs: a file that root alone can write, and the option `--proof`
//! (engines such as docker pass no annotations). Where neither is there, nothing happens.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::error::RuntimeError;
use super::process::reason::Reason;
use super::store::in_user_namespace;
use crate::cli::Global;
use crate::hook::{OnInconclusive, Policy, Stage, deadline};
use crate::json;

/// The usual file.
pub const FILE: &str = "/etc/rt/config.json";

/// More is no configuration.
const MAX_BYTES: u64 = 64 << 10;

/// Root of the host as a user namespace shows it that does not map it.
const OVERFLOW_UID: u32 = 65534;

/// The configuration of the node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// A proof that every container has to go through, such as `prestart:record`.
    pub proof: Option<NodeProof>,
    /// What `enforce` makes of a refused or inconclusive proof of that kind.
    pub on_inconclusive: OnInconclusive,
    /// Whether annotations may ask for proofs.
    pub allow_annotations: bool,
    /// Whether pod sandboxes, which have no limit of their own, have to go through that proof too.
    pub sandboxes: bool,
    /// The most that a proof at create or start may take, and the usual.
    pub max_seconds: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            proof: None,
            on_inconclusive: OnInconclusive::Fail,
            allow_annotations: true,
            sandboxes: true,
            max_seconds: deadline::USUAL.as_secs(),
        }
    }
}

/// `STAGE:POLICY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeProof {
    pub stage: Stage,
    pub policy: Policy,
}

impl FromStr for NodeProof {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (stage, policy) = text.split_once(':').unwrap_or((text, ""));
        match (stage.parse(), policy.parse()) {
            (Ok(stage), Ok(policy)) => Ok(Self { stage, policy }),
            _ => Err(format!(
                "'{text}' is no STAGE:POLICY such as prestart:record (stages: {}; policies: {})",
                Stage::ALLOWED.join(", "),
                Policy::ALLOWED.join(", ")
            )),
        }
    }
}

impl TryFrom<String> for NodeProof {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A configuration that cannot be obeyed. To go on without it could start what the administrator forbids.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot read the node's configuration {}: {}", path.display(), Reason::of(error))]
    Read { path: PathBuf, error: io::Error },
    #[error("the node's configuration {} is not obeyed: {why}", path.display())]
    Unsafe { path: PathBuf, why: String },
    #[error("the node's configuration {} is not understood: {cause}", path.display())]
    Parse { path: PathBuf, cause: String },
}

impl Node {
    /// Reads what `global` names, or the usual file.
    ///
    /// # Errors
    /// The file is there and cannot be obeyed.
    pub fn read(global: &Global) -> Result<Self, RuntimeError> {
        let mut node = match &global.config {
            Some(path) => Self::load(path)?,
            None => match Self::load(Path::new(FILE)) {
                Err(NodeError::Read { error, .. })
                    if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) =>
                {
                    Self::default()
                }
                loaded => loaded?,
            },
        };
        node.proof = global.proof.or(node.proof);
        Ok(node)
    }

    fn load(path: &Path) -> Result<Self, NodeError> {
        let failed = |error| NodeError::Read { path: path.to_owned(), error };
        // A pipe must not make it wait.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        check_owner(path, &file)?;
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
        let parse = |cause| NodeError::Parse { path: path.to_owned(), cause };
        let node: Self =
            json::from_slice(text.as_bytes(), &NodeRules).map_err(|error| parse(error.to_string()))?;
        if node.max_seconds == 0 {
            return Err(parse("max_seconds is 0: no proof is made in no time".to_owned()));
        }
        Ok(node)
    }
}

/// What is given is meant: null would be neither what was asked for nor what is usual.
struct NodeRules;

impl json::Rules for NodeRules {
    fn zero(&self, at: json::Field) -> Result<(), String> {
        Err(format!("{} is null", at.name))
    }
}

fn check_owner(path: &Path, file: &File) -> Result<(), NodeError> {
    let metadata = file.metadata().map_err(|error| NodeError::Read { path: path.to_owned(), error })?;
    let no = |why| Err(NodeError::Unsafe { path: path.to_owned(), why });
    let owner = metadata.uid();
    if !metadata.is_file() {
        return no("it is no regular file".to_owned());
    }
    if owner != 0 && !(owner == OVERFLOW_UID && in_user_namespace()) {
        return no(format!("it belongs to uid {owner}, not to root"));
    }
    if metadata.mode() & 0o022 != 0 {
        let mode = metadata.mode() & 0o7777;
        return no(format!("others than root can write to it (mode {mode:04o})"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn load(text: &str, mode: u32) -> Result<Node, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        Node::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_administrator_says_is_read() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        assert_eq!(load("{}", 0o644), Ok(Node::default()));
        let text = r#"{"proof":"poststart:enforce","on_inconclusive":"record","allow_annotations":false,"sandboxes":false,"max_seconds":2}"#;
        let proof = NodeProof { stage: Stage::Poststart, policy: Policy::Enforce };
        let expected = Node {
            proof: Some(proof),
            on_inconclusive: OnInconclusive::Record,
            allow_annotations: false,
            sandboxes: false,
            max_seconds: 2,
        };
        assert_eq!(load(text, 0o600), Ok(expected));
    }

    #[test]
    fn a_file_that_cannot_be_obeyed_is_an_error() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        assert!(load("{}", 0o666).unwrap_err().contains("mode 0666"));
        assert!(load("{", 0o644).unwrap_err().contains("not understood"));
        assert!(load(r#"{"prof":"x"}"#, 0o644).unwrap_err().contains("prof"));
        assert!(load("[null,\"record\"]", 0o644).unwrap_err().contains("expected an object, found an array"));
        assert!(load(r#"{"sandboxes":null}"#, 0o644).unwrap_err().contains("sandboxes is null"));
        assert!(load(r#"{"proof":"prestart"}"#, 0o644).unwrap_err().contains("STAGE:POLICY"));
        assert!(load(r#"{"proof":"startContainer:record"}"#, 0o644).unwrap_err().contains("startContainer"));
        assert!(load(r#"{"max_seconds":0}"#, 0o644).unwrap_err().contains("max_seconds"));
        assert!(Node::load(Path::new("/")).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn the_usual_file_need_not_be_there_but_a_named_one_must() {
        let global = |config: Option<&str>| Global { config: config.map(PathBuf::from), ..Global::default() };
        assert!(
            Node::read(&global(Some("/no/such/file"))).unwrap_err().to_string().contains("/no/such/file")
        );
        if !Path::new(FILE).exists() {
            let proof = "prestart:record".parse().ok();
            let node = Node::read(&Global { proof, ..global(None) }).unwrap();
            assert_eq!(node, Node { proof, ..Node::default() });
        }
    }
}
