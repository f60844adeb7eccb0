//! The container's network, as far as it is the runtime's business: loopback in a new namespace, and devices of
//! the host that the spec moves into it.

mod netlink;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, LinuxNetDevice};

use self::netlink::{Address, Netlink};
use super::process::reason::Reason;

/// Why the network could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Devices without a namespace to move them to.
    #[error("unable to move network devices without a NET namespace")]
    NoNamespace,
    /// Devices are the host's: an ordinary user cannot give them away.
    #[error("network devices are not supported for rootless containers")]
    Rootless,
    /// No name the kernel would take.
    #[error("invalid network device name {0:?}")]
    Name(String),
    /// A device could not be moved.
    #[error("move netDevice {device} to namespace {namespace}: {cause}")]
    Move {
        /// Its name on the host.
        device: String,
        /// Where it was to go.
        namespace: String,
        /// The step that failed.
        cause: Box<NetworkError>,
    },
    /// A step failed.
    #[error("{step}: {reason}")]
    Step {
        /// "fail to set link down" and the like.
        step: String,
        /// The kernel's answer.
        reason: Reason,
    },
}

fn step(step: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> NetworkError {
    let step = step.into();
    |errno| NetworkError::Step { step, reason: errno.into() }
}

/// Switches the loopback device on. Called by the process in its new network namespace.
pub fn loopback_up() -> Result<(), NetworkError> {
    let switch_on = || {
        let netlink = Netlink::open()?;
        netlink.set_up(netlink.index_of("lo")?, true)
    };
    switch_on().map_err(step("cannot bring up the loopback device"))
}

/// Checks the devices of a spec, in the parent.
pub fn validate(
    devices: &HashMap<String, LinuxNetDevice>,
    namespaces: &[LinuxNamespace],
    rootless: bool,
) -> Result<(), NetworkError> {
    if devices.is_empty() {
        return Ok(());
    }
    if namespaces.iter().all(|namespace| namespace.typ() != LinuxNamespaceType::Network) {
        return Err(NetworkError::NoNamespace);
    }
    if rootless {
        return Err(NetworkError::Rootless);
    }
    let renamed =
        devices.values().filter_map(|device| device.name().as_ref()).filter(|name| !name.is_empty());
    match devices.keys().chain(renamed).find(|name| !is_valid_name(name)) {
        Some(name) => Err(NetworkError::Name(name.clone())),
        None => Ok(()),
    }
}

/// dev_valid_name() of the kernel's net/core/dev.c.
fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < libc::IFNAMSIZ
        && name != "."
        && name != ".."
        && !name.contains(['/', ':'])
        && !name.contains(|letter: char| letter.is_ascii_whitespace())
}

/// Moves devices of the caller's network namespace into that of the process `pid`, with their permanent global
/// addresses, and switches them on there.
pub fn move_devices(devices: &HashMap<String, LinuxNetDevice>, pid: i32) -> Result<(), NetworkError> {
    if devices.is_empty() {
        return Ok(());
    }
    let target = Target::open(format!("/proc/{pid}/ns/net"))?;
    let host = Netlink::open().map_err(step("cannot open a netlink socket"))?;
    for (name, device) in devices {
        let new_name = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(name);
        move_device(&host, name, new_name, &target).map_err(|cause| NetworkError::Move {
            device: name.clone(),
            namespace: target.path.clone(),
            cause: Box::new(cause),
        })?;
    }
    Ok(())
}

/// The namespace that devices are moved to.
struct Target {
    path: String,
    namespace: OwnedFd,
    netlink: Netlink,
}

impl Target {
    fn open(path: String) -> Result<Self, NetworkError> {
        let open = |path: &str| {
            File::open(path).map(OwnedFd::from).map_err(|error| NetworkError::Step {
                step: format!("could not get network namespace from path {path}"),
                reason: Reason::of(&error),
            })
        };
        let namespace = open(&path)?;
        let own = open("/proc/self/ns/net")?;
        // A socket belongs to the namespace it is made in for ever: a short visit is enough.
        setns(&namespace, CloneFlags::CLONE_NEWNET)
            .map_err(step(format!("cannot enter network namespace {path}")))?;
        let netlink = Netlink::open();
        setns(&own, CloneFlags::CLONE_NEWNET).map_err(step("cannot return to the own network namespace"))?;
        Ok(Self { netlink: netlink.map_err(step("cannot open a netlink socket"))?, namespace, path })
    }
}

fn move_device(host: &Netlink, name: &str, new_name: &str, target: &Target) -> Result<(), NetworkError> {
    let path = &target.path;
    let index = host
        .index_of(name)
        .map_err(step(format!("link not found for interface {name} on runtime namespace")))?;
    let addresses = host.addresses_of(index).map_err(step("fail to get ip addresses"))?;
    // Nothing else on the host shall use the link while its name and place change. Only after the addresses were
    // read, because IPv6 ones are gone once the link is down.
    host.set_up(index, false).map_err(step("fail to set link down"))?;
    host.move_link(index, new_name, &target.namespace)
        .map_err(step(format!("fail to move network device {name} to network namespace {path}")))?;

    // The index can be another one there.
    let there = &target.netlink;
    let index = there
        .index_of(new_name)
        .map_err(step(format!("link not found for interface {new_name} on namespace {path}")))?;
    for address in addresses.iter().filter(|address| is_kept(address)) {
        there
            .add_address(index, address)
            .map_err(step(format!("fail to set up address {address} on namespace {path}")))?;
    }
    there
        .set_up(index, true)
        .map_err(step(format!("fail to set up interface {new_name} on namespace {path}")))
}

/// The kernel drops all addresses of a link that moves. Those somebody configured for the world come back;
/// leased ones and those of the link alone mean nothing in another namespace.
fn is_kept(address: &Address) -> bool {
    address.flags & libc::IFA_F_PERMANENT != 0 && address.scope == libc::RT_SCOPE_UNIVERSE
}

#[cfg(test)]
mod tests;
