//! Containers that criu makes: their folder and record, as `create` would have made them.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::{Pid, geteuid};

use super::container::Container;
use super::create::{Prepared, prepare};
use super::delete;
use super::error::{Result, RuntimeError};
use super::foreground::Foreground;
use super::launch::Launched;
use super::receipts;
use super::status::ProcessId;
use super::store::Store;
use crate::exit::ExitStatus;
use crate::receipt::{End, Found};
use crate::sys::process::pidfd_open;

impl Store {
    /// A container without processes, with its record and config saved.
    ///
    /// # Errors
    /// As for `create`.
    pub fn prepare(&self, id: &str, bundle: &Path) -> Result<Container> {
        let spec = super::bundle::load(bundle)?;
        super::validate::validate(&spec, false, !geteuid().is_root())?;
        let Prepared { container, .. } = prepare(self, id, spec, bundle)?;
        Ok(container)
    }
}

impl Container {
    /// Records that init runs, and writes the pid file.
    ///
    /// # Errors
    /// Neither may fail.
    pub fn set_running(&mut self, init: Pid, pid_file: Option<&Path>) -> anyhow::Result<()> {
        let record = self.record_mut();
        record.init = Some(ProcessId::of(init.as_raw())?);
        record.ready = true;
        self.save()?;
        if let Some(path) = pid_file {
            super::pid_file::write(path, init)?;
        }
        Ok(())
    }

    /// Waits for init, which is a child of rt, and deletes the container.
    ///
    /// # Errors
    /// It cannot be waited for, and was ended; or something of it cannot be removed.
    pub fn wait_and_delete(
        &mut self,
        store: &Store,
        foreground: Foreground,
        master: Option<OwnedFd>,
    ) -> Result<ExitStatus> {
        self.unlock();
        let end = self.wait(foreground, master).inspect_err(|_| delete::destroy_unwatched(store, self))?;
        receipts::leave(store, self, Found::Stopped, Some(end));
        self.destroy()?;
        Ok(end.into())
    }

    fn wait(&self, mut foreground: Foreground, master: Option<OwnedFd>) -> Result<End> {
        let pid = Pid::from_raw(self.init_pid());
        let pidfd = pidfd_open(pid.as_raw()).map_err(RuntimeError::call("pidfd_open"))?;
        if let Some(master) = master {
            foreground.attach_master(master)?;
        }
        foreground.wait(&Launched { pid, pidfd })
    }

    /// Removes everything of it.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn destroy(&mut self) -> Result<()> {
        delete::destroy(self)
    }
}
