//! Running a program so that it cannot hang a test: output goes to files (a detached container keeps a pipe open for
//! ever), and there is a time limit on everything.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// What a program left: its exit code (128 + n after signal n) and everything it printed.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    line: String,
}

impl Outcome {
    /// stdout and stderr in one text.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.code == 0, "{self}");
        self
    }

    /// Failed by itself, with these words on stderr or stdout; a death by a signal (a crash) does not count.
    #[track_caller]
    pub fn fails_with(self, words: &str) -> Self {
        assert!(self.code > 0 && self.code != 134 && self.code != 139, "should have failed: {self}");
        // A log line of runc's escapes quotes.
        assert!(self.text().replace("\\\"", "\"").contains(words), "no '{words}' in: {self}");
        self
    }

    /// stdout as JSON; the one record of a proof that was printed with the summary of its run.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let records = self.stdout.trim_end().strip_suffix('}').and_then(|text| text.rsplit_once('\n'));
        let record =
            records.filter(|(_, summary)| summary.contains("\"kind\":\"run\"")).map(|(record, _)| record);
        let text = record.unwrap_or(&self.stdout);
        serde_json::from_str(text).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, code, stdout, stderr, took } = self;
        write!(f, "`{line}` exited {code} after {took:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// A program to run; a builder.
#[derive(Debug)]
pub struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

impl Run {
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self { command: Command::new(program.as_ref()), stdin: None, limit: PATIENCE }
    }

    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        let limit = self.limit;
        self.spawn().wait(limit)
    }

    /// Runs it to its end, which must be success.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.run().succeeds()
    }

    /// Starts it and returns at once.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let line = format!("{:?}", self.command);
        let out = tempfile::tempfile().expect("a temporary file");
        let err = tempfile::tempfile().expect("a temporary file");
        let stdin = match self.stdin.take() {
            Some(bytes) => {
                let mut file = tempfile::tempfile().expect("a temporary file");
                file.write_all(&bytes).and_then(|()| file.rewind()).expect("stdin's bytes in a file");
                Stdio::from(file)
            }
            None => Stdio::null(),
        };
        self.command.stdin(stdin);
        self.command.stdout(out.try_clone().expect("a duplicate"));
        self.command.stderr(err.try_clone().expect("a duplicate"));
        let child = self.command.spawn().unwrap_or_else(|e| panic!("cannot start {line}: {e}"));
        Running { child, out, err, line, since: Instant::now() }
    }
}

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: File,
    err: File,
    line: String,
    since: Instant,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("a signal to a child");
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it printed up to now on stdout and stderr.
    pub fn text(&self) -> String {
        read_all(&self.out) + &read_all(&self.err)
    }

    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the status of a child") {
                break status;
            }
            if self.since.elapsed() > limit {
                let text = self.text();
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("{} did not end within {limit:?}; it printed:\n{text}", self.line);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Outcome {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: read_all(&self.out),
            stderr: read_all(&self.err),
            took: self.since.elapsed(),
            line: self.line.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The file from its start; the offset that the program writes at stays where it is.
fn read_all(file: &File) -> String {
    let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)));
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|mut again| again.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
