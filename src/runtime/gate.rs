//! Between `create` and `start`: two pipes with names in the container's folder. Init waits for a byte in one, and
//! says in the other why it could not start; that it started shows in the other's end.
//!
//! Init holds both open (close-on-exec) until it executes the program. So whether a container waits to be started
//! is seen from the pipe itself, whatever the program does later: as long as somebody can read it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// The pipe that init reads a byte from.
pub const START: &str = "exec.fifo";
/// The folder of the other pipe.
pub const RESULT_FOLDER: &str = "result";
/// The pipe that init writes an error to. Both have the name of runc's pipe: what audits the descriptors of a created
/// container expects it.
const RESULT: &str = "result/exec.fifo";

/// More would not be written at once (PIPE_BUF).
const MAX_ERROR: usize = 4096;

/// Init's side.
#[derive(Debug)]
pub struct Gate {
    start: File,
    result: File,
}

impl Gate {
    /// Makes both pipes in `dir` and opens them, for the process that will be init.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let open = |name: &str| {
            let path = dir.join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            // Both directions, which never waits for the other side (fifo(7)).
            OpenOptions::new().read(true).write(true).open(path)
        };
        std::fs::DirBuilder::new().mode(0o700).create(dir.join(RESULT_FOLDER))?;
        Ok(Self { start: open(START)?, result: open(RESULT)? })
    }

    /// Waits until somebody starts the container.
    ///
    /// # Errors
    /// Reading failed.
    pub fn wait(&mut self) -> io::Result<()> {
        self.start.read_exact(&mut [0])
    }

    /// The pipe for [`report`]; from now on the container does not wait any more.
    #[must_use]
    pub fn into_result(self) -> OwnedFd {
        self.result.into()
    }
}

/// Why the program does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// A startContainer hook failed.
    Hook(String),
    /// It cannot be executed.
    Program(String),
}

/// Goes before the words of a hook's failure; no text of ours begins with it.
const HOOK: u8 = 1;

/// Tells the starter why the program does not run. There is nobody else to tell of a failure.
pub fn report(result: OwnedFd, failed: &Failed) {
    let (mark, error): (&[u8], _) = match failed {
        Failed::Hook(error) => (&[HOOK], error),
        Failed::Program(error) => (&[], error),
    };
    let mut end = error.len().min(MAX_ERROR - mark.len());
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    let _ = File::from(result).write_all(&[mark, &error.as_bytes()[..end]].concat());
}

/// Whether init waits to be started.
///
/// # Errors
/// It cannot be seen.
pub fn is_waiting(dir: &Path) -> io::Result<bool> {
    is_waiting_at(AT_FDCWD, dir)
}

/// As [`is_waiting`], of a folder relative to an open one.
///
/// # Errors
/// As [`is_waiting`].
pub fn is_waiting_at(folder: impl AsFd, dir: &Path) -> io::Result<bool> {
    match open_start(folder, dir) {
        Ok(_) => Ok(true),
        // Nobody reads it; started; being made or removed.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOENT)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opening the pipe for writing fails where nobody has it open for reading.
fn open_start(folder: impl AsFd, dir: &Path) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(folder, &dir.join(START), flags, Mode::empty())?.into())
}

/// Starts the container. After that only waiting for its program can fail.
///
/// # Errors
/// Nobody waits, or the pipes cannot be used: it is not started.
pub fn open(dir: &Path) -> io::Result<Started> {
    let result = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(dir.join(RESULT))?;
    // Opening must not wait, reading must.
    let flags = OFlag::from_bits_truncate(fcntl(result.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(result.as_fd(), FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    open_start(AT_FDCWD, dir)?.write_all(&[1])?;
    Ok(Started(result))
}

/// A container that was let go.
#[derive(Debug)]
pub struct Started(File);

impl Started {
    /// Waits until the program runs. Returns what init had to say if it does not.
    ///
    /// # Errors
    /// It is not known whether it runs.
    pub fn wait(self, dir: &Path) -> io::Result<Option<Failed>> {
        let mut said = Vec::new();
        self.0.take(MAX_ERROR as u64).read_to_end(&mut said)?;
        // Nobody reads it any more; to open it without success is more work for whoever asks than to find nothing.
        let _ = std::fs::remove_file(dir.join(START));
        let text = |said: &[u8]| String::from_utf8_lossy(said).into_owned();
        Ok(match said.split_first() {
            None => None,
            Some((&HOOK, said)) => Some(Failed::Hook(text(said))),
            Some(_) => Some(Failed::Program(text(&said))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_opened_once_and_tells_its_end() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_waiting(dir.path()).unwrap());
        let mut gate = Gate::create(dir.path()).unwrap();
        assert!(is_waiting(dir.path()).unwrap());
        let init = std::thread::spawn(move || {
            gate.wait().unwrap();
            report(gate.into_result(), &Failed::Hook("no such program".to_owned()));
        });
        let said = open(dir.path()).unwrap().wait(dir.path()).unwrap();
        assert_eq!(said, Some(Failed::Hook("no such program".to_owned())));
        init.join().unwrap();
        // Children that other tests fork meanwhile have the pipe open for a moment.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_waiting(dir.path()).unwrap() && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        assert!(!is_waiting(dir.path()).unwrap());
        assert!(open(dir.path()).is_err());
    }
}
