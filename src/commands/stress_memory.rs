//! `stress-memory`: several workers at once against a memory limit, for a while.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::proving::{self, Proving};
use super::test_memory::terminal_size;
use crate::cli::{Format, Global, StressMemoryArgs};
use crate::exit::ExitStatus;
use crate::log;
use crate::proof::stress::{self, Snapshot, StressRequest};
use crate::report::stress as report;

/// A terminal is drawn at most this often; a pipe gets a line a second.
const DRAW_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Stresses, or says why not.
#[inline(never)]
pub fn run(global: &Global, args: &StressMemoryArgs) -> anyhow::Result<ExitStatus> {
    let (proving, time) = match read(args) {
        Ok(wanted) => wanted,
        Err(wrong) => {
            log::report(&wrong);
            return Ok(ExitStatus::USAGE);
        }
    };
    let name = args.container.as_deref().filter(|_| !proving::is_nameless(&args.proving));
    let base = proving.request(global, name)?;
    stress(&StressRequest { base, strategies: proving.strategies, time }, args.format)
}

fn stress(request: &StressRequest, format: Format) -> anyhow::Result<ExitStatus> {
    let mut view =
        View { shown: format == Format::Text, terminal: io::stdout().is_terminal(), at: None, drawn: None };
    let outcome = stress::stress(request, &mut |snapshot| view.show(snapshot))?;
    if let Some(e) = &outcome.record_error {
        tracing::warn!("{e}: {}", std::error::Error::source(e).map_or_else(String::new, ToString::to_string));
    }
    let text = match format {
        Format::Text => report::conclusion(&outcome.record),
        Format::Json => serde_json::to_string(&outcome.record)? + "\n",
    };
    super::print(&text)?;
    Ok(outcome.decision.verdict.exit())
}

/// The arguments in bytes and types; a mistake in them is exit 2.
fn read(args: &StressMemoryArgs) -> anyhow::Result<(Proving<'_>, Duration)> {
    let (mb, seconds) = amounts(args)?;
    let time = seconds.map_or(Ok(stress::DEFAULT_TIME), |seconds| {
        let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
        time.ok_or_else(|| anyhow!("bad SECONDS: '{seconds}' is no time"))
    });
    Ok((Proving::read(&args.proving, mb)?, time?))
}

/// MB and SECONDS. Beside --pid or --cgroup there is no name, so they are the first two words.
fn amounts(args: &StressMemoryArgs) -> anyhow::Result<(Option<u64>, Option<f64>)> {
    let words: Vec<&str> =
        [&args.container, &args.mb, &args.seconds].into_iter().flatten().map(String::as_str).collect();
    let words = words.get(usize::from(!proving::is_nameless(&args.proving))..).unwrap_or_default();
    let [mb, seconds] = match *words {
        [] => [None, None],
        [mb] => [Some(mb), None],
        [mb, seconds] => [Some(mb), Some(seconds)],
        [word, ..] => return Err(anyhow!("'{word}' is named beside --pid or --cgroup")),
    };
    let mb = mb.map(|word| word.parse().map_err(|_| anyhow!("bad MB: '{word}' is no number"))).transpose()?;
    let seconds = seconds
        .map(|word| word.parse().map_err(|_| anyhow!("bad SECONDS: '{word}' is no number")))
        .transpose()?;
    Ok((mb, seconds))
}

/// How samples are shown while it runs.
struct View {
    shown: bool,
    terminal: bool,
    at: Option<Instant>,
    drawn: Option<Snapshot>,
}

impl View {
    fn show(&mut self, snapshot: &Snapshot) {
        let every = if self.terminal { DRAW_EVERY } else { LINE_EVERY };
        if !self.shown || self.at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.at = Some(Instant::now());
        let text = if self.terminal {
            let text = report::block(snapshot, self.drawn.as_ref(), terminal_size().columns);
            self.drawn = Some(snapshot.clone());
            text
        } else {
            report::line(snapshot)
        };
        // A reader that went away must not end the stress half way.
        let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ProvingArgs;

    fn args(words: [Option<&str>; 3], pid: Option<i32>) -> StressMemoryArgs {
        let [container, mb, seconds] = words.map(|word| word.map(str::to_owned));
        let proving = ProvingArgs { pid, ..Default::default() };
        StressMemoryArgs { container, mb, seconds, proving, ..Default::default() }
    }

    #[test]
    fn the_words_are_a_name_an_amount_and_a_time() {
        let both = |words, pid| amounts(&args(words, pid)).unwrap();
        assert_eq!(both([Some("web"), Some("100"), Some("30")], None), (Some(100), Some(30.0)));
        assert_eq!(both([Some("web"), None, None], None), (None, None));
        assert_eq!(both([Some("100"), Some("1.5"), None], Some(1)), (Some(100), Some(1.5)));
        assert!(amounts(&args([Some("web"), Some("1"), Some("1")], Some(1))).is_err());
    }

    #[test]
    fn mistakes_are_found_before_anything_is_done() {
        for (words, why) in [
            ([Some("web"), Some("x"), None], "bad MB"),
            ([Some("web"), Some("0"), None], "bad MB"),
            ([Some("web"), Some("1"), Some("-1")], "bad SECONDS"),
            ([Some("web"), Some("1"), Some("0")], "bad SECONDS"),
            ([Some("web"), Some("1"), Some("soon")], "bad SECONDS"),
        ] {
            let told = read(&args(words, None)).map(|_| ()).unwrap_err().to_string();
            assert!(told.contains(why), "{words:?}: {told}");
        }
    }
}
