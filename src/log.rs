//! Logging in runc's (logrus') formats, and what is said of an error that ends a command.
//!
//! A line is formatted into one buffer and written by one `write` to a descriptor that is close-on-exec: the
//! file may be shared with other processes, and forked children go on logging without a lock.

mod format;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use nix::fcntl::OFlag;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::cli::{Global, LogFormat};

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
    to_stderr(format!("error: {message}\n{hint}").as_bytes());
}

/// The messages of an error and its causes, from the outside in, each said once.
#[must_use]
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        if part.is_empty() || text.ends_with(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}

/// The number of the descriptor of the log file, for a child that closes what it does not know.
#[must_use]
pub fn descriptor() -> Option<std::os::fd::BorrowedFd<'static>> {
    use std::os::fd::AsFd;
    LOG.get().and_then(|log| log.file.as_ref()).map(File::as_fd)
}

/// There is nobody left to tell of a failure here.
fn to_stderr(line: &[u8]) {
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
        match &self.file {
            Some(file) => drop({ file }.write_all(line.as_bytes())),
            None => to_stderr(line.as_bytes()),
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
