//! The kernel's error in the words of strerror(3) with a small first letter, as runc prints it.

use std::fmt;

use nix::errno::Errno;

/// An errno that displays as "no such file or directory" rather than "ENOENT: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub Errno);

impl Reason {
    /// The errno of an I/O error; EIO where it carries none.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Self {
        Self(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

impl From<Errno> for Reason {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl std::error::Error for Reason {}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0 as i32).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut letters = text.chars();
        match letters.next() {
            Some(first) => write!(f, "{}{}", first.to_ascii_lowercase(), letters.as_str()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_runc_prints_it() {
        for (errno, text) in [
            (Errno::ENOENT, "no such file or directory"),
            (Errno::EACCES, "permission denied"),
            (Errno::EPERM, "operation not permitted"),
            (Errno::ENOEXEC, "exec format error"),
            (Errno::EISDIR, "is a directory"),
            (Errno::ENOMEM, "cannot allocate memory"),
        ] {
            assert_eq!(Reason(errno).to_string(), text);
        }
    }
}
