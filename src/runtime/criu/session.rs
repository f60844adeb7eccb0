//! A conversation with `criu swrk`: a criu that serves one request of its parent over a socket.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair};
use nix::unistd::Pid;

use super::CriuError;
use super::wire::{Message, Value, fields};
use crate::sys;

/// What a request or a response is about: criu's `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Dump, Self::Restore, Self::PreDump, Self::Notify, Self::FeatureCheck, Self::Version];

    fn name(number: i32) -> String {
        match Self::ALL.into_iter().find(|kind| *kind as i32 == number) {
            Some(Self::Dump) => "DUMP".to_owned(),
            Some(Self::Restore) => "RESTORE".to_owned(),
            Some(Self::PreDump) => "PRE_DUMP".to_owned(),
            Some(Self::Notify) => "NOTIFY".to_owned(),
            Some(Self::FeatureCheck) => "FEATURE_CHECK".to_owned(),
            Some(Self::Version) => "VERSION".to_owned(),
            None => number.to_string(),
        }
    }
}

/// A request of `kind` with what belongs to it: a message in a field.
pub(super) fn request(kind: Kind, part: Option<(u32, &Message)>) -> Message {
    let mut request = Message::default();
    request.int(1, kind as i64);
    if let Some((field, message)) = part {
        request.message(field, message);
    }
    request
}

/// What criu answers.
#[derive(Debug, Default)]
pub(super) struct Response {
    /// `criu_req_type`.
    pub kind: i32,
    /// Of a notification: what criu is about to do, or has done, and to which process.
    pub script: String,
    pub pid: i32,
    /// Of a restore: the restored init, as its caller sees it.
    pub restored: i32,
    /// Of a feature check: memory tracking and lazy pages.
    pub mem_track: bool,
    pub lazy_pages: bool,
    /// Of a version: 10000·major + 100·minor + sublevel.
    pub version: i32,
    /// What came along.
    pub descriptors: Vec<OwnedFd>,
}

/// A criu that waits for a request.
pub(super) struct Session {
    socket: OwnedFd,
    child: Option<Child>,
}

