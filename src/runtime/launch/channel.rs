//! What parent and child say to each other: one packet a message, on a socket pair that ends with either of them.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use nix::unistd::Pid;

use crate::runtime::cgroups::Entered;
use crate::sys::process::close_number;
use crate::sys::socket::receive;

/// Longer messages are cut. On the stack: what is read counts against the container's limit.
const MAX: usize = 4096;

/// What the child asks or tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// This process has entered these hierarchies of the cgroup by itself, and waits for the rest to be done for it.
    Entered(Entered),
    /// The stage is in a new user namespace: write its id maps.
    MapIds,
    /// The stage made a time namespace: write its offsets.
    TimeOffsets,
    /// The stage made the process with this pid (as the parent sees it), and ends.
    Child(Pid),
    /// The namespaces are there: move network devices in and run the hooks that the parent runs.
    NamespacesReady,
    /// Open the source of the mount with this index.
    MountSource(usize),
    /// The seccomp filter notifies by this descriptor of the child.
    Listener(i32),
    /// Everything is done but waiting for start.
    Ready,
    /// It went wrong; the child ends.
    Failed(String),
}

/// What the parent answers.
#[derive(Debug)]
pub enum Answer {
    Done,
    Descriptor(OwnedFd),
    Refused(String),
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl Channel {
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(one), Self(other)))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// In a forked child: closes an end that is another process's, or is done with.
    pub fn close_in_child(&self) {
        let _ = close_number(self.0.as_raw_fd());
    }

    /// Child: says something that needs no answer.
    pub fn tell(&self, request: &Request) -> io::Result<()> {
        let (tag, text) = match request {
            Request::Entered(entered) => (b'G', entered.0.to_string()),
            Request::MapIds => (b'U', String::new()),
            Request::TimeOffsets => (b'T', String::new()),
            Request::Child(pid) => (b'P', pid.to_string()),
            Request::NamespacesReady => (b'H', String::new()),
            Request::MountSource(index) => (b'M', index.to_string()),
            Request::Listener(number) => (b'L', number.to_string()),
            Request::Ready => (b'R', String::new()),
            Request::Failed(text) => (b'E', text.clone()),
        };
        self.send(tag, text.as_bytes(), None)
    }

    /// Child: asks, and waits for the answer. A parent that is gone is an error.
    pub fn ask(&self, request: &Request) -> io::Result<Answer> {
        self.tell(request)?;
        self.wait_for_answer()
    }

    /// Child: waits for an answer.
    pub fn wait_for_answer(&self) -> io::Result<Answer> {
        let mut buffer = [0; MAX];
        let (length, descriptors) = receive(&self.0, &mut buffer)?;
        match (buffer.first().filter(|_| length > 0), descriptors.into_iter().next()) {
            (Some(b'd'), Some(descriptor)) => Ok(Answer::Descriptor(descriptor)),
            (Some(b'e'), _) => Ok(Answer::Refused(String::from_utf8_lossy(&buffer[1..length]).into_owned())),
            (Some(_), _) => Ok(Answer::Done),
            (None, _) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the runtime is gone")),
        }
    }

    /// Parent: the child's next word; `None` when it has ended or executed its program.
    pub fn next(&self) -> io::Result<Option<Request>> {
        let mut buffer = [0; MAX];
        let length = match receive(&self.0, &mut buffer) {
            Ok((length, _)) => length,
            Err(Errno::ECONNRESET) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let Some((tag, text)) = buffer[..length].split_first() else { return Ok(None) };
        let text = String::from_utf8_lossy(text).into_owned();
        let bad =
            |_| io::Error::new(io::ErrorKind::InvalidData, "unknown message from the container's process");
        Ok(Some(match tag {
            b'G' => Request::Entered(Entered(text.parse().map_err(bad)?)),
            b'U' => Request::MapIds,
            b'T' => Request::TimeOffsets,
            b'P' => Request::Child(Pid::from_raw(text.parse().map_err(bad)?)),
            b'H' => Request::NamespacesReady,
            b'M' => Request::MountSource(text.parse().map_err(bad)?),
            b'L' => Request::Listener(text.parse().map_err(bad)?),
            b'R' => Request::Ready,
            _ => Request::Failed(text),
        }))
    }

    /// Parent: answers.
    pub fn answer(&self, answer: &Answer) -> io::Result<()> {
        match answer {
            Answer::Done => self.send(b'k', b"", None),
            Answer::Descriptor(descriptor) => self.send(b'd', b"", Some(descriptor)),
            Answer::Refused(text) => self.send(b'e', text.as_bytes(), None),
        }
    }

    fn send(&self, tag: u8, text: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
        let text = &text[..text.len().min(MAX - 1)];
        let slices = [IoSlice::new(std::slice::from_ref(&tag)), IoSlice::new(text)];
        let raw = descriptor.map(|descriptor| [descriptor.as_fd().as_raw_fd()]);
        let control: Vec<ControlMessage<'_>> = raw.iter().map(|raw| ControlMessage::ScmRights(raw)).collect();
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &slices, &control, MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let (parent, child) = Channel::pair().unwrap();
        let all = [
            Request::Entered(Entered(5)),
            Request::MapIds,
            Request::TimeOffsets,
            Request::Child(Pid::from_raw(7)),
            Request::NamespacesReady,
            Request::MountSource(3),
            Request::Listener(9),
            Request::Ready,
            Request::Failed("no\nway".into()),
        ];
        for request in all {
            child.tell(&request).unwrap();
            assert_eq!(parent.next().unwrap(), Some(request));
        }
        parent.answer(&Answer::Refused("no".into())).unwrap();
        assert!(matches!(child.wait_for_answer().unwrap(), Answer::Refused(text) if text == "no"));
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        parent.answer(&Answer::Descriptor(reader)).unwrap();
        assert!(matches!(child.wait_for_answer().unwrap(), Answer::Descriptor(_)));
        drop(child);
        assert_eq!(parent.next().unwrap(), None);
    }
}
