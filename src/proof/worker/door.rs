//! The way into the container's cgroup. On v1 a process with one thread that moves itself by `tasks` waits for nobody; one
//! that is moved waits for a grace period of RCU first (`runtime/cgroups/entry` has the same for create and exec).
//!
//! A reply over the socket would be charged to the cgroup, so the worker's word is that it closes a pipe.

use std::fs::File;
use std::io::{self, IoSlice, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::sys::socket::receive;

/// How long a worker may take that is stopped or starved; then it is moved.
const WITHIN_MS: u16 = 1000;

/// Parent: shows the worker the way into the cgroup folder `dir`, and waits until it has tried. False where it is still
/// outside and has to be moved. True also of a worker that has gone, which shows on its pidfd.
pub(super) fn send_in(socket: &UnixStream, dir: &Path) -> io::Result<bool> {
    // The kernel asks whether who opened it may move processes, so the worker needs no capability.
    let tasks = File::options().write(true).open(dir.join("tasks")).ok();
    let (mut word, theirs) = io::pipe()?;
    let mut descriptors = vec![theirs.as_raw_fd()];
    descriptors.extend(tasks.as_ref().map(AsRawFd::as_raw_fd));
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    drop(theirs);
    let told = poll(&mut [PollFd::new(word.as_fd(), PollFlags::POLLIN)], PollTimeout::from(WITHIN_MS))?;
    Ok(told > 0 && word.read(&mut [0])? == 0)
}

/// Worker: the way that the parent shows.
pub(super) struct Door {
    /// Closed by whoever has tried.
    word: PipeWriter,
    /// v1: where a process moves itself.
    tasks: Option<File>,
}

impl Door {
    /// Waits until it is shown. Whatever this allocates is done before. An error where the parent has gone.
    pub fn shown(socket: impl AsFd) -> io::Result<Self> {
        let (_, descriptors) = receive(socket, &mut [0])?;
        let mut descriptors = descriptors.into_iter();
        let word = PipeWriter::from(descriptors.next().ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(Self { word, tasks: descriptors.next().map(File::from) })
    }

    /// Takes it; the word stays open.
    pub fn enter(&mut self) {
        let entered = self.tasks.as_mut().is_some_and(|tasks| tasks.write_all(b"0").is_ok());
        if !entered {
            // A parent that did not wait for it moves this process all the same.
            let _ = self.word.write_all(&[0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tried on a folder that takes any word.
    fn entered(dir: &Path) -> bool {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let worker = std::thread::spawn(move || Door::shown(theirs).map(|mut door| door.enter()));
        let entered = send_in(&ours, dir).unwrap();
        worker.join().unwrap().unwrap();
        entered
    }

    #[test]
    fn a_worker_says_whether_it_moved_itself() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!entered(dir.path()), "v2 has no such file");
        let tasks = dir.path().join("tasks");
        std::fs::write(&tasks, "").unwrap();
        assert!(entered(dir.path()));
        assert_eq!(std::fs::read(&tasks).unwrap(), b"0");
    }

    #[test]
    fn a_worker_that_does_not_answer_is_moved() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(!send_in(&ours, tempfile::tempdir().unwrap().path()).unwrap());
    }

    #[test]
    fn a_parent_that_has_gone_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert!(Door::shown(theirs).is_err());
    }
}
