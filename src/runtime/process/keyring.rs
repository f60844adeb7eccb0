//! A session keyring of its own for each container, named `_ses.<id>`, so that keys of the caller are not seen
//! inside. Kernels without keyrings are tolerated with a warning.

use std::ffi::CString;

use nix::errno::Errno;

use super::reason::Reason;
use crate::sys::process as sys;

/// Why the keyring could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Joining failed.
    #[error("unable to join session keyring: unable to create session key: {0}")]
    Join(Reason),
    /// Its permissions could not be read or set.
    #[error("unable to mod keyring permissions: {0}")]
    Permissions(Reason),
}

/// For the init process: joins the keyring and makes it searchable: by everyone in a user namespace, where the
/// uid differs, else by the user.
pub fn join_as_init(id: &str, user_namespace: bool) -> Result<(), KeyringError> {
    const OTHER_SEARCH: u32 = 0x8;
    const USER_SEARCH: u32 = 0x8_0000;
    let Some(serial) = join(id)? else { return Ok(()) };
    let more = if user_namespace { OTHER_SEARCH } else { USER_SEARCH };
    let description = sys::describe_key(serial).map_err(|errno| KeyringError::Permissions(errno.into()))?;
    let permissions = permissions(&description).ok_or(KeyringError::Permissions(Reason(Errno::EINVAL)))?;
    sys::set_key_permissions(serial, permissions | more)
        .map_err(|errno| KeyringError::Permissions(errno.into()))
}

/// For an exec process: joins the keyring that init made.
pub fn join_as_exec(id: &str) -> Result<(), KeyringError> {
    join(id).map(drop)
}

fn join(id: &str) -> Result<Option<i32>, KeyringError> {
    let name = CString::new(format!("_ses.{id}")).map_err(|_| KeyringError::Join(Reason(Errno::EINVAL)))?;
    match sys::join_session_keyring(&name) {
        Ok(0) => Ok(Some(sys::SESSION_KEYRING)),
        Ok(serial) => Ok(Some(serial)),
        Err(Errno::ENOSYS) => {
            tracing::warn!(
                "KeyctlJoinSessionKeyring: unable to create session key: {}",
                Reason(Errno::ENOSYS)
            );
            Ok(None)
        }
        Err(errno) => Err(KeyringError::Join(errno.into())),
    }
}

/// The fourth field of `type;uid;gid;permissions;description`, in hexadecimal.
fn permissions(description: &[u8]) -> Option<u32> {
    let field = description.split(|byte| *byte == b';').nth(3)?;
    u32::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_the_fourth_field() {
        assert_eq!(permissions(b"keyring;0;0;3f130000;_ses.x\0"), Some(0x3f13_0000));
        assert_eq!(permissions(b"keyring;0"), None);
    }
}
