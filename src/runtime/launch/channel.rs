//! What the parent and a child say to each other: one packet a message, on a socket pair that ends with either of them.
//! Each child has a pair of its own and its own words, so that what one says is never taken for the other's.

use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use nix::unistd::Pid;

use crate::log;
use crate::runtime::cgroups::Entered;
use crate::sys::process::close_number;
use crate::sys::socket::receive;

/// Longer messages are cut. On the stack: what is read counts against the container's limit.
const MAX: usize = 4096;

/// What a kind of child asks or tells, as a tag and text.
pub trait Words: Sized {
    fn packet(&self) -> (u8, String);
    /// `None`: the child does not talk so.
    fn parse(tag: u8, text: String) -> Option<Self>;
}

/// What the stage says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageRequest {
    /// It is in a new user namespace: write its id maps.
    MapIds,
    /// It made a time namespace: write its offsets.
    TimeOffsets,
    /// It made the container's process, which has this pid (as the parent sees it), and ends.
    Child(Pid),
    /// It went wrong; the stage ends.
    Failed(String),
}

/// What the container's process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Its first word: it has entered these hierarchies of the cgroup by itself, and waits for the rest to be done for it.
    Entered(Entered),
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

impl Words for StageRequest {
    fn packet(&self) -> (u8, String) {
        match self {
            Self::MapIds => (b'U', String::new()),
            Self::TimeOffsets => (b'T', String::new()),
            Self::Child(pid) => (b'P', pid.to_string()),
            Self::Failed(text) => (b'E', text.clone()),
        }
    }

    fn parse(tag: u8, text: String) -> Option<Self> {
        Some(match tag {
            b'U' => Self::MapIds,
            b'T' => Self::TimeOffsets,
            b'P' => Self::Child(Pid::from_raw(text.parse().ok().filter(|pid| *pid > 1)?)),
            b'E' => Self::Failed(text),
            _ => return None,
        })
    }
}

impl Words for Request {
    fn packet(&self) -> (u8, String) {
        match self {
            Self::Entered(entered) => (b'G', entered.0.to_string()),
            Self::NamespacesReady => (b'H', String::new()),
            Self::MountSource(index) => (b'M', index.to_string()),
            Self::Listener(number) => (b'L', number.to_string()),
            Self::Ready => (b'R', String::new()),
            Self::Failed(text) => (b'E', text.clone()),
        }
    }

    fn parse(tag: u8, text: String) -> Option<Self> {
        Some(match tag {
            b'G' => Self::Entered(Entered(text.parse().ok()?)),
            b'H' => Self::NamespacesReady,
            b'M' => Self::MountSource(text.parse().ok()?),
            b'L' => Self::Listener(text.parse().ok()?),
            b'R' => Self::Ready,
            b'E' => Self::Failed(text),
            _ => return None,
        })
    }
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
pub struct Channel<W>(OwnedFd, PhantomData<fn(W) -> W>);

impl<W> From<Channel<W>> for OwnedFd {
    fn from(channel: Channel<W>) -> Self {
        channel.0
    }
}

impl<W> From<OwnedFd> for Channel<W> {
    fn from(socket: OwnedFd) -> Self {
        Self(socket, PhantomData)
    }
}

impl<W> AsFd for Channel<W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<W: Words> Channel<W> {
    /// The parent's end and the child's.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((one.into(), other.into()))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self::from)
    }

    /// In a forked child: closes an end that is another process's, or is done with.
    pub fn close_in_child(&self) {
        let _ = close_number(self.0.as_raw_fd());
    }

    /// Child: says something that needs no answer.
    pub fn tell(&self, request: &W) -> io::Result<()> {
        let (tag, text) = request.packet();
        self.send(tag, text.as_bytes(), None)
    }

