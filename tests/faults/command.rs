//! Runs one command of the runtime, as it is or under a tracer, with its output in memory and a time limit.
#![allow(unsafe_code, reason = "a command that waits for its tracer needs code between fork and exec")]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::termios::{Termios, tcgetattr};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, pipe2, read, write};

use super::fault::Fault;
use super::point::Call;
use super::tracer::{Trace, Tracer};

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// 128 + n after signal n; `None` if it did not end in time and was killed.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// How the terminal was left that the command had as its input.
    pub terminal: Option<&'static str>,
}

/// A command line of the runtime.
#[derive(Debug)]
pub struct Line {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: (String, String),
    pub folder: PathBuf,
    /// Its input is a terminal.
    pub terminal: bool,
    pub limit: Duration,
}

impl Line {
    /// Runs it to its end.
    pub fn run(&self) -> Ended {
        let (mut command, output) = self.command();
        let child = command.spawn().expect("the runtime starts");
        output.end(child, None, Instant::now() + self.limit)
    }

    /// Runs it under a tracer, which makes `fault` happen or lists all calls.
    pub fn trace(&self, fault: Option<(Call, Fault)>) -> (Ended, Trace) {
        let deadline = Instant::now() + self.limit;
        let (mut command, output) = self.command();
        let (pid_to_read, pid_to_write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let (go_to_read, go_to_write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let (sender, receiver) = channel();
        let runtime = self.program.clone();
        std::thread::spawn(move || {
            let mut number = [0; 4];
            let _ = read(&pid_to_read, &mut number);
            let tracer = Tracer::seize(Pid::from_raw(i32::from_ne_bytes(number)), &runtime, fault);
            let _ = write(&go_to_write, b"g");
            drop(go_to_write);
            let _ = sender.send(tracer.map(Tracer::follow));
        });
        let wait_for_tracer = move || {
            write(&pid_to_write, &getpid().as_raw().to_ne_bytes())?;
            match read(&go_to_read, &mut [0])? {
                1 => Ok(()),
                _ => Err(Errno::ESRCH.into()),
            }
        };
        // SAFETY: the closure makes system calls only, which are safe between fork and exec.
        unsafe { command.pre_exec(wait_for_tracer) };
        let child = command.spawn().expect("the runtime starts");
        let trace = match receiver.recv_timeout(self.limit) {
            Ok(trace) => trace.expect("a child can be traced"),
            // Nothing more happens there: what is still traced is killed by the caller, who finds it by its mark.
            Err(_) => return (output.killed(child), Trace::default()),
        };
        (output.end(child, trace.code, deadline), trace)
    }

    fn command(&self) -> (Command, Output) {
        let output = Output { terminal: self.terminal.then(Pty::open), ..Output::new() };
        let input = output.terminal.as_ref().map(|pty| pty.slave.try_clone().expect("a duplicate"));
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env(&self.environment.0, &self.environment.1)
            .current_dir(&self.folder)
            .stdin(input.map_or_else(Stdio::null, Stdio::from))
            .stdout(output.out.try_clone().expect("a duplicate"))
            .stderr(output.err.try_clone().expect("a duplicate"));
        (command, output)
    }
}

/// Where a command's output goes: a file, since a container that is detached keeps a pipe open.
struct Output {
    out: File,
    err: File,
    terminal: Option<Pty>,
}

/// A terminal on which nobody types.
struct Pty {
    /// Kept open.
    _master: OwnedFd,
    slave: OwnedFd,
    modes: Termios,
}

impl Pty {
    fn open() -> Self {
        let pty = openpty(None, None).expect("a terminal");
        for fd in [&pty.master, &pty.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag");
        }
        let modes = tcgetattr(&pty.slave).expect("modes");
        Self { _master: pty.master, slave: pty.slave, modes }
    }

    fn state(&self) -> &'static str {
        match tcgetattr(&self.slave).expect("modes") == self.modes {
            true => "as it was",
            false => "in other modes",
        }
    }
}

impl Output {
    fn new() -> Self {
        let file = || memfd_create(c"output", MFdFlags::MFD_CLOEXEC).expect("a file in memory").into();
        Self { out: file(), err: file(), terminal: None }
    }

    /// Waits for the command, unless it is known how it ended.
    fn end(self, child: Child, code: Option<i32>, deadline: Instant) -> Ended {
        let mut pause = Duration::from_micros(100);
        let code = code.or_else(|| {
            loop {
                // A wait would also tell of stops for a tracer that is about to let go.
                if is_dead(&child) {
                    break wait_for(&child);
                }
                if Instant::now() >= deadline {
                    break None;
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
        });
        if code.is_none() {
            return self.killed(child);
        }
        self.ended(code)
    }

    fn killed(self, mut child: Child) -> Ended {
        let _ = child.kill();
        let _ = child.wait();
        self.ended(None)
    }

    fn ended(self, code: Option<i32>) -> Ended {
        let terminal = self.terminal.as_ref().map(Pty::state);
        Ended { code, terminal, stdout: text(&self.out), stderr: text(&self.err) }
    }
}

fn is_dead(child: &Child) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()));
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])))
}

fn wait_for(child: &Child) -> Option<i32> {
    match waitpid(Pid::from_raw(child.id().cast_signed()), None) {
        Ok(WaitStatus::Exited(_, code)) => Some(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
        _ => None,
    }
}

/// A file from its start; its offset, at which others may write on, stays.
fn text(file: &File) -> String {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut bytes = Vec::new();
    let _ = File::open(Path::new(&path)).and_then(|mut again| again.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
