//! `monitor`: the memory of a container, or of all, as it changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use nix::unistd::Pid;

use super::output;
use super::proof_subject::{self, Named};
use super::test_memory::terminal_size;
use crate::cli::{Global, MonitorArgs, MonitorFormat};
use crate::exit::ExitStatus;
use crate::log;
use crate::monitor::{self, End, Found, Known, MonitorError, Reading, Target};
use crate::printable::{printable, printable_line};
use crate::proof::Place;
use crate::report::exposition::Dialect;
use crate::report::memory_metrics::{self, Pod, Pods};
use crate::report::sparkline::Trend;
use crate::report::{monitor as report, monitor_table};
use crate::runtime::{Census, Living, Store};

/// The terminal is drawn at most this often.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Nothing shorter can be kept.
const SHORTEST: Duration = Duration::from_millis(1);

/// Shows readings until the container ends or the time is up.
#[inline(never)]
pub fn run(global: &Global, args: &MonitorArgs) -> anyhow::Result<ExitStatus> {
    let time = match time(args) {
        Ok(time) => time,
        Err(wrong) => {
            log::report(&wrong);
            return Ok(ExitStatus::USAGE);
        }
    };
    let view = View::new(args);
    let done = if args.all { all(global, args, time, view) } else { one(global, args, time, view) };
    match done {
        // The reader has seen enough.
        Err(e) if e.downcast_ref().is_some_and(is_closed_pipe) => Ok(ExitStatus::SUCCESS),
        other => other.map(|()| ExitStatus::SUCCESS),
    }
}

fn is_closed_pipe(error: &MonitorError) -> bool {
    matches!(error, MonitorError::Show(e) if e.kind() == io::ErrorKind::BrokenPipe)
}

fn one(global: &Global, args: &MonitorArgs, time: Option<Duration>, mut view: View) -> anyhow::Result<()> {
    let named = Named { container: args.container.as_deref(), pid: args.pid, cgroup: args.cgroup.as_deref() };
    let (subject, _) = proof_subject::of(global, named)?;
    let target = match subject.place {
        None => None,
        Some(Place::Process(init)) => Some(Target::Process { init, cgroup: subject.cgroup }),
        Some(Place::Folder(dir)) => Some(Target::Folder(dir)),
    };
    let Some(target) = target else { return view.end(&subject.id, End::Stopped) };
    let mut seen = false;
    let end = monitor::watch(&target, args.interval, time, &mut |reading| {
        seen = true;
        view.show(&[(subject.id.clone(), reading.clone())], &Pods::new())
    })?;
    anyhow::ensure!(seen || args.pid.is_none(), "there is no process with {}", subject.id);
    view.end(&subject.id, end)
}

fn all(global: &Global, args: &MonitorArgs, time: Option<Duration>, mut view: View) -> anyhow::Result<()> {
    let store = Store::open(global)?;
    let mut census = Census::default();
    let pods = RefCell::new(Pods::new());
    let mut find = |known: &Known| {
        let found = census.look(&store, known.names()).map_err(io::Error::other)?;
        let named = |living: Living| {
            pods.borrow_mut().insert(living.id.clone(), Pod::of(&living.annotations));
            Found { id: living.id, init: Pid::from_raw(living.init_pid), cgroup: living.cgroup }
        };
        Ok(found.into_iter().map(named).collect())
    };
    monitor::watch_all(args.interval, time, &mut find, &mut |readings| {
        let mut pods = pods.borrow_mut();
        // All that are read were found, so there are more only where some have gone.
        if pods.len() > readings.len() {
            pods.retain(|id, _| readings.binary_search_by(|(other, _)| other.cmp(id)).is_ok());
        }
        view.show(readings, &pods)
    })?;
    Ok(())
}

/// For how long; a mistake in the arguments is exit 2.
fn time(args: &MonitorArgs) -> anyhow::Result<Option<Duration>> {
    anyhow::ensure!(args.interval >= SHORTEST, "bad --interval: it must be 1 ms or more");
    let metrics = matches!(args.format, MonitorFormat::Openmetrics | MonitorFormat::Prometheus);
    anyhow::ensure!(
        args.output.is_none() || metrics,
        "bad --output: only --format openmetrics or prometheus writes a file"
    );
    let words = [&args.container, &args.seconds].into_iter().flatten().map(String::as_str);
    let words: Vec<&str> =
        words.skip(usize::from(!(args.all || args.pid.is_some() || args.cgroup.is_some()))).collect();
    let word = match *words {
        [] => return Ok(None),
        [word] => word,
        [word, ..] => return Err(anyhow!("'{word}' is named beside --all, --pid or --cgroup")),
    };
    let seconds: Option<f64> = word.parse().ok();
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.map(Some).ok_or_else(|| anyhow!("bad SECONDS: '{word}' is no time"))
}

/// How readings are shown.
struct View {
    format: MonitorFormat,
    output: Option<PathBuf>,
    /// A table of many, not a line of one.
    table: bool,
    terminal: bool,
    at: Option<Instant>,
    /// Lines that the next draw goes over.
    drawn: usize,
    trends: BTreeMap<String, Trend>,
    /// What was written last, for its memory.
    text: String,
}

