//! The I/O priority of a container process.

use oci_spec::runtime::{IOPriorityClass, LinuxIOPriority};

use super::reason::Reason;
use crate::sys::process as sys;

/// Why an I/O priority was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IoPriorityError {
    /// Out of 0..=7.
    #[error("invalid ioPriority.Priority: {0}")]
    Priority(i64),
    /// ioprio_set(2) failed.
    #[error("failed to set io priority: {0}")]
    Set(Reason),
}

/// Checks the priority and returns the kernel's value for it (`class << 13 | priority`).
pub fn validate(io: &LinuxIOPriority) -> Result<u32, IoPriorityError> {
    let class = match io.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(io.priority()) {
        Ok(priority @ 0..=7) => Ok(class << 13 | priority),
        _ => Err(IoPriorityError::Priority(io.priority())),
    }
}

/// Sets the I/O priority of the calling process.
pub fn apply(io: &LinuxIOPriority) -> Result<(), IoPriorityError> {
    sys::ioprio_set(validate(io)?).map_err(|errno| IoPriorityError::Set(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_and_priority_share_a_word() {
        let io = |json: &str| validate(&serde_json::from_str(json).unwrap());
        assert_eq!(io(r#"{"class":"IOPRIO_CLASS_BE","priority":4}"#), Ok(2 << 13 | 4));
        assert_eq!(io(r#"{"class":"IOPRIO_CLASS_IDLE"}"#), Ok(3 << 13));
        assert_eq!(
            io(r#"{"class":"IOPRIO_CLASS_RT","priority":8}"#).unwrap_err().to_string(),
            "invalid ioPriority.Priority: 8"
        );
    }
}