impl Session {
    /// Starts criu with rt's own stdin, stdout and stderr, and with `inherited` under their numbers.
    pub(super) fn start(inherited: &[OwnedFd]) -> Result<Self, CriuError> {
        let io = CriuError::io("cannot talk to criu");
        let flags = SockFlag::SOCK_CLOEXEC;
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (socket, server) = pair.map_err(|errno| io(errno.into()))?;
        let passed = || inherited.iter().chain([&server]);
        let inherit = |flag| passed().try_for_each(|fd| fcntl(fd, FcntlArg::F_SETFD(flag)).map(drop));
        inherit(FdFlag::empty()).map_err(|errno| io(errno.into()))?;
        let child = Command::new("criu").arg("swrk").arg(server.as_raw_fd().to_string()).spawn();
        inherit(FdFlag::FD_CLOEXEC).map_err(|errno| io(errno.into()))?;
        match child {
            Ok(child) => Ok(Self { socket, child: Some(child) }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(CriuError::Missing),
            Err(error) => Err(CriuError::io("cannot start criu")(error)),
        }
    }

    /// The pid of criu.
    pub(super) fn pid(&self) -> Pid {
        let id = self.child.as_ref().map_or(0, Child::id);
        Pid::from_raw(i32::try_from(id).unwrap_or_default())
    }

    /// Sends a message whole.
    pub(super) fn send(&self, message: &Message) -> Result<(), CriuError> {
        let sent = send(self.socket.as_raw_fd(), message.bytes(), MsgFlags::MSG_NOSIGNAL);
        sent.map(drop).map_err(|errno| CriuError::io("cannot send a request to criu")(errno.into()))
    }

    /// Waits for the next message. That criu failed is an error.
    pub(super) fn receive(&self) -> Result<Response, CriuError> {
        let mut buffer = vec![0; 10 * 4096];
        let (length, descriptors) = sys::socket::receive(&self.socket, &mut buffer)
            .map_err(|errno| CriuError::io("cannot read criu's answer")(errno.into()))?;
        if length == 0 {
            return Err(CriuError::Protocol("unexpected EOF"));
        }
        if length == buffer.len() {
            return Err(CriuError::Protocol("buffer is too small"));
        }
        let mut response = parse(&buffer[..length])?;
        response.descriptors = descriptors;
        Ok(response)
    }

    /// Ends the conversation and waits for criu. Whether it must have ended well is said by `strict`: after a
    /// pre-dump it waits for more and is cut off.
    pub(super) fn finish(mut self, strict: bool) -> Result<(), CriuError> {
        // ENOTCONN: it is gone already.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = child.wait().map_err(CriuError::io("cannot wait for criu"))?;
        if strict && !status.success() {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            };
            return Err(CriuError::Ended(how));
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // criu cleans up after itself when its peer is gone, so it is not killed.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
            let _ = child.wait();
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Response, CriuError> {
    let garbled = || CriuError::Protocol("its answer is no message");
    let mut response = Response::default();
    let (mut success, mut errno, mut message) = (false, 0, String::new());
    let inner = |value: Value<'_>, number: u32| -> Result<i32, CriuError> {
        let found = fields(value.bytes()).ok_or_else(garbled)?;
        Ok(found.iter().rev().find(|(field, _)| *field == number).map_or(0, |(_, value)| value.int()))
    };
    for (field, value) in fields(bytes).ok_or_else(garbled)? {
        match field {
            1 => response.kind = value.int(),
            2 => success = value.int() != 0,
            4 => response.restored = inner(value, 1)?,
            5 => {
                for (field, value) in fields(value.bytes()).ok_or_else(garbled)? {
                    match field {
                        1 => response.script = value.text(),
                        2 => response.pid = value.int(),
                        _ => {}
                    }
                }
            }
            7 => errno = value.int(),
            8 => {
                response.mem_track = inner(value, 1)? != 0;
                response.lazy_pages = inner(value, 2)? != 0;
            }
            9 => message = value.text(),
            10 => response.version = version(value.bytes()).ok_or_else(garbled)?,
            _ => {}
        }
    }
    if success {
        return Ok(response);
    }
    let kind = Kind::name(response.kind);
    let because = if message.is_empty() { String::new() } else { format!(": {}", message.trim()) };
    // errno 0 says nothing, a known one has words.
    let words = if errno > 0 { format!(" ({})", Errno::from_raw(errno).desc()) } else { String::new() };
    Err(CriuError::Failed(format!("type {kind} errno {errno}{words}{because}")))
}

/// A build from git counts as the next minor version, as runc has it.
fn version(bytes: &[u8]) -> Option<i32> {
    let (mut version, mut git) = (0, false);
    for (field, value) in fields(bytes)? {
        match field {
            1 => version += value.int().checked_mul(10_000)?,
            2 => version += value.int().checked_mul(100)?,
            3 => git = !value.bytes().is_empty(),
            4 => version += value.int(),
            _ => {}
        }
    }
    Some(if git { version - version % 100 + 100 } else { version })
}

/// Asks criu for something that needs no process, and returns its answer.
pub(super) fn ask(message: &Message) -> Result<Response, CriuError> {
    let session = Session::start(&[])?;
    session.send(message)?;
    let response = session.receive()?;
    session.finish(false)?;
    Ok(response)
}

/// An error that a notification's handler came to.
pub(super) fn handled(error: Box<dyn std::error::Error + Send + Sync>) -> CriuError {
    CriuError::Io { what: "cannot do what criu asks for", source: io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(kind: i64, success: bool) -> Message {
        let mut message = Message::default();
        message.int(1, kind).flag(2, success);
        message
    }

    #[test]
    fn notifications_name_script_and_process() {
        let mut notify = Message::default();
        notify.text(1, "post-restore").int(2, 42);
        let read = parse(response(6, true).message(5, &notify).bytes()).unwrap();
        assert_eq!((read.kind, read.script.as_str(), read.pid), (6, "post-restore", 42));
    }

    #[test]
    fn failures_say_what_criu_says() {
        let error = parse(response(1, false).int(7, 3).text(9, "no such task\n").bytes()).unwrap_err();
        assert_eq!(error.to_string(), "criu failed: type DUMP errno 3 (No such process): no such task");
        let error = parse(response(2, false).bytes()).unwrap_err();
        assert_eq!(error.to_string(), "criu failed: type RESTORE errno 0");
    }

    #[test]
    fn versions_are_one_number() {
        let mut message = Message::default();
        message.int(1, 3).int(2, 17).int(4, 1);
        assert_eq!(version(message.bytes()), Some(31701));
        message.text(3, "v3.17.1-5-gabc");
        assert_eq!(version(message.bytes()), Some(31800));
    }
}
