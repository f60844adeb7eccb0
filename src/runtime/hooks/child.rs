//! One hook process: started in a process group of its own, fed with the state, listened to until it ends or
//! its time is over. rt has one thread, so that all of it is one poll loop.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use oci_spec::runtime::Hook;

use super::HookRun;
use crate::runtime::process::reason::Reason;
use crate::sys::process::pidfd_open;

/// More than that of one stream is read and thrown away.
const KEPT: usize = 64 << 10;
/// How often a child is looked at where the kernel gives no descriptor of it.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a hook printed, made printable.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// How a hook ended.
pub enum Ended {
    /// By itself.
    Exited(ExitStatus, Output),
    /// Killed with its process group.
    TimedOut,
}

/// A running hook.
pub struct Running {
    child: Child,
    /// Readable when the hook has ended; None: the kernel or a seccomp filter refuses it.
    ended: Option<OwnedFd>,
    stdin: Option<ChildStdin>,
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
}

/// Starts the program with exactly the arguments of the hook, argv[0] included.
pub fn start(hook: &Hook, run: &HookRun<'_>) -> io::Result<Running> {
    // A path without a slash is relative to the working directory; PATH is never searched.
    let path = if hook.path().components().count() == 1 {
        Path::new(".").join(hook.path())
    } else {
        hook.path().clone()
    };
    let mut command = Command::new(path);
    match hook.args().as_deref() {
        Some([name, rest @ ..]) => command.arg0(name).args(rest),
        _ => command.arg0(hook.path()),
    };
    let own = hook.env().as_deref().filter(|env| !env.is_empty() || run.default_env.is_none());
    if let Some(env) = own {
        command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
    } else if let Some(env) = run.default_env {
        command.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    }
    if let Some(cwd) = run.cwd {
        command.current_dir(cwd);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    if let Some(stdin) = &stdin {
        fcntl(stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    Ok(Running {
        ended: i32::try_from(child.id()).ok().and_then(|pid| pidfd_open(pid).ok()),
        stdin,
        stdout: Stream::new(child.stdout.take())?,
        stderr: Stream::new(child.stderr.take())?,
        child,
    })
}

impl Running {
    /// Feeds the state and waits for the end.
    pub fn finish(mut self, mut state: &[u8], deadline: Option<Instant>) -> Result<Ended, Reason> {
        loop {
            self.stdout.read();
            self.stderr.read();
            self.feed(&mut state);
            if let Some(status) = self.child.try_wait().map_err(|error| Reason::of(&error))? {
                // What it printed before it ended is in the pipes. A process it left behind may keep them open
                // for ever, so that their end is not waited for.
                self.stdout.read();
                self.stderr.read();
                return Ok(Ended::Exited(
                    status,
                    Output { stdout: self.stdout.text(), stderr: self.stderr.text() },
                ));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                self.kill();
                return Ok(Ended::TimedOut);
            }
            self.wait_for_news(left);
        }
    }

    /// Writes what the pipe takes. A hook that does not read its input is fine.
    fn feed(&mut self, state: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        while !state.is_empty() {
            match stdin.write(state) {
                Ok(written) => *state = &state[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn wait_for_news(&self, left: Option<Duration>) {
        let files = [
            (self.ended.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            (self.stdin.as_ref().map(AsFd::as_fd), PollFlags::POLLOUT),
            (self.stdout.file.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            (self.stderr.file.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
        ];
        let mut watched: Vec<PollFd<'_>> =
            files.into_iter().filter_map(|(file, flags)| Some(PollFd::new(file?, flags))).collect();
        let left = if self.ended.is_some() { left } else { Some(left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)) };
        // Rounded up: a poll that returns just before the deadline would be repeated in a tight loop.
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        // An interruption or an error only means another look at the child.
        let _ = poll(&mut watched, timeout);
    }

    fn kill(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // The group can be gone already; the child itself is still ours to wait for.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One output stream of a hook.
struct Stream<F> {
    file: Option<F>,
    kept: Vec<u8>,
}

impl<F: Read + AsFd> Stream<F> {
    fn new(file: Option<F>) -> io::Result<Self> {
        if let Some(file) = &file {
            fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self { file, kept: Vec::new() })
    }

    /// Reads all there is now.
    fn read(&mut self) {
        let Some(file) = &mut self.file else { return };
        let mut buffer = [0_u8; 4096];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    let room = KEPT - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.file = None;
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}
