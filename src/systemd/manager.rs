//! A connection to systemd's manager, by its own socket or by the bus: one call at a time, with a time limit.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::wire::{Body, Call, HEAD, Property, Received, rest_of};
use crate::poll::after;

/// runc's patience with a job.
const PATIENCE: Duration = Duration::from_secs(30);
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const BUS: &str = "org.freedesktop.DBus";

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    #[error("cannot reach systemd at {at}: {error}")]
    Connect { at: String, error: io::Error },
    #[error("{member}: {error}")]
    Io { member: &'static str, error: io::Error },
    /// systemd's own words; `name` is `org.freedesktop.systemd1.…`.
    #[error("{text}")]
    Refused { name: String, text: String },
    #[error("the job ended as {0:?}")]
    Job(String),
}

impl ManagerError {
    pub fn is(&self, short_name: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.rsplit('.').next() == Some(short_name))
    }
}

type Result<T> = std::result::Result<T, ManagerError>;

/// Calls wait for their answer, and for the end of the job that they began: 30 seconds at most.
#[derive(Debug)]
pub struct Manager {
    stream: UnixStream,
    serial: u32,
    /// The bus wants to know for whom a call is; systemd's own socket has nobody else.
    on_bus: bool,
    /// Jobs that ended before anybody asked: path and result.
    ended: Vec<(String, String)>,
}

impl Manager {
    /// The manager of the machine, or of the user who runs this process.
    pub fn connect(user: bool) -> Result<Self> {
        let mut failure = None;
        for (address, on_bus) in if user { user_addresses() } else { system_addresses() } {
            match Self::open(&address, on_bus) {
                Ok(manager) => return Ok(manager),
                Err(error) => {
                    tracing::debug!("{address}: {error}");
                    failure = Some(ManagerError::Connect { at: address, error });
                }
            }
        }
        Err(failure.unwrap_or_else(|| ManagerError::Connect {
            at: "the session's bus".to_owned(),
            error: io::Error::new(
                io::ErrorKind::NotFound,
                "neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set",
            ),
        }))
    }

    fn open(address: &str, on_bus: bool) -> io::Result<Self> {
        let stream = match address.strip_prefix('@') {
            Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => UnixStream::connect(address)?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut manager = Self { stream, serial: 0, on_bus, ended: Vec::new() };
        manager.authenticate()?;
        if on_bus {
            let hello = |error: ManagerError| io::Error::other(error.to_string());
            manager.bus_call("Hello", &Body::default()).map_err(hello)?;
            let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved'");
            manager.bus_call("AddMatch", &Body::default().text(&rule)).map_err(hello)?;
            manager.call(MANAGER, "Subscribe", &Body::default()).map_err(hello)?;
        }
        Ok(manager)
    }

    /// No name is claimed: the socket tells who is calling, also out of a user namespace where the own number is
    /// another.
    fn authenticate(&mut self) -> io::Result<()> {
        self.stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK"] {
            let line = self.line()?;
            if !line.starts_with(expected) {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("authentication: {line}"),
                ));
            }
        }
        Ok(())
    }

    /// Byte by byte: what follows the last line is a message already.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.extend(byte);
            if line.len() > 512 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no line of an authentication"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Starts a transient unit and waits until it is there.
    pub fn start_unit(&mut self, name: &str, properties: &[Property]) -> Result<()> {
        let body = Body::default().text(name).text("replace").properties(properties).no_units();
        let job = self.call(MANAGER, "StartTransientUnit", &body)?;
        self.wait_for_job(&first(&job))
    }

    /// Stops a unit and waits until it is gone.
    pub fn stop_unit(&mut self, name: &str) -> Result<()> {
        let job = self.call(MANAGER, "StopUnit", &Body::default().text(name).text("replace"))?;
        self.wait_for_job(&first(&job))
    }

    /// Changes a unit until it ends (not its file).
    pub fn set_properties(&mut self, name: &str, properties: &[Property]) -> Result<()> {
        let body = Body::default().text(name).flag(true).properties(properties);
        self.call(MANAGER, "SetUnitProperties", &body).map(drop)
    }

    /// Forgets that a unit failed, so that its name is free.
    pub fn reset_failed(&mut self, name: &str) -> Result<()> {
        self.call(MANAGER, "ResetFailedUnit", &Body::default().text(name)).map(drop)
    }

    /// Moves a process into a unit, `below` (`/`, or a path in it).
    pub fn attach(&mut self, name: &str, below: &str, pid: Pid) -> Result<()> {
        let body = Body::default().text(name).text(below).pids(&[pid.as_raw().unsigned_abs()]);
        self.call(MANAGER, "AttachProcessesToUnit", &body).map(drop)
    }

    /// 257 of `257.9-1~deb13u1`, or 0 of what is none.
    pub fn version(&mut self) -> Result<u32> {
        let body = Body::default().text(MANAGER).text("Version");
        let text = first(&self.call("org.freedesktop.DBus.Properties", "Get", &body)?);
        let digits = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).next();
        Ok(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0))
    }

    fn bus_call(&mut self, member: &'static str, body: &Body) -> Result<Received> {
        self.send(
            Call { destination: Some(BUS), path: "/org/freedesktop/DBus", interface: BUS, member },
            member,
            body,
        )
    }

    fn call(&mut self, interface: &str, member: &'static str, body: &Body) -> Result<Received> {
        let destination = self.on_bus.then_some("org.freedesktop.systemd1");
        self.send(Call { destination, path: MANAGER_PATH, interface, member }, member, body)
    }

    fn send(&mut self, call: Call<'_>, member: &'static str, body: &Body) -> Result<Received> {
        self.serial += 1;
        let io = |error| ManagerError::Io { member, error };
        self.stream.write_all(&call.message(self.serial, body)).map_err(io)?;
        let deadline = after(PATIENCE);
        loop {
            let received = self.receive(deadline).map_err(io)?;
            match received.kind {
                2 if received.answers == Some(self.serial) => return Ok(received),
                3 if received.answers == Some(self.serial) => {
                    let name = received.error.clone().unwrap_or_default();
                    let text = received.texts().into_iter().next().unwrap_or_else(|| name.clone());
                    return Err(ManagerError::Refused { name, text });
                }
                _ => self.note(&received),
            }
        }
    }

    /// Keeps the end of a job: number, path, unit, result.
    fn note(&mut self, received: &Received) {
        if received.kind == 4
            && received.member.as_deref() == Some("JobRemoved")
            && let [job, _, result] = received.texts().as_slice()
        {
            self.ended.push((job.clone(), result.clone()));
        }
    }

    fn wait_for_job(&mut self, job: &str) -> Result<()> {
        let deadline = after(PATIENCE);
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(path, _)| path == job) {
                return if result == "done" { Ok(()) } else { Err(ManagerError::Job(result.clone())) };
            }
            let received = self
                .receive(deadline)
                .map_err(|error| ManagerError::Io { member: "waiting for the job", error })?;
            self.note(&received);
        }
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Received> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a message of D-Bus");
        let mut head = [0; HEAD];
        self.stream.read_exact(&mut head)?;
        let mut rest = vec![0; rest_of(&head).ok_or_else(invalid)?];
        self.stream.read_exact(&mut rest)?;
        Received::parse(&head, &rest).ok_or_else(invalid)
    }
}

