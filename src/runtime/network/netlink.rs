//! The few rtnetlink requests that rt needs, on a plain socket. Own code: libcontainer's client reads answers
//! into 4 KiB, which links with many attributes and kernels with larger pages exceed, and names no error.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

type Result<T> = std::result::Result<T, Errno>;

const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ATTRIBUTE_HEADER: usize = 4;
/// Of one answer; the kernel sends at most 32 KiB at once.
const BUFFER: usize = 64 << 10;
const IFF_UP: u32 = libc::IFF_UP as u32;

/// A socket that talks to the network namespace it was made in, wherever the process is later.
pub(super) struct Netlink {
    socket: OwnedFd,
}

/// An address of a link, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    family: u8,
    prefix: u8,
    /// RT_SCOPE_ number.
    pub(super) scope: u8,
    /// IFA_F_ bits.
    pub(super) flags: u32,
    /// IFA_ADDRESS, IFA_LOCAL and IFA_BROADCAST, as they are.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = |kind| self.attributes.iter().find(|(known, _)| *known == kind).map(|(_, value)| value);
        let value =
            local(libc::IFA_LOCAL).or_else(|| local(libc::IFA_ADDRESS)).map_or(&[][..], Vec::as_slice);
        match (<[u8; 4]>::try_from(value), <[u8; 16]>::try_from(value)) {
            (Ok(four), _) => write!(f, "{}/{}", Ipv4Addr::from(four), self.prefix),
            (_, Ok(sixteen)) => write!(f, "{}/{}", Ipv6Addr::from(sixteen), self.prefix),
            _ => write!(f, "of family {}", self.family),
        }
    }
}

impl Netlink {
    /// Opens a socket in the caller's namespace.
    pub(super) fn open() -> Result<Self> {
        let kind =
            (AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        socket(kind.0, kind.1, kind.2, kind.3).map(|socket| Self { socket })
    }

    /// The index of a link. ENODEV: there is none of that name.
    pub(super) fn index_of(&self, name: &str) -> Result<i32> {
        let mut request = Request::new(libc::RTM_GETLINK, 0);
        request.bytes(&[0; LINK_HEADER]);
        request.attribute(libc::IFLA_IFNAME, &zero_terminated(name));
        let mut index = None;
        self.exchange(request, |kind, body| {
            if kind == libc::RTM_NEWLINK {
                index = body.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
            }
        })?;
        index.ok_or(Errno::ENODEV)
    }

    /// Switches a link on or off.
    pub(super) fn set_up(&self, index: i32, up: bool) -> Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK);
        request.link(index, if up { IFF_UP } else { 0 }, IFF_UP);
        self.exchange(request, |_, _| {})
    }

    /// Moves a link to another namespace and names it, in one step, so that no name can clash in between.
    pub(super) fn move_link(&self, index: i32, name: &str, namespace: &OwnedFd) -> Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK);
        request.link(index, 0, 0);
        request.attribute(libc::IFLA_IFNAME, &zero_terminated(name));
        request.attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        self.exchange(request, |_, _| {})
    }

    /// All addresses of a link.
    pub(super) fn addresses_of(&self, index: i32) -> Result<Vec<Address>> {
        let mut request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP);
        request.bytes(&[0; ADDRESS_HEADER]);
        let mut found = Vec::new();
        self.exchange(request, |kind, body| {
            if kind == libc::RTM_NEWADDR {
                found.extend(
                    parse_address(body).filter(|(owner, _)| *owner == index).map(|(_, address)| address),
                );
            }
        })?;
        Ok(found)
    }

    /// Gives a link an address.
    pub(super) fn add_address(&self, index: i32, address: &Address) -> Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
        let mut request = Request::new(libc::RTM_NEWADDR, flags);
        request.bytes(&[address.family, address.prefix, 0, address.scope]);
        request.bytes(&index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            request.attribute(*kind, value);
        }
        self.exchange(request, |_, _| {})
    }

    /// Sends a request and hands out the answers until the kernel says that it is done.
    fn exchange(&self, request: Request, mut answer: impl FnMut(u16, &[u8])) -> Result<()> {
        let dump = request.is_dump();
        let acknowledged = request.wants_ack();
        let socket = self.socket.as_raw_fd();
        send(socket, &request.finished(), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match recv(socket, &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            for (kind, body) in Messages(&buffer[..length]) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => return error_in(body),
                    _ => answer(kind, body),
                }
            }
            if !dump && !acknowledged {
                return Ok(());
            }
        }
    }
}

/// NLMSG_ERROR starts with a negative errno; zero acknowledges.
fn error_in(body: &[u8]) -> Result<()> {
    let code = body.first_chunk().map_or(-libc::EPROTO, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(-code)) }
}

fn parse_address(body: &[u8]) -> Option<(i32, Address)> {
    let (header, rest) = body.split_at_checked(ADDRESS_HEADER)?;
    let index = i32::from_ne_bytes(*header.last_chunk()?);
    let mut flags = u32::from(header[2]);
    let mut attributes = Vec::new();
    for (kind, value) in Attributes(rest) {
        match kind {
            // The header has room for eight bits only.
            libc::IFA_FLAGS => flags = value.first_chunk().map_or(flags, |bytes| u32::from_ne_bytes(*bytes)),
            libc::IFA_ADDRESS | libc::IFA_LOCAL | libc::IFA_BROADCAST => {
                attributes.push((kind, value.to_vec()))
            }
            _ => {}
        }
    }
    Some((index, Address { family: header[0], prefix: header[1], scope: header[3], flags, attributes }))
}

fn zero_terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A message under construction.
struct Request {
    bytes: Vec<u8>,
    flags: i32,
}

impl Request {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = flags | libc::NLM_F_REQUEST;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        // Every flag is one of 16 bits.
        bytes[6..8].copy_from_slice(&u16::try_from(flags).unwrap_or_default().to_ne_bytes());
        Self { bytes, flags }
    }

    fn is_dump(&self) -> bool {
        self.flags & libc::NLM_F_DUMP == libc::NLM_F_DUMP
    }

    fn wants_ack(&self) -> bool {
        self.flags & libc::NLM_F_ACK != 0
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// `struct ifinfomsg`
    fn link(&mut self, index: i32, flags: u32, change: u32) {
        self.bytes(&[0; 4]);
        self.bytes(&index.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
        self.bytes(&change.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or_default();
        self.bytes(&length.to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    fn finished(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or_default();
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

/// The messages of one read: kind and body.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, body))
    }
}

/// The attributes behind a header: kind and value.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // The upper two bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        const KIND: u16 = 0x3fff;
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & KIND;
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let mut request = Request::new(libc::RTM_GETLINK, 0);
        request.attribute(3, b"lo\0");
        request.attribute(28, &7_i32.to_ne_bytes());
        let bytes = request.finished();
        assert_eq!(bytes.len(), HEADER + 8 + 8);
        let (kind, body) = Messages(&bytes).next().unwrap();
        assert_eq!(kind, libc::RTM_GETLINK);
        let attributes: Vec<_> = Attributes(body).collect();
        assert_eq!(attributes, [(3, &b"lo\0"[..]), (28, &7_i32.to_ne_bytes()[..])]);
    }

    #[test]
    fn a_cut_answer_ends_quietly() {
        assert_eq!(Messages(&[200, 0, 0, 0, 1, 0]).next(), None);
        assert_eq!(Attributes(&[9, 0, 1]).next(), None);
        assert!(parse_address(&[0; 7]).is_none());
        assert_eq!(error_in(&[]), Err(Errno::EPROTO));
    }
}
