//! Logging in runc's (logrus') formats, and what is said of an error that ends a command.
//!
//! A line is formatted into one buffer and written by one `write` to a descriptor that is close-on-exec: the
//! file may be shared with other processes, and forked children go on logging without a lock.

mod format;

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{MsgFlags, sendmsg};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::cli::{Global, LogFormat};
use crate::printable::printable;
use crate::runtime::process::reason::Reason;
use crate::sys::process::close_number;

/// What can be done about an error: attached to it with `.context(Hint(…))`. It is printed on a line of its
/// own and shows up in no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint(pub String);

impl std::fmt::Display for Hint {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

/// The log file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot open log file '{}'", path.display())]
pub struct Error {
    path: PathBuf,
    source: std::io::Error,
}

/// Where lines go and which of them.
struct Log {
    /// `--log`, stderr if none.
    file: Option<File>,
    format: LogFormat,
    level: LevelFilter,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// What a line that a child sends begins with.
pub const TAG: u8 = b'D';

/// In a child, the socket to which lines go in place of the log file. Negative: [`NOT_IN_CHILD`], or nobody listens any more.
static SOCKET: AtomicI32 = AtomicI32::new(NOT_IN_CHILD);
const NOT_IN_CHILD: i32 = -1;
const ENDED: i32 = -2;

/// In a child that a container may see: lines go to the parent from now on, behind [`TAG`] in a packet of `socket`. The log
/// file, which is the host's, is closed the first time.
pub fn to_parent(socket: BorrowedFd<'_>) {
    let Some(file) = LOG.get().and_then(|log| log.file.as_ref()) else { return };
    if SOCKET.swap(socket.as_raw_fd(), Ordering::Relaxed) == NOT_IN_CHILD {
        let _ = close_number(file.as_raw_fd());
    }
}

/// In a parent whose child ran on its memory: lines go to the log file as before.
pub fn back_in_parent() {
    SOCKET.store(NOT_IN_CHILD, Ordering::Relaxed);
}

/// In a child whose socket is closed: there is nobody left to tell.
pub fn end_in_child() {
    let in_child = SOCKET.load(Ordering::Relaxed) != NOT_IN_CHILD;
    if in_child {
        SOCKET.store(ENDED, Ordering::Relaxed);
    }
}

/// In the parent: writes a line that a child sent.
pub fn pass_on(line: &[u8]) {
    if let Some(file) = LOG.get().and_then(|log| log.file.as_ref()) {
        let _ = { file }.write_all(line);
    }
}

fn send_to_parent(socket: i32, line: &[u8]) {
    let packet = [IoSlice::new(&[TAG]), IoSlice::new(line)];
    let _ = sendmsg::<()>(socket, &packet, &[], MsgFlags::MSG_NOSIGNAL, None);
}

/// Starts logging as `global` asks. Without it nothing is logged but [`report`] works.
///
/// # Errors
/// The log file cannot be opened.
pub fn init(global: &Global) -> Result<(), Error> {
    let file = global.log.as_deref().map(open).transpose()?;
    let level = match (global.debug, &file) {
        (true, _) => LevelFilter::DEBUG,
        (false, Some(_)) => LevelFilter::INFO,
        (false, None) => LevelFilter::WARN,
    };
    if LOG.set(Log { file, format: global.log_format, level }).is_ok() {
        // A second subscriber is only possible where a test has set its own.
        let _ = tracing::subscriber::set_global_default(Lines);
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o644).custom_flags((OFlag::O_CLOEXEC | OFlag::O_NOCTTY).bits());
    options.open(path).map_err(|source| Error { path: path.to_owned(), source })
}

/// Says that a command failed: `error: …` and the hint on stderr, and as the last error of the log file, where
/// engines look for it.
pub fn report(error: &anyhow::Error) {
    let message = chain(error);
    if let Some(log) = LOG.get().filter(|log| log.file.is_some()) {
        log.write("error", &message, &[]);
    }
    let hint = error.downcast_ref::<Hint>().map(|hint| format!("hint: {}\n", hint.0)).unwrap_or_default();
    to_stderr(printable(&format!("error: {message}\n{hint}")).as_bytes());
}

/// The messages of an error and its causes, from the outside in, each said once. What the kernel said is put
/// as runc puts it: without a number, and with a small first letter.
#[must_use]
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = words(cause);
        let said = text.len().checked_sub(part.len()).and_then(|at| text.get(at..));
        if part.is_empty() || said.is_some_and(|said| said.eq_ignore_ascii_case(&part)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}

fn words(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(errno) = error.downcast_ref::<Errno>() {
        return Reason(*errno).to_string();
    }
    if let Some(number) = error.downcast_ref().and_then(std::io::Error::raw_os_error) {
        return Reason(Errno::from_raw(number)).to_string();
    }
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => words.to_owned(),
        _ => text,
    }
}

/// The number of the descriptor of the log file, for a child that closes what it does not know.
#[must_use]
pub fn descriptor() -> Option<BorrowedFd<'static>> {
    use std::os::fd::AsFd;
    LOG.get().and_then(|log| log.file.as_ref()).map(File::as_fd)
}

