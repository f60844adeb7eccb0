//! A foreground `run` or `exec`: signals and the terminal are passed on, children are reaped, and the process's status
//! comes back. Signals are blocked before the process is made and read from a descriptor, so that none is lost, not even
//! that of a process which ends at once.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, read, write};

use super::error::{Result, RuntimeError};
use super::launch::Launched;
use super::terminal::{HostTerminal, clear_newline_translation};
use crate::receipt::End;
use crate::sys::clone::{pidfd_send_signal, set_child_subreaper};
use crate::sys::socket::receive;

/// What the process is given that it does not share with rt.
pub struct Foreground {
    signals: SignalFd,
    terminal: Option<Terminal>,
}

/// A terminal of the container, relayed to the caller's.
struct Terminal {
    host: HostTerminal,
    /// Where the container's end comes in, and what the process sends it through.
    socket: OwnedFd,
    childs_socket: OwnedFd,
    master: Option<OwnedFd>,
    /// Typed, and not yet taken by the container.
    pending: Vec<u8>,
    stdin_open: bool,
}

impl Foreground {
    /// Blocks signals, finds the terminal if one is asked for, and adopts orphans of the process if `subreaper`.
    ///
    /// # Errors
    /// There is no terminal.
    pub fn prepare(terminal: bool, subreaper: bool) -> Result<Self> {
        if subreaper {
            set_child_subreaper().map_err(RuntimeError::call("prctl(SET_CHILD_SUBREAPER)"))?;
        }
        let mut blocked = SigSet::all();
        // These tell of rt's own mistakes.
        for signal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGPIPE] {
            blocked.remove(signal);
        }
        blocked.thread_block().map_err(RuntimeError::call("sigprocmask"))?;
        let signals = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(RuntimeError::call("signalfd"))?;
        Ok(Self { signals, terminal: terminal.then(Terminal::find).transpose()? })
    }

    /// Where the process sends its terminal.
    pub fn console(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref().map(|terminal| &terminal.childs_socket)
    }

    /// Takes the terminal that the process sent. From now on keys go to the container.
    ///
    /// # Errors
    /// None came.
    pub fn attach(&mut self) -> Result<()> {
        match &mut self.terminal {
            Some(terminal) => terminal.attach(),
            None => Ok(()),
        }
    }

    /// Takes a terminal that came another way (from criu).
    ///
    /// # Errors
    /// The caller's terminal cannot be set.
    pub fn attach_master(&mut self, master: OwnedFd) -> Result<()> {
        match &mut self.terminal {
            Some(terminal) => terminal.take(master),
            None => Ok(()),
        }
    }

    /// Relays until the process has ended.
    ///
    /// # Errors
    /// A system call failed in a way that cannot be.
    pub fn wait(mut self, process: &Launched) -> Result<End> {
        loop {
            if let Some(end) = self.relay_signals(process)? {
                if let Some(terminal) = &mut self.terminal {
                    terminal.drain();
                }
                return Ok(end);
            }
            self.wait_for_something()?;
            if let Some(terminal) = &mut self.terminal {
                terminal.relay();
            }
        }
    }

    fn wait_for_something(&self) -> Result<()> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let stdin = io::stdin();
        if let Some(terminal) = &self.terminal
            && let Some(master) = &terminal.master
        {
            let mut events = PollFlags::POLLIN;
            if !terminal.pending.is_empty() {
                events |= PollFlags::POLLOUT;
            }
            fds.push(PollFd::new(master.as_fd(), events));
            if terminal.stdin_open && terminal.pending.is_empty() {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(RuntimeError::call("poll")(errno)),
        }
    }

    /// Passes signals on; the status of the process once it has ended.
    fn relay_signals(&self, process: &Launched) -> Result<Option<End>> {
        // Asked every time and not only at SIGCHLD: several signals of one kind come as one.
        let mut ended = reap(process.pid)?;
        while let Some(info) = self.signals.read_signal().map_err(RuntimeError::call("read signals"))? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match number {
                libc::SIGCHLD => ended = ended.or(reap(process.pid)?),
                libc::SIGWINCH => {
                    if let Some(terminal) = &self.terminal {
                        terminal.resize();
                    }
                }
                libc::SIGURG => {}
                signal => {
                    if let Err(error) = pidfd_send_signal(&process.pidfd, signal) {
                        tracing::debug!("cannot pass signal {signal} on: {error}");
                    }
                }
            }
        }
        Ok(ended)
    }
}

/// Takes every child that has ended, and the status of `wanted` if it is among them.
fn reap(wanted: Pid) -> Result<Option<End>> {
    let mut found = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == wanted => {
                found = Some(End::Exit(u8::try_from(code & 0xff).unwrap_or(255)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == wanted => {
                found = Some(End::Signal(signal as i32));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(found),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(RuntimeError::call("waitpid")(errno)),
        }
    }
}

impl Terminal {
    fn find() -> Result<Self> {
        let host = HostTerminal::find()?;
        let (socket, childs_socket) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .map_err(RuntimeError::call("socketpair"))?;
        Ok(Self { host, socket, childs_socket, master: None, pending: Vec::new(), stdin_open: true })
    }

    fn attach(&mut self) -> Result<()> {
        let (_, descriptors) =
            receive(&self.socket, &mut [0; 64]).map_err(RuntimeError::call("receive the terminal"))?;
        match descriptors.into_iter().next() {
            Some(master) => self.take(master),
            None => Err(RuntimeError::start("the container sent no terminal")),
        }
    }

    fn take(&mut self, master: OwnedFd) -> Result<()> {
        if let Err(errno) = clear_newline_translation(&master) {
            tracing::debug!("cannot set the mode of the container's terminal: {errno}");
        }
        let flags = fcntl(&master, FcntlArg::F_GETFL).map_err(RuntimeError::call("fcntl"))?;
        let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
        fcntl(&master, FcntlArg::F_SETFL(flags)).map_err(RuntimeError::call("fcntl"))?;
        self.host.pass_size(&master);
        self.host.make_raw()?;
        self.master = Some(master);
        Ok(())
    }

    fn resize(&self) {
        if let Some(master) = &self.master {
            self.host.pass_size(master);
        }
    }

    /// Moves what can be moved without waiting.
    fn relay(&mut self) {
        if self.stdin_open && self.pending.is_empty() && is_readable(io::stdin().as_fd()) {
            let mut keys = [0; 4096];
            match read(io::stdin(), &mut keys) {
                Ok(length) if length > 0 => self.pending.extend_from_slice(&keys[..length]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                _ => self.stdin_open = false,
            }
        }
        if let Some(master) = self.master.as_ref().filter(|_| !self.pending.is_empty()) {
            match write(master, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.pending.clear(),
            }
        }
        self.show(1);
    }

    /// Shows what the container has printed, at most `rounds` buffers of it.
    fn show(&mut self, rounds: usize) {
        let mut buffer = [0; 16 << 10];
        for _ in 0..rounds {
            let Some(master) = &self.master else { return };
            match read(master, &mut buffer) {
                Ok(length) if length > 0 => {
                    let _ = io::stdout().write_all(&buffer[..length]).and_then(|()| io::stdout().flush());
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // EIO: nobody has the other end any more.
                _ => {
                    self.master = None;
                    return;
                }
            }
        }
    }

    /// What was printed before the end is shown, but what still runs inside may not keep rt.
    fn drain(&mut self) {
        self.show(1024);
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    fd.as_raw_fd() >= 0 && poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
