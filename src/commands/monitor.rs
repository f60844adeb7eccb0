//! `monitor`: a container's memory as it changes.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::proof_subject;
use crate::cli::{Format, Global, MonitorArgs};
use crate::exit::ExitStatus;
use crate::log;
use crate::monitor::{self, End, MonitorError, Reading};
use crate::report::monitor as report;

/// The terminal is drawn at most this often.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Shows readings until the container ends or the time is up.
pub fn run(global: &Global, args: &MonitorArgs) -> anyhow::Result<ExitStatus> {
    let time = match time(args) {
        Ok(time) => time,
        Err(wrong) => {
            log::report(&wrong);
            return Ok(ExitStatus::USAGE);
        }
    };
    let (subject, _) = proof_subject::of_container(global, &args.container)?;
    let mut view = View { format: args.format, terminal: io::stdout().is_terminal(), drawn: None };
    let end = match subject.init {
        None => End::Ended,
        Some(init) => match monitor::watch(init, args.interval, time, &mut |reading| view.show(reading)) {
            Ok(end) => end,
            // The reader has seen enough.
            Err(MonitorError::Show(e)) if e.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitStatus::SUCCESS);
            }
            Err(e) => return Err(e.into()),
        },
    };
    if view.drawn.is_some() {
        super::print("\n")?;
    }
    let text = match args.format {
        Format::Text => report::ending(&args.container, end),
        Format::Json => (end == End::Ended).then(|| "{\"ended\":true}\n".to_owned()),
    };
    super::print(&text.unwrap_or_default())?;
    Ok(ExitStatus::SUCCESS)
}

/// For how long; a mistake in the arguments is exit 2.
fn time(args: &MonitorArgs) -> anyhow::Result<Option<Duration>> {
    anyhow::ensure!(!args.interval.is_zero(), "bad --interval: it must be longer than 0");
    let Some(seconds) = args.seconds else { return Ok(None) };
    let time = Duration::try_from_secs_f64(seconds);
    time.map(Some).map_err(|_| anyhow!("bad SECONDS: '{seconds}' is no time"))
}

/// How readings are shown.
struct View {
    format: Format,
    terminal: bool,
    drawn: Option<Instant>,
}

impl View {
    fn show(&mut self, reading: &Reading) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut out, reading)?;
                out.write_all(b"\n")?;
            }
            Format::Text if !self.terminal => {
                out.write_all(format!("{}\n", report::line(reading)).as_bytes())?
            }
            Format::Text => {
                if self.drawn.is_some_and(|at| at.elapsed() < DRAW_EVERY) {
                    return Ok(());
                }
                self.drawn = Some(Instant::now());
                out.write_all(report::drawn(reading, super::test_memory::columns()).as_bytes())?;
            }
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_none_are_refused() {
        let args = |seconds, interval| MonitorArgs {
            container: "web".into(),
            seconds,
            interval: Duration::from_millis(interval),
            format: Format::Text,
        };
        assert_eq!(time(&args(Some(1.5), 1)).unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(time(&args(None, 1)).unwrap(), None);
        for (seconds, interval) in [(Some(-1.0), 1), (Some(f64::NAN), 1), (Some(f64::INFINITY), 1), (None, 0)]
        {
            assert!(time(&args(seconds, interval)).is_err(), "{seconds:?} {interval}");
        }
    }
}
