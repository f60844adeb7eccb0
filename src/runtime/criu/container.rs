//! What a container adds to a restore: its cgroup, its hooks, its terminal.

use std::error::Error;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Hooks, LinuxNamespaceType, Spec};

use super::RestoreEvents;
use crate::runtime::cgroups::{Cgroup, Entered, Place};
use crate::runtime::hooks::{HookRun, run_all};

/// The name that goes with the terminal, as runc sends it.
const TERMINAL: &[u8] = b"orphan-pts-master";

/// The events of a container's restore.
pub struct ContainerEvents<'a> {
    /// Made, and with its limits.
    pub cgroup: &'a Cgroup,
    /// Where criu and init have to be, once criu has joined.
    pub place: Place,
    /// The container's hooks.
    pub hooks: Option<&'a Hooks>,
    /// The working directory of hooks.
    pub bundle: &'a Path,
    /// The OCI state with this pid, as JSON.
    pub state: &'a dyn Fn(Pid) -> Vec<u8>,
    /// Where the terminal goes; without it, it is kept in `master`.
    pub console_socket: Option<&'a Path>,
    /// The terminal's controlling end.
    pub master: Option<OwnedFd>,
    /// Saves that init runs with this pid.
    pub save: &'a mut dyn FnMut(Pid) -> anyhow::Result<()>,
}

impl RestoreEvents for ContainerEvents<'_> {
    fn join_cgroup(&mut self, criu: Pid) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.place = self.cgroup.join(criu, Entered::default())?;
        Ok(self.place.verify(criu)?)
    }

    fn namespaces_ready(&mut self, init: Pid) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.place.verify(init)?;
        let Some(hooks) = self.hooks else { return Ok(()) };
        let prestart = hooks.prestart();
        for (name, list) in [("prestart", prestart), ("createRuntime", hooks.create_runtime())] {
            let list: &[Hook] = list.as_deref().unwrap_or_default();
            if !list.is_empty() {
                let run = HookRun { name, cwd: Some(self.bundle), default_env: None };
                run_all(list, &(self.state)(init), &run)?;
            }
        }
        Ok(())
    }

    fn terminal(&mut self, master: OwnedFd) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self.console_socket {
            Some(path) => send_terminal(path, &master)?,
            None => self.master = Some(master),
        }
        Ok(())
    }

    fn restored(&mut self, init: Pid) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.place.verify(init)?;
        Ok((self.save)(init)?)
    }
}

fn send_terminal(path: &Path, master: &OwnedFd) -> std::io::Result<()> {
    let socket = UnixStream::connect(path)?;
    let descriptors = [master.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let data = [IoSlice::new(TERMINAL)];
    sendmsg::<()>(socket.as_raw_fd(), &data, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// The directories that are bind-mounted below /sys/fs/cgroup: none where the container has a cgroup namespace
/// and mounts the hierarchies themselves.
#[must_use]
pub fn cgroup_binds(spec: &Spec, cgroup: &Cgroup) -> Vec<(String, PathBuf)> {
    let linux = spec.linux().as_ref();
    let mut namespaces = linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten();
    let own = namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup);
    if own { Vec::new() } else { cgroup.v1_paths() }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_terminal_is_sent_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        send_terminal(&path, &writer).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        let mut buffer = [0; 64];
        let (length, descriptors) = crate::sys::socket::receive(&socket, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], descriptors.len()), (TERMINAL, 1));
        assert_eq!(socket.read(&mut buffer).unwrap(), 0);
        assert!(send_terminal(&folder.path().join("none"), &writer).is_err());
    }
}