impl View {
    fn new(args: &MonitorArgs) -> Self {
        Self {
            format: args.format,
            output: args.output.clone(),
            table: args.all,
            terminal: io::stdout().is_terminal(),
            at: None,
            drawn: 0,
            trends: BTreeMap::new(),
            text: String::new(),
        }
    }

    fn show(&mut self, readings: &[(String, Reading)], pods: &Pods) -> io::Result<()> {
        match self.format {
            MonitorFormat::Text if self.terminal => self.draw(readings),
            MonitorFormat::Text => {
                self.text.clear();
                for (id, reading) in readings {
                    if self.table {
                        self.text.push_str(&printable_line(id));
                        self.text.push_str("  ");
                    }
                    report::put_line(&mut self.text, reading);
                    self.text.push('\n');
                }
                write(self.text.as_bytes())
            }
            MonitorFormat::Json => {
                let mut text = std::mem::take(&mut self.text).into_bytes();
                text.clear();
                for (id, reading) in readings {
                    report::put_json(&mut text, id, reading)?;
                    text.push(b'\n');
                }
                self.text = String::from_utf8(text).unwrap_or_default();
                write(printable(&self.text).as_bytes())
            }
            MonitorFormat::Openmetrics => self.put(Dialect::OpenMetrics, readings, pods),
            MonitorFormat::Prometheus => self.put(Dialect::Prometheus, readings, pods),
        }
    }

    /// Prints metrics, or puts them in the place of the file.
    fn put(&mut self, dialect: Dialect, readings: &[(String, Reading)], pods: &Pods) -> io::Result<()> {
        let older = std::mem::take(&mut self.text);
        self.text = memory_metrics::exposition(dialect, readings, pods, older);
        let Some(path) = &self.output else { return write(printable(&self.text).as_bytes()) };
        output::replace(path, &printable(&self.text))
            .map_err(|e| io::Error::new(e.kind(), format!("cannot write '{}': {e}", path.display())))
    }

    /// Draws over what was drawn before.
    fn draw(&mut self, readings: &[(String, Reading)]) -> io::Result<()> {
        for (id, reading) in readings {
            self.trends.entry(id.clone()).or_default().push(reading.usage_bytes);
        }
        self.trends.retain(|id, _| readings.iter().any(|(other, _)| other == id));
        if self.at.is_some_and(|at| at.elapsed() < DRAW_EVERY) {
            return Ok(());
        }
        self.at = Some(Instant::now());
        let lines = if self.table {
            monitor_table::table(readings, &self.trends, terminal_size())
        } else {
            readings.iter().map(|(id, reading)| report::live(reading, &self.trends[id])).collect()
        };
        let text = report::redraw(&lines, self.drawn, terminal_size().columns);
        self.drawn = lines.len();
        write(text.as_bytes())
    }

    /// Says why a single container's view ended.
    fn end(&self, id: &str, end: End) -> anyhow::Result<()> {
        let text = match self.format {
            MonitorFormat::Text => report::ending(id, end),
            MonitorFormat::Json => {
                matches!(end, End::Ended | End::Stopped).then(|| "{\"ended\":true}\n".to_owned())
            }
            MonitorFormat::Openmetrics | MonitorFormat::Prometheus => None,
        };
        super::print(&text.unwrap_or_default())
    }
}

fn write(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: [Option<&str>; 2]) -> MonitorArgs {
        let [container, seconds] = words.map(|word| word.map(str::to_owned));
        MonitorArgs { container, seconds, interval: SHORTEST, ..Default::default() }
    }

    #[test]
    fn times_that_are_none_are_refused() {
        let read = |seconds| time(&args([Some("web"), seconds]));
        assert_eq!(read(Some("1.5")).unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(read(Some("0")).unwrap(), Some(Duration::ZERO), "one reading");
        assert_eq!(read(None).unwrap(), None);
        for word in ["-1", "NaN", "inf", "soon", ""] {
            assert!(read(Some(word)).is_err(), "{word}");
        }
        let soon = MonitorArgs { interval: Duration::from_micros(999), ..args([Some("web"), None]) };
        assert!(time(&soon).is_err());
    }

    #[test]
    fn beside_all_or_a_pid_the_first_word_is_the_time() {
        let all = MonitorArgs { all: true, ..args([Some("5"), None]) };
        assert_eq!(time(&all).unwrap(), Some(Duration::from_secs(5)));
        let pid = MonitorArgs { pid: Some(1), ..args([Some("web"), Some("5")]) };
        assert!(time(&pid).unwrap_err().to_string().contains("web"));
    }

    #[test]
    fn a_file_is_written_for_metrics_only() {
        let file = MonitorArgs { output: Some("x".into()), ..args([Some("web"), None]) };
        assert!(time(&file).is_err());
        assert!(time(&MonitorArgs { format: MonitorFormat::Openmetrics, ..file }).is_ok());
    }
}
