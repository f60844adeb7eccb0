//! The finding that matters most: is the limit somebody asked for the one the kernel has?

use super::request::Asked;
use crate::units::Mib;

/// A limit that was asked for and is not in the kernel, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotApplied {
    pub asked_bytes: u64,
    /// What binds instead; `None` for nothing.
    pub kernel_bytes: Option<u64>,
}

impl NotApplied {
    /// The finding as a sentence.
    pub fn sentence(&self) -> String {
        let asked = Mib(self.asked_bytes);
        match self.kernel_bytes {
            None => format!("a limit of {asked} was asked for, and the kernel has none"),
            Some(kernel) => format!("a limit of {asked} was asked for, and the kernel has {}", Mib(kernel)),
        }
    }
}

/// Compares the asked limit with the tightest one that the kernel has at the container's own cgroup (`effective`). The kernel rounds down to whole
/// pages; a tighter limit than asked for is no finding here.
pub fn compare(asked: Asked, effective: Option<u64>, page_size: u64) -> Result<(), NotApplied> {
    let Asked::Limited(asked_bytes) = asked else { return Ok(()) };
    let rounded_up = asked_bytes.div_ceil(page_size).saturating_mul(page_size);
    match effective {
        Some(kernel) if kernel <= rounded_up => Ok(()),
        kernel_bytes => Err(NotApplied { asked_bytes, kernel_bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_larger_limits_are_found() {
        let asked = Asked::Limited(64 << 20);
        assert_eq!(compare(asked, Some(64 << 20), 4096), Ok(()));
        assert_eq!(compare(asked, Some(32 << 20), 4096), Ok(()));
        assert_eq!(compare(asked, None, 4096), Err(NotApplied { asked_bytes: 64 << 20, kernel_bytes: None }));
        assert!(compare(asked, Some(128 << 20), 4096).is_err());
        assert_eq!(
            compare(Asked::Limited(5000), Some(4096), 4096),
            Ok(()),
            "the kernel rounds down to pages"
        );
        assert_eq!(compare(Asked::Unknown, None, 4096), Ok(()));
        assert_eq!(compare(Asked::Unlimited, Some(1), 4096), Ok(()));
    }
}