/// Writes to standard error. Unlike `eprint!` it does not panic where that fails: nobody is left to tell.
pub fn to_stderr(line: &[u8]) {
    let mut rest = line;
    while !rest.is_empty() {
        match nix::unistd::write(std::io::stderr(), rest) {
            Ok(0) => return,
            Ok(written) => rest = &rest[written..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

impl Log {
    fn write(&self, level: &str, message: &str, fields: &[(&str, String)]) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = match self.format {
            LogFormat::Json => format::json(now, level, message, fields),
            LogFormat::Text => format::text(now, level, message, fields),
        };
        match (&self.file, SOCKET.load(Ordering::Relaxed)) {
            (Some(file), NOT_IN_CHILD) => drop({ file }.write_all(line.as_bytes())),
            (Some(_), socket) => send_to_parent(socket, line.as_bytes()),
            // Nothing is left of control characters, but of what turns the order of what is read.
            (None, _) => to_stderr(printable(&line).as_bytes()),
        }
    }
}

/// The subscriber: events only, spans are ignored.
struct Lines;

/// Whether an event's place is in rt. The libraries' own events are for debugging: they log errors for
/// what is expected and handled.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().strip_prefix("rt").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() && self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let Some(log) = LOG.get() else { return false };
        let level = if is_ours(metadata) { metadata.level() } else { metadata.level().max(&Level::DEBUG) };
        *level <= log.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        LOG.get().map(|log| log.level)
    }

    fn event(&self, event: &Event<'_>) {
        let Some(log) = LOG.get() else { return };
        let level = match *event.metadata().level() {
            _ if !is_ours(event.metadata()) => "debug",
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        log.write(level, &fields.message, &fields.others);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// What an event carries.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.take(field, value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

impl Fields {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.others.push((name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_chain_says_everything_once_and_no_hint() {
        let error = anyhow!("permission denied").context("cannot join cgroup '/x'");
        assert_eq!(chain(&error), "cannot join cgroup '/x': permission denied");
        let error = error.context(Hint("run as root".to_owned())).context("create failed");
        assert_eq!(chain(&error), "create failed: cannot join cgroup '/x': permission denied");
        assert_eq!(error.downcast_ref::<Hint>().unwrap().0, "run as root");
        let repeated = anyhow!("no such file").context("cannot read: no such file");
        assert_eq!(chain(&repeated), "cannot read: no such file");
        let os = || std::io::Error::from_raw_os_error(libc::ENOENT);
        let error = anyhow::Error::from(os()).context("stat /x");
        assert_eq!(chain(&error), "stat /x: no such file or directory");
        let embedded = anyhow::Error::from(os()).context(format!("stat /x: {}", os()));
        assert_eq!(chain(&embedded), "stat /x: No such file or directory");
        let errno = anyhow::Error::from(nix::errno::Errno::EPERM).context("mount");
        assert_eq!(chain(&errno), "mount: operation not permitted");
    }

    #[test]
    fn the_file_is_appended_to_and_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for format in [LogFormat::Json, LogFormat::Text] {
            let file = Some(open(&path).unwrap());
            Log { file, format, level: LevelFilter::INFO }.write("error", "no\nway", &[]);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with(r#"{"level":"error","msg":"no\nway","time":"20"#), "{text}");
        assert!(lines[1].ends_with(r#"level=error msg="no\nway""#), "{text}");
        let error = Err::<File, _>(open(&path.join("x")).unwrap_err()).context("log").unwrap_err();
        assert!(chain(&error).starts_with("log: cannot open log file '/"), "{error:#}");
    }
}
