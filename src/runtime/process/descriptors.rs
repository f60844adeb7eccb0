//! Which open files a container process gets: the standard streams, those of socket activation ($LISTEN_FDS)
//! and those of `--preserve-fds`; never one of rt's own.

use nix::errno::Errno;

use super::reason::Reason;
use crate::sys::process as sys;

const FIRST_EXTRA: u32 = 3;

/// Why the descriptors could not be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// `--preserve-fds` counts a descriptor that is not open.
    #[error("unable to stat preserved-fd {index} (of {count}): {reason}")]
    NotOpen {
        /// Counted from the first preserved one.
        index: u32,
        /// What --preserve-fds says.
        count: u32,
        /// The kernel's answer.
        reason: Reason,
    },
    /// The others could not be closed.
    #[error("error closing exec fds: {0}")]
    Close(Reason),
}

/// The descriptors a process gets beyond its standard streams: 3, 4, … without a gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// From socket activation.
    pub listen: u32,
    /// From `--preserve-fds`.
    pub preserve: u32,
}

impl Passed {
    /// Counts and checks what the caller passed, and lets it survive exec. Call it before rt opens any file of
    /// its own, which could take the number of one that is missing.
    pub fn from_caller(preserve: u32) -> Result<Self, DescriptorError> {
        let passed = Self { listen: listen_fds(), preserve };
        for number in FIRST_EXTRA..passed.first_own() {
            let index = number.saturating_sub(FIRST_EXTRA + passed.listen);
            let known = i32::try_from(number).map_err(|_| Errno::EBADF);
            known.and_then(|number| sys::set_cloexec(number, false)).map_err(|errno| {
                // A missing descriptor has no entry in /proc/self/fd, where runc looks for it.
                let reason = if errno == Errno::EBADF { Errno::ENOENT } else { errno };
                DescriptorError::NotOpen { index, count: preserve, reason: reason.into() }
            })?;
        }
        Ok(passed)
    }

    /// The first number that is not passed.
    #[must_use]
    pub fn first_own(self) -> u32 {
        FIRST_EXTRA.saturating_add(self.listen).saturating_add(self.preserve)
    }

    /// The same and the next number, for one descriptor that closes with the exec itself.
    #[must_use]
    pub fn with_one_more(self) -> Self {
        Self { preserve: self.preserve.saturating_add(1), ..self }
    }

    /// Closes what the caller leaked: everything else that was inherited. rt's own descriptors are close-on-exec, and
    /// so cannot have been.
    pub fn close_leaked(self) -> Result<(), DescriptorError> {
        for number in open_from(self.first_own()).map_err(|errno| DescriptorError::Close(errno.into()))? {
            if sys::is_inheritable(number) {
                let _ = sys::close_number(number);
            }
        }
        Ok(())
    }

    /// Closes everything else at once, as the last step before exec: a program path like /proc/self/fd/N must
    /// not find a file of the host (CVE-2024-21626).
    pub fn close_others(self) -> Result<(), DescriptorError> {
        close(self.first_own()).map_err(|errno| DescriptorError::Close(errno.into()))
    }
}

fn close(first: u32) -> Result<(), Errno> {
    if sys::close_range_from(first).is_ok() {
        return Ok(());
    }
    // A kernel before 5.9, or a seccomp filter that is already loaded, which may answer anything.
    for number in open_from(first)? {
        // EBADF: the descriptor that listed the folder is gone by now.
        let _ = sys::close_number(number);
    }
    Ok(())
}

/// The numbers of open descriptors from `first` on, and that of the folder read for it.
fn open_from(first: u32) -> Result<Vec<i32>, Errno> {
    let folder = std::fs::read_dir("/proc/self/fd").map_err(|error| Reason::of(&error).0)?;
    Ok(folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| u32::try_from(*number).is_ok_and(|number| number >= first))
        .collect())
}

/// The number of descriptors that socket activation passed to this very process (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    listen_fds_of(std::process::id(), number("LISTEN_PID"), number("LISTEN_FDS"))
}

/// The variables are inherited by every descendant of the process they are meant for.
fn listen_fds_of(own: u32, pid: Option<u32>, count: Option<u32>) -> u32 {
    if pid == Some(own) { count.unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_another_process_do_not_count() {
        assert_eq!(listen_fds_of(7, Some(7), Some(2)), 2);
        assert_eq!(listen_fds_of(7, Some(8), Some(2)), 0);
        assert_eq!(listen_fds_of(7, Some(7), None), 0);
        assert_eq!(listen_fds_of(7, None, Some(2)), 0);
        assert_eq!(Passed { listen: 2, preserve: 3 }.first_own(), 8);
    }
}
