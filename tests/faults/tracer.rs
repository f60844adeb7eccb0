//! Follows a tree of processes by ptrace, names its calls, and makes one of them fail.
//!
//! A tracer is a thread: when it ends, the kernel lets go of all that it traced, without a signal or an interrupted call. So after
//! the fault everything runs on at full speed. A process that executes another program than the runtime is let go at once.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::fault::{Fault, is_made_all_the_same};
use super::point::Call;

/// How long others of the tree are followed after the process that was started has ended.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// A call that was seen, or that a fault was put on.
#[derive(Debug, Clone)]
pub struct Seen {
    pub call: Call,
    pub arguments: [u64; 6],
}

/// What a tracer saw.
#[derive(Debug, Default)]
pub struct Trace {
    /// All calls, where no fault was asked for.
    pub calls: Vec<Seen>,
    /// The call that the fault was put on.
    pub hit: Option<Seen>,
    /// How the process that was started ended, if it did before the tracer: 128 + n after signal n.
    pub code: Option<i32>,
}

struct Tracee {
    name: String,
    in_call: bool,
    children: u32,
}

/// One run's tracer.
pub struct Tracer {
    root: Pid,
    /// The length of the runtime's binary: its copies and views have the same.
    length: u64,
    fault: Option<(Call, Fault)>,
    tracees: HashMap<Pid, Tracee>,
    /// Processes that stopped before their parent's event named them.
    unnamed: Vec<Pid>,
    counts: HashMap<(String, u64), u32>,
    names: HashMap<u64, String>,
    /// The process whose call is to return this when it comes back.
    pending: Option<(Pid, Errno)>,
    done: bool,
    trace: Trace,
}

impl Tracer {
    /// Takes hold of `root`, which has not yet executed `runtime`.
    pub fn seize(root: Pid, runtime: &Path, fault: Option<(Call, Fault)>) -> nix::Result<Self> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(root, options)?;
        let length = fs::metadata(runtime).map_or(0, |data| data.len());
        // The first stop is that of its execve.
        let first = Tracee { name: "0".to_owned(), in_call: true, children: 0 };
        Ok(Self {
            root,
            length,
            fault,
            tracees: HashMap::from([(root, first)]),
            unnamed: Vec::new(),
            counts: HashMap::new(),
            names: HashMap::new(),
            pending: None,
            done: false,
            trace: Trace::default(),
        })
    }

    /// Follows until the fault has happened or nothing is left to follow.
    pub fn follow(mut self) -> Trace {
        let mut ended: Option<Instant> = None;
        while !self.done {
            let mut flags = WaitPidFlag::__WALL | WaitPidFlag::from_bits_retain(libc::__WNOTHREAD);
            if ended.is_some() {
                flags |= WaitPidFlag::WNOHANG;
            }
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => {
                    if ended.is_some_and(|since| since.elapsed() > AFTERWARDS) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(status) => {
                    self.handle(status);
                    if self.trace.code.is_some() {
                        ended = Some(Instant::now());
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        self.trace
    }

    fn handle(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceSyscall(pid) => self.at_call(pid),
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => {
                let runs = fs::metadata(format!("/proc/{pid}/exe")).map_or(0, |data| data.len());
                if runs == self.length {
                    self.go_on(pid, None);
                } else {
                    self.tracees.remove(&pid);
                    let _ = ptrace::detach(pid, None);
                }
            }
            WaitStatus::PtraceEvent(
                pid,
                _,
                libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE,
            ) => {
                if let Ok(child) = ptrace::getevent(pid) {
                    self.name_child(pid, Pid::from_raw(i32::try_from(child).unwrap_or(0)));
                }
                self.go_on(pid, None);
            }
            WaitStatus::PtraceEvent(pid, _, _) if !self.tracees.contains_key(&pid) => self.unnamed.push(pid),
            WaitStatus::PtraceEvent(pid, _, _) => self.go_on(pid, None),
            WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal)),
            WaitStatus::Exited(pid, code) => self.gone(pid, code),
            WaitStatus::Signaled(pid, signal, _) => self.gone(pid, 128 + signal as i32),
            _ => {}
        }
    }

    fn gone(&mut self, pid: Pid, code: i32) {
        self.tracees.remove(&pid);
        if pid == self.root {
            self.trace.code = Some(code);
        }
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        // ESRCH: it was killed meanwhile, which the next wait tells.
        let _ = ptrace::syscall(pid, signal);
    }

    fn name_child(&mut self, parent: Pid, child: Pid) {
        let Some(above) = self.tracees.get_mut(&parent) else { return };
        let name = if thread_of(child).is_some_and(|process| process != child) {
            above.name.clone()
        } else {
            above.children += 1;
            format!("{}.{}", above.name, above.children - 1)
        };
        self.tracees.insert(child, Tracee { name, in_call: false, children: 0 });
        if let Some(at) = self.unnamed.iter().position(|pid| *pid == child) {
            self.unnamed.swap_remove(at);
            self.go_on(child, None);
        }
    }

    fn at_call(&mut self, pid: Pid) {
        let Some(tracee) = self.tracees.get_mut(&pid) else { return self.go_on(pid, None) };
        tracee.in_call = !tracee.in_call;
        if tracee.in_call {
            self.before_call(pid);
        } else {
            self.after_call(pid);
        }
    }

    fn before_call(&mut self, pid: Pid) {
        let Ok(registers) = ptrace::getregs(pid) else { return };
        let number = registers.orig_rax;
        let name = self.names.entry(number).or_insert_with(|| name_of(number)).clone();
        let process = self.tracees[&pid].name.clone();
        let nth = self.counts.entry((process.clone(), number)).or_insert(0);
        *nth += 1;
        let call = Call { process, name, nth: *nth };
        let arguments =
            [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        match self.fault.clone() {
            None => self.trace.calls.push(Seen { call, arguments }),
            Some((wanted, fault)) if wanted == call => {
                self.trace.hit = Some(Seen { call: call.clone(), arguments });
                match fault {
                    Fault::Kill => {
                        let _ = kill(pid, Signal::SIGKILL);
                        self.done = true;
                        return;
                    }
                    Fault::Fail(errno) => {
                        if !is_made_all_the_same(&call.name) {
                            let _ = ptrace::setregs(
                                pid,
                                libc::user_regs_struct { orig_rax: u64::MAX, ..registers },
                            );
                        }
                        self.pending = Some((pid, errno));
                    }
                }
            }
            Some(_) => {}
        }
        self.go_on(pid, None);
    }

    fn after_call(&mut self, pid: Pid) {
        if let Some((_, errno)) = self.pending.filter(|(whose, _)| *whose == pid) {
            if let Ok(registers) = ptrace::getregs(pid) {
                let rax = (-i64::from(errno as i32)).cast_unsigned();
                let _ = ptrace::setregs(pid, libc::user_regs_struct { rax, ..registers });
            }
            let _ = ptrace::detach(pid, None);
            self.done = true;
            return;
        }
        self.go_on(pid, None);
    }
}

/// The process that a thread belongs to.
fn thread_of(thread: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    process.trim().parse().ok().map(Pid::from_raw)
}

fn name_of(number: u64) -> String {
    let raw = i32::try_from(number).unwrap_or(-1);
    libseccomp::ScmpSyscall::from(raw).get_name().unwrap_or_else(|_| format!("call-{number}"))
}
