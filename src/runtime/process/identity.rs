//! The last steps a process takes from rt's rights to the container user's, in runc's order: working directory,
//! bounding set, user, working directory again, proof of where it is, capabilities.

use std::path::Path;

use nix::sys::prctl;
use oci_spec::runtime::User;

use super::capabilities::{CapabilityError, CapabilitySets};
use super::cwd::{CwdError, Entering};
use super::reason::Reason;
use super::user::{self, UserError};

/// Why the process could not become the container's user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The working directory.
    #[error(transparent)]
    Cwd(#[from] CwdError),
    /// Capabilities.
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
    /// The user.
    #[error("unable to setup user: {0}")]
    User(#[from] UserError),
    /// PR_SET_KEEPCAPS.
    #[error("unable to set keep caps: {0}")]
    KeepCapabilities(Reason),
}

/// Who the process is to be.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// uid, gid and groups.
    pub user: &'a User,
    /// None: the spec says nothing, and nothing is changed but by the kernel.
    pub capabilities: Option<&'a CapabilitySets>,
    /// Empty: stay where it is.
    pub cwd: &'a Path,
    /// rt was started by an ordinary user.
    pub rootless: bool,
}

impl Identity<'_> {
    /// Takes the identity. The parent death signal is lost on the way, and must be set again.
    pub fn assume(&self) -> Result<(), IdentityError> {
        let entering = Entering::as_runtime(self.cwd)?;
        if let Some(sets) = self.capabilities {
            sets.apply_bounding()?;
        }
        // The kernel drops capabilities only on the way from uid 0 to another.
        let keep = self.user.uid() != 0;
        let keep_capabilities =
            |on| prctl::set_keepcaps(on).map_err(|errno| IdentityError::KeepCapabilities(errno.into()));
        if keep {
            keep_capabilities(true)?;
        }
        user::apply(self.user, self.rootless)?;
        entering.as_user()?;
        if keep {
            keep_capabilities(false)?;
        }
        if let Some(sets) = self.capabilities {
            sets.apply()?;
        }
        Ok(())
    }
}
