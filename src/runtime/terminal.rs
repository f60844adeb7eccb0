//! The caller's terminal during a foreground `run` or `exec`: raw while the container's process uses it, and as it was
//! afterwards, whatever happens.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::error::{Result, RuntimeError};
use crate::sys::terminal::{set_window_size, window_size};

/// A terminal that is put back into its mode when dropped.
#[derive(Debug)]
pub struct HostTerminal {
    tty: OwnedFd,
    before: Termios,
}

impl HostTerminal {
    /// Finds the terminal among the standard streams, or the controlling one.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self> {
        let tty =
            standard_stream().map_or_else(controlling, Ok).map_err(RuntimeError::file("open", "/dev/tty"))?;
        let before = tcgetattr(&tty).map_err(RuntimeError::call("tcgetattr"))?;
        Ok(Self { tty, before })
    }

    /// Passes every key on unchanged. Output is still processed, as the container's side does not (ONLCR).
    ///
    /// # Errors
    /// The mode cannot be set.
    pub fn make_raw(&self) -> Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        raw.output_flags |= OutputFlags::OPOST;
        tcsetattr(&self.tty, SetArg::TCSANOW, &raw).map_err(RuntimeError::call("tcsetattr"))
    }

    /// Gives `master` the size of this terminal.
    pub fn pass_size(&self, master: impl AsFd) {
        match window_size(&self.tty) {
            // A terminal without a size, as of some CI machines, says nothing.
            Ok(size) if size.columns > 0 && size.rows > 0 => {
                if let Err(error) = set_window_size(master, size) {
                    tracing::debug!("cannot resize the container's terminal: {error}");
                }
            }
            _ => {}
        }
    }
}

impl Drop for HostTerminal {
    fn drop(&mut self) {
        match tcsetattr(&self.tty, SetArg::TCSANOW, &self.before) {
            // EIO: it was hung up.
            Ok(()) | Err(Errno::EIO) => {}
            Err(errno) => tracing::warn!("cannot set the terminal back, 'stty sane' does: {errno}"),
        }
    }
}

/// Newlines are translated by the caller's terminal, not twice.
pub fn clear_newline_translation(master: impl AsFd) -> nix::Result<()> {
    let mut mode = tcgetattr(&master)?;
    mode.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(&master, SetArg::TCSANOW, &mode)
}

fn standard_stream() -> Option<OwnedFd> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let own = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().ok();
    if stderr.is_terminal() {
        own(stderr.as_fd())
    } else if stdout.is_terminal() {
        own(stdout.as_fd())
    } else if stdin.is_terminal() {
        own(stdin.as_fd())
    } else {
        None
    }
}

fn controlling() -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    options.open("/dev/tty").map(|file: File| file.into())
}
