//! The engine's side of a console socket: receives the terminal's master that the runtime sends.
#![allow(unsafe_code, reason = "a received descriptor has to be taken over")]

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

/// A listening socket for one terminal.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    pub path: PathBuf,
}

impl ConsoleSocket {
    pub fn new(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a console socket");
        Self { listener, path: path.to_owned() }
    }

    /// The master that was sent; the command that sends it must have ended or be running.
    pub fn receive(&self) -> Terminal {
        let (stream, _) = self.listener.accept().expect("a connection");
        let mut name = [0_u8; 256];
        let mut data = [IoSliceMut::new(&mut name)];
        let mut space = nix::cmsg_space!(std::os::fd::RawFd);
        let message =
            recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut data, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
                .expect("a message");
        let descriptor = message
            .cmsgs()
            .expect("control messages")
            .find_map(|c| match c {
                ControlMessageOwned::ScmRights(list) => list.first().copied(),
                _ => None,
            })
            .expect("a descriptor in the message");
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        Terminal { master: unsafe { File::from_raw_fd(descriptor) } }
    }
}

/// The master of a container's terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
}

impl Terminal {
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("input for the terminal");
    }

    /// Reads until `word` was printed, and returns everything up to there.
    pub fn read_until(&mut self, word: &str) -> String {
        let mut seen = String::new();
        let mut bytes = [0_u8; 4096];
        while !seen.contains(word) {
            match self.master.read(&mut bytes) {
                Ok(count @ 1..) => seen.push_str(&String::from_utf8_lossy(&bytes[..count])),
                end => panic!("terminal ended ({end:?}) without '{word}': {seen}"),
            }
        }
        seen
    }
}