    /// Child: asks, and waits for the answer. A parent that is gone is an error.
    pub fn ask(&self, request: &W) -> io::Result<Answer> {
        self.tell(request)?;
        let mut buffer = [0; MAX];
        let (length, descriptors) = receive(&self.0, &mut buffer)?;
        match (buffer.first().filter(|_| length > 0), descriptors.into_iter().next()) {
            (Some(b'd'), Some(descriptor)) => Ok(Answer::Descriptor(descriptor)),
            (Some(b'e'), _) => Ok(Answer::Refused(String::from_utf8_lossy(&buffer[1..length]).into_owned())),
            (Some(_), _) => Ok(Answer::Done),
            (None, _) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the runtime is gone")),
        }
    }

    /// Parent: the child's next word; `None` when it has ended or executed its program. Its log lines go to the log.
    ///
    /// # Errors
    /// `ConnectionReset` where it ended without having read its last answer: it has not executed anything.
    pub fn next(&self) -> io::Result<Option<W>> {
        let mut buffer = [0; MAX];
        let mut unread = false;
        loop {
            let length = match receive(&self.0, &mut buffer) {
                Ok((length, _)) => length,
                // Told once, and before what the child had still said.
                Err(Errno::ECONNRESET) if !unread => {
                    unread = true;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            match buffer[..length].split_first() {
                None if unread => return Err(Errno::ECONNRESET.into()),
                None => return Ok(None),
                Some((&log::TAG, line)) => log::pass_on(line),
                Some((tag, text)) => {
                    let unknown = "unknown message from the container's process";
                    return W::parse(*tag, String::from_utf8_lossy(text).into_owned())
                        .map(Some)
                        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, unknown));
                }
            }
        }
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

    fn arrive<W: Words + PartialEq + std::fmt::Debug>(
        all: impl IntoIterator<Item = W>,
    ) -> (Channel<W>, Channel<W>) {
        let (parent, child) = Channel::pair().unwrap();
        for request in all {
            child.tell(&request).unwrap();
            assert_eq!(parent.next().unwrap(), Some(request));
        }
        (parent, child)
    }

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        use StageRequest::{Child, MapIds, TimeOffsets};
        arrive([MapIds, TimeOffsets, Child(Pid::from_raw(7)), StageRequest::Failed("no".into())]);
        let (parent, child) = arrive([
            Request::Entered(Entered(5)),
            Request::NamespacesReady,
            Request::MountSource(3),
            Request::Listener(9),
            Request::Ready,
            Request::Failed("no\nway".into()),
        ]);
        parent.answer(&Answer::Refused("no".into())).unwrap();
        assert!(matches!(child.ask(&Request::Ready).unwrap(), Answer::Refused(text) if text == "no"));
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        parent.answer(&Answer::Descriptor(reader)).unwrap();
        assert!(matches!(child.ask(&Request::Ready).unwrap(), Answer::Descriptor(_)));
        drop(child);
        assert_eq!(
            [(); 3].map(|()| parent.next().unwrap()),
            [Some(Request::Ready), Some(Request::Ready), None]
        );
    }

    #[test]
    fn the_last_words_of_a_child_that_did_not_read_its_answer_arrive_and_its_end_is_no_exec() {
        for last in [Some(Request::Failed("no".into())), None] {
            let (parent, child) = arrive([Request::Entered(Entered(0))]);
            parent.answer(&Answer::Done).unwrap();
            last.iter().for_each(|words| child.tell(words).unwrap());
            drop(child);
            if last.is_some() {
                assert_eq!(parent.next().unwrap(), last);
            } else {
                assert_eq!(parent.next().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            }
        }
    }

    #[test]
    fn a_child_has_only_its_own_words() {
        let (parent, stage) = Channel::<StageRequest>::pair().unwrap();
        let init: Channel<Request> = OwnedFd::from(stage).into();
        for request in [Request::Entered(Entered(0)), Request::Ready, Request::NamespacesReady] {
            init.tell(&request).unwrap();
            assert!(parent.next().is_err(), "{request:?}");
        }
        for pid in ["0", "1", "-1", "x", ""] {
            assert_eq!(StageRequest::parse(b'P', pid.to_owned()), None);
        }
    }
}