fn first(received: &Received) -> String {
    received.texts().into_iter().next().unwrap_or_default()
}

/// Sockets to try, and whether each is a bus. systemd's own comes first: it needs no broker, and answers sooner.
fn system_addresses() -> Vec<(String, bool)> {
    let bus = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok().and_then(|address| unix_socket(&address));
    let bus = bus.unwrap_or_else(|| "/run/dbus/system_bus_socket".to_owned());
    vec![("/run/systemd/private".to_owned(), false), (bus, true)]
}

fn user_addresses() -> Vec<(String, bool)> {
    let folder = std::env::var("XDG_RUNTIME_DIR").ok().filter(|folder| !folder.is_empty());
    let session = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().and_then(|address| unix_socket(&address));
    let mut addresses = Vec::new();
    if let Some(folder) = &folder {
        addresses.push((format!("{folder}/systemd/private"), false));
    }
    addresses.extend(session.map(|socket| (socket, true)));
    addresses.extend(folder.map(|folder| (format!("{folder}/bus"), true)));
    addresses.retain(|(address, _)| address.starts_with('@') || Path::new(address).exists());
    addresses
}

/// The first socket of an address such as `unix:path=/run/user/1000/bus;…`; an abstract one begins with `@`.
fn unix_socket(address: &str) -> Option<String> {
    address.split(';').filter_map(|one| one.strip_prefix("unix:")).find_map(|keys| {
        keys.split(',').find_map(|key| match key.split_once('=')? {
            ("path", path) => Some(path.to_owned()),
            ("abstract", name) => Some(format!("@{name}")),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_socket_of_an_address_is_taken() {
        let socket = |address| unix_socket(address);
        assert_eq!(socket("tcp:host=x;unix:guid=1,path=/run/a").as_deref(), Some("/run/a"));
        assert_eq!(socket("unix:abstract=/tmp/b,guid=1").as_deref(), Some("@/tmp/b"));
        assert_eq!(socket("autolaunch:"), None);
    }

    #[test]
    fn a_peer_that_hangs_up_or_talks_nonsense_is_an_error() {
        for answer in [&b""[..], b"DATA\r\n", b"REJECTED\r\n", &[b'x'; 600]] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(answer).unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let mut manager = Manager { stream: ours, serial: 0, on_bus: false, ended: Vec::new() };
            assert!(manager.authenticate().is_err(), "{answer:?}");
        }
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"DATA\r\nOK 1234\r\nnonsense, and no message at all").unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut manager = Manager { stream: ours, serial: 0, on_bus: false, ended: Vec::new() };
        manager.authenticate().unwrap();
        let error = manager.stop_unit("a.scope").unwrap_err().to_string();
        assert_eq!(error, "StopUnit: not a message of D-Bus");
    }
}
