//! `test-memory`: proves that a memory limit holds, one strategy after the other.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::proving::{self, Proving};
use crate::cli::{Format, Global, TestMemoryArgs};
use crate::exit::ExitStatus;
use crate::log;
use crate::proof::run::RunSummary;
use crate::proof::{self, Decision, Plan, Record, Request, Sample, Strategy, Verdict};
use crate::report::proof as report;
use crate::report::screen::Size;
use crate::sys::terminal::window_size;

/// The terminal is drawn at most this often.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Makes the proof, or says why not; the exit code is the worst verdict's.
#[inline(never)]
pub fn run(global: &Global, args: &TestMemoryArgs) -> anyhow::Result<ExitStatus> {
    let proving = match read(args) {
        Ok(proving) => proving,
        Err(wrong) => {
            log::report(&wrong);
            return Ok(ExitStatus::USAGE);
        }
    };
    let name = args.container.as_deref().filter(|_| !proving::is_nameless(&args.proving));
    let mut request = proving.request(global, name)?;
    request.timeout = args.timeout;
    let (verdicts, records) = each(&mut request, &proving.strategies, args)?;
    if let Some(run) = RunSummary::of(&records.iter().collect::<Vec<_>>()) {
        super::print(&match args.format {
            Format::Text => report::overall(&run).unwrap_or_default(),
            Format::Json => serde_json::to_string(&run)? + "\n",
        })?;
    }
    Ok(Verdict::worst(verdicts).map_or(ExitStatus::SUCCESS, Verdict::exit))
}

/// One strategy after the other, until one says what holds for all; the records are those of proofs that were made.
fn each(
    request: &mut Request,
    strategies: &[Strategy],
    args: &TestMemoryArgs,
) -> anyhow::Result<(Vec<Verdict>, Vec<Record>)> {
    let (mut verdicts, mut records) = (Vec::new(), Vec::new());
    for strategy in strategies {
        request.strategy = *strategy;
        let decision = if args.dry_run {
            dry_run(request, args.format)?
        } else {
            let (decision, record) = prove(request, args.format)?;
            records.push(record);
            Some(decision)
        };
        let Some(decision) = decision else { continue };
        verdicts.push(decision.verdict);
        if decision.is_of_all_strategies() {
            break;
        }
    }
    Ok((verdicts, records))
}

/// The arguments in bytes and types; a mistake in them is exit 2.
fn read(args: &TestMemoryArgs) -> anyhow::Result<Proving<'_>> {
    let timeout_is_zero = args.timeout.is_some_and(|timeout| timeout.is_zero());
    anyhow::ensure!(!timeout_is_zero, "bad --timeout: no proof is made in no time");
    Proving::read(&args.proving, amount(args)?)
}

/// The MB argument. Beside --pid or --cgroup there is no name, so the first word is the amount.
fn amount(args: &TestMemoryArgs) -> anyhow::Result<Option<u64>> {
    if !proving::is_nameless(&args.proving) {
        return Ok(args.mb);
    }
    match (&args.container, args.mb) {
        (None, mb) => Ok(mb),
        (Some(word), None) => word
            .parse()
            .map(Some)
            .map_err(|_| anyhow!("bad MB: '{word}' beside --pid or --cgroup is no number")),
        (Some(word), Some(_)) => Err(anyhow!("'{word}' is named beside --pid or --cgroup")),
    }
}

fn dry_run(request: &Request, format: Format) -> anyhow::Result<Option<Decision>> {
    let assessment = proof::assess(request)?;
    let text = match format {
        Format::Text => report::dry_run(&assessment, request),
        Format::Json => serde_json::to_string(&report::DryRun::new(&assessment, request))? + "\n",
    };
    super::print(&text)?;
    Ok(assessment.decision())
}

fn prove(request: &Request, format: Format) -> anyhow::Result<(Decision, Record)> {
    let mut view = View::new(request, format)?;
    let outcome = proof::prove(request, &mut |sample| view.show(sample))?;
    view.end();
    if let Some(e) = &outcome.record_error {
        tracing::warn!("{e}: {}", std::error::Error::source(e).map_or_else(String::new, ToString::to_string));
    }
    let text = match format {
        Format::Text => report::conclusion(&outcome),
        Format::Json => serde_json::to_string(&outcome.record)? + "\n",
    };
    super::print(&text)?;
    Ok((outcome.decision, outcome.record))
}

/// How samples are shown while the proof runs.
struct View {
    /// `None` where nothing is shown (JSON, or nothing to be done).
    plan: Option<Plan>,
    terminal: bool,
    drawn: Option<Instant>,
}

impl View {
    /// Prints what will be done.
    fn new(request: &Request, format: Format) -> anyhow::Result<Self> {
        let mut view = Self { plan: None, terminal: io::stdout().is_terminal(), drawn: None };
        if format == Format::Json {
            return Ok(view);
        }
        let assessment = proof::assess(request)?;
        if assessment.decision().is_none() {
            super::print(&report::heading(&assessment, request))?;
            view.plan = assessment.plan;
        }
        Ok(view)
    }

    fn show(&mut self, sample: &Sample) {
        let Some(plan) = &self.plan else { return };
        // A reader that went away must not end the proof half way.
        if !self.terminal {
            let _ = io::stdout().write_all(report::sample_line(sample, plan).as_bytes());
            return;
        }
        if self.drawn.is_some_and(|at| at.elapsed() < DRAW_EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        let line = report::progress_line(sample, plan, terminal_size().columns);
        let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
    }

    /// Takes the bar away.
    fn end(&mut self) {
        if self.drawn.is_some() {
            let _ = io::stdout().write_all(b"\r\x1b[K").and_then(|()| io::stdout().flush());
        }
    }
}

/// The size of the terminal; else as the shell exports it, or the usual one.
pub fn terminal_size() -> Size {
    let asked = window_size(io::stdout()).ok();
    let exported = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let or = |asked: Option<u16>, name: &str, least: usize, usual: usize| {
        let asked = asked.map(usize::from).filter(|n| *n > 0);
        asked.or_else(|| exported(name)).filter(|n| *n >= least).unwrap_or(usual)
    };
    Size {
        columns: or(asked.map(|size| size.columns), "COLUMNS", 20, 80),
        rows: or(asked.map(|size| size.rows), "LINES", 4, 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ProvingArgs;
    use crate::units::MIB;

    fn of_pid(container: Option<&str>, mb: Option<u64>) -> TestMemoryArgs {
        let proving = ProvingArgs { pid: Some(1), ..Default::default() };
        TestMemoryArgs { proving, container: container.map(str::to_owned), mb, ..Default::default() }
    }

    #[test]
    fn beside_a_pid_the_first_word_is_the_amount() {
        assert_eq!(read(&of_pid(Some("64"), None)).unwrap().target_bytes, Some(64 * MIB));
        assert_eq!(read(&of_pid(None, None)).unwrap().target_bytes, None);
        for (word, mb) in [("web", None), ("64", Some(64))] {
            let told = read(&of_pid(Some(word), mb)).unwrap_err().to_string();
            assert!(told.contains(word) && told.contains("--pid"), "{told}");
        }
    }

    #[test]
    fn no_proof_is_made_in_no_time() {
        let args = TestMemoryArgs { timeout: Some(Duration::ZERO), ..Default::default() };
        assert!(read(&args).unwrap_err().to_string().contains("--timeout"));
    }
}
