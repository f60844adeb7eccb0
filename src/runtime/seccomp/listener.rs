//! Hands the notification descriptor of a filter to the agent that the profile names: one message with the
//! spec's ContainerProcessState, the descriptor attached.

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Map, Value, json};

use super::{ListenerInfo, SeccompError};
use crate::runtime::process::reason::Reason;

/// Connects to the agent and sends it the descriptor. `pid`: the filtered process, as rt sees it; `state`: the
/// container's state as JSON. The agent need not answer: the process simply waits at its first notification.
pub fn send_listener(
    listener: &ListenerInfo,
    pid: i32,
    state: &[u8],
    descriptor: impl AsFd,
) -> Result<(), SeccompError> {
    let message = message(listener, pid, state)?;
    let mut socket = connect(&listener.path)
        .map_err(|error| SeccompError::Connect { path: listener.path.clone(), reason: Reason::of(&error) })?;
    send(&mut socket, &message, descriptor.as_fd())
        .map_err(|reason| SeccompError::Send { path: listener.path.clone(), reason })
}

fn message(listener: &ListenerInfo, pid: i32, state: &[u8]) -> Result<Vec<u8>, SeccompError> {
    let state: Map<String, Value> = serde_json::from_slice(state).map_err(SeccompError::State)?;
    let mut message = Map::new();
    message.insert("ociVersion".to_owned(), state.get("ociVersion").cloned().unwrap_or_default());
    message.insert("fds".to_owned(), json!(["seccompFd"]));
    message.insert("pid".to_owned(), json!(pid));
    if let Some(metadata) = listener.metadata.as_ref().filter(|metadata| !metadata.is_empty()) {
        message.insert("metadata".to_owned(), json!(metadata));
    }
    message.insert("state".to_owned(), Value::Object(state));
    serde_json::to_vec(&message).map_err(SeccompError::State)
}

fn connect(path: &Path) -> std::io::Result<UnixStream> {
    match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        _ => UnixStream::connect(path),
    }
}

fn send(socket: &mut UnixStream, message: &[u8], descriptor: BorrowedFd<'_>) -> Result<(), Reason> {
    let descriptors = [descriptor.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let slices = [IoSlice::new(message)];
    let sent = loop {
        match sendmsg::<()>(socket.as_raw_fd(), &slices, &control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            result => break result?,
        }
    };
    socket.write_all(&message[sent..]).map_err(|error| Reason::of(&error))
}
