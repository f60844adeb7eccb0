//! The NUMA memory policy of a container process. Own code: libcontainer's has other words and is private.

use oci_spec::runtime::LinuxMemoryPolicy;

use super::id_list::{IdListError, IdSet};
use super::reason::Reason;
use crate::sys::process as sys;

/// The modes of set_mempolicy(2), by number.
pub const MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// The mode flags of set_mempolicy(2).
pub const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// Why a memory policy was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryPolicyError {
    /// No such mode.
    #[error("invalid memory policy mode {0:?}")]
    Mode(String),
    /// No such flag.
    #[error("invalid memory policy flag {0:?}")]
    Flag(String),
    /// Not a list of nodes.
    #[error("invalid memory policy nodes {nodes:?}: {reason}")]
    Nodes {
        /// What the spec says.
        nodes: String,
        /// What is wrong with it.
        reason: IdListError,
    },
    /// MPOL_DEFAULT and MPOL_LOCAL take no nodes.
    #[error("memory policy mode requires 0 nodes but got {0}")]
    NoNodesAllowed(u32),
    /// The mode is about nodes and got none.
    #[error("memory policy mode requires at least one node but got 0")]
    NodesNeeded,
    /// set_mempolicy(2) failed.
    #[error("set_mempolicy: {0}")]
    Set(Reason),
}

/// A checked policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPolicy {
    mode: u32,
    nodes: Option<IdSet>,
}

impl MemoryPolicy {
    /// The policy of a parsed spec.
    pub fn from_spec(spec: &LinuxMemoryPolicy) -> Result<Self, MemoryPolicyError> {
        let flags: Vec<String> = spec.flags().iter().flatten().map(ToString::to_string).collect();
        let nodes = spec.nodes().as_deref().unwrap_or_default();
        Self::parse(&spec.mode().to_string(), nodes, flags.iter().map(String::as_str))
    }

    /// The policy of the spec's words, checked in runc's order.
    pub fn parse<'a>(
        mode: &str,
        nodes: &str,
        flags: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, MemoryPolicyError> {
        let number = (0_u32..)
            .zip(MODES)
            .find_map(|(number, name)| (name == mode).then_some(number))
            .ok_or_else(|| MemoryPolicyError::Mode(mode.to_owned()))?;
        let nodes = IdSet::parse(nodes)
            .map_err(|reason| MemoryPolicyError::Nodes { nodes: nodes.to_owned(), reason })?;
        let mut bits = 0;
        for flag in flags {
            let known = FLAGS.iter().find(|(name, _)| *name == flag);
            bits |= known.ok_or_else(|| MemoryPolicyError::Flag(flag.to_owned()))?.1;
        }
        match (mode, nodes) {
            ("MPOL_DEFAULT" | "MPOL_LOCAL", Some(nodes)) => {
                Err(MemoryPolicyError::NoNodesAllowed(nodes.count()))
            }
            ("MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED", _) | (_, Some(_)) => {
                Ok(Self { mode: number | bits, nodes })
            }
            (_, None) => Err(MemoryPolicyError::NodesNeeded),
        }
    }

    /// Sets the policy of the calling process.
    pub fn apply(&self) -> Result<(), MemoryPolicyError> {
        sys::set_mempolicy(self.mode, self.nodes.as_ref().map(IdSet::words))
            .map_err(|errno| MemoryPolicyError::Set(errno.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_as_runc_does() {
        for (mode, nodes, flags, error) in [
            ("", "", vec![], "invalid memory policy mode \"\""),
            ("INTERLEAVE", "0", vec![], "invalid memory policy mode \"INTERLEAVE\""),
            ("MPOL_PREFERRED", "0", vec!["badflag"], "invalid memory policy flag \"badflag\""),
            ("MPOL_DEFAULT", "0-7", vec![], "memory policy mode requires 0 nodes but got 8"),
            ("MPOL_BIND", "", vec![], "memory policy mode requires at least one node but got 0"),
            (
                "MPOL_BIND",
                "0-9876543210",
                vec![],
                "invalid memory policy nodes \"0-9876543210\": parsing \"9876543210\": value out of range",
            ),
        ] {
            assert_eq!(MemoryPolicy::parse(mode, nodes, flags).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn mode_and_flags_are_one_number() {
        let policy = MemoryPolicy::parse("MPOL_BIND", "0", ["MPOL_F_STATIC_NODES"]).unwrap();
        assert_eq!(policy.mode, 2 | 1 << 15);
        assert!(MemoryPolicy::parse("MPOL_DEFAULT", "", []).unwrap().nodes.is_none());
    }
}
