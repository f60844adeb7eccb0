//! `test-memory`: proves that a memory limit holds, one strategy after the other.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::proof_subject::{self, Named};
use crate::cli::{Format, Global, TestMemoryArgs};
use crate::exit::ExitStatus;
use crate::log;
use crate::proof::{self, Asked, Decision, Plan, Request, Sample, Strategy, Verdict};
use crate::report::proof as report;
use crate::sys::terminal::window_size;
use crate::units::{MIB, Ram};

/// The terminal is drawn at most this often.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Makes the proof, or says why not; the exit code is the worst verdict's.
pub fn run(global: &Global, args: &TestMemoryArgs) -> anyhow::Result<ExitStatus> {
    let wanted = match Wanted::read(args) {
        Ok(wanted) => wanted,
        Err(wrong) => {
            log::report(&wrong);
            return Ok(ExitStatus::USAGE);
        }
    };
    let named = Named { container: args.container.as_deref(), pid: args.pid, cgroup: args.cgroup.as_deref() };
    let (subject, asked) = proof_subject::of(global, named)?;
    let mut request = Request::new(subject, wanted.expect_bytes.map_or(asked, Asked::Limited));
    request.target_bytes = wanted.target_bytes;
    request.step_bytes = wanted.step_bytes;
    request.up_to_bytes = wanted.up_to_bytes;
    request.timeout = args.timeout;
    request.file_dir.clone_from(&args.file_dir);
    request.allow_kill_container = args.allow_kill_container;
    let verdicts = each(&mut request, &wanted.strategies, args)?;
    if args.format == Format::Text && !args.dry_run && verdicts.len() > 1 {
        super::print(&report::overall(&verdicts).unwrap_or_default())?;
    }
    let worst = Verdict::worst(verdicts.into_iter().map(|(_, verdict)| verdict));
    Ok(worst.map_or(ExitStatus::SUCCESS, Verdict::exit))
}

/// One strategy after the other, until one says what holds for all.
fn each(
    request: &mut Request,
    strategies: &[Strategy],
    args: &TestMemoryArgs,
) -> anyhow::Result<Vec<(Strategy, Verdict)>> {
    let mut verdicts = Vec::new();
    for strategy in strategies {
        request.strategy = *strategy;
        let decision =
            if args.dry_run { dry_run(request, args.format)? } else { Some(prove(request, args.format)?) };
        let Some(decision) = decision else { continue };
        verdicts.push((*strategy, decision.verdict));
        if decision.is_of_all_strategies() {
            break;
        }
    }
    Ok(verdicts)
}

/// The arguments in bytes and types; a mistake in them is exit 2.
struct Wanted {
    target_bytes: Option<u64>,
    up_to_bytes: Option<u64>,
    expect_bytes: Option<u64>,
    step_bytes: u64,
    strategies: Vec<Strategy>,
}

impl Wanted {
    fn read(args: &TestMemoryArgs) -> anyhow::Result<Self> {
        let timeout_is_zero = args.timeout.is_some_and(|timeout| timeout.is_zero());
        anyhow::ensure!(!timeout_is_zero, "bad --timeout: no proof is made in no time");
        let wanted = Self {
            target_bytes: mib(amount(args)?, "MB")?,
            up_to_bytes: mib(args.up_to, "--up-to")?,
            expect_bytes: mib(args.expect, "--expect")?,
            step_bytes: step(args.step.as_deref())?,
            strategies: strategies(&args.strategy)?,
        };
        Ok(wanted)
    }
}

/// A `--step`; 1 MiB where none is given.
pub(super) fn step(text: Option<&str>) -> anyhow::Result<u64> {
    match text.map(str::parse).transpose().context("bad --step")? {
        None => Ok(MIB),
        Some(Ram::Limited(bytes)) => Ok(bytes),
        Some(Ram::Unlimited) => Err(anyhow!("bad --step: max is no step")),
    }
}

/// The strategies of `--strategy`; the usual ones where none is named.
pub fn strategies(names: &[String]) -> anyhow::Result<Vec<Strategy>> {
    if names.is_empty() {
        return Ok(Strategy::DEFAULT.to_vec());
    }
    if names.iter().any(|name| name == "all") {
        return Ok(Strategy::ALL.to_vec());
    }
    names.iter().map(|name| name.parse()).collect::<Result<_, _>>().context("bad --strategy")
}

/// The MB argument. Beside --pid or --cgroup there is no name, so the first word is the amount.
fn amount(args: &TestMemoryArgs) -> anyhow::Result<Option<u64>> {
    if args.pid.is_none() && args.cgroup.is_none() {
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

/// So many MiB in bytes; `name` is the argument's.
pub(super) fn mib(value: Option<u64>, name: &str) -> anyhow::Result<Option<u64>> {
    let Some(value) = value else { return Ok(None) };
    let bytes = value.checked_mul(MIB).filter(|bytes| (1..=i64::MAX as u64).contains(bytes));
    bytes.map(Some).ok_or_else(|| anyhow!("bad {name}: '{value}' is no number of MiB that can be written"))
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

fn prove(request: &Request, format: Format) -> anyhow::Result<Decision> {
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
    Ok(outcome.decision)
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
        let line = report::progress_line(sample, plan, columns());
        let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
    }

    /// Takes the bar away.
    fn end(&mut self) {
        if self.drawn.is_some() {
            let _ = super::print("\r\x1b[K");
        }
    }
}

/// The width of the terminal; else as the shell exports it, or the usual one.
pub fn columns() -> usize {
    let asked = window_size(io::stdout()).ok().map(|size| usize::from(size.columns));
    let exported = || std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    asked.filter(|n| *n > 0).or_else(exported).filter(|n| *n >= 20).unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found_before_anything_is_done() {
        let bad = |change: fn(&mut TestMemoryArgs)| {
            let mut args = TestMemoryArgs::default();
            change(&mut args);
            Wanted::read(&args).map(|_| ()).unwrap_err().to_string()
        };
        assert!(bad(|a| a.mb = Some(0)).contains("bad MB"));
        assert!(bad(|a| (a.pid, a.container) = (Some(1), Some("web".into()))).contains("web"));
        assert!(bad(|a| a.mb = Some(u64::MAX)).contains("bad MB"));
        assert!(bad(|a| a.step = Some("x".into())).contains("--step"));
        assert!(bad(|a| a.step = Some("max".into())).contains("--step"));
        assert!(bad(|a| a.strategy = vec!["x".into()]).contains("--strategy"));
        assert!(bad(|a| a.timeout = Some(Duration::ZERO)).contains("--timeout"));
    }

    #[test]
    fn beside_a_pid_the_first_word_is_the_amount() {
        let args = TestMemoryArgs { pid: Some(1), container: Some("64".into()), ..Default::default() };
        assert_eq!(Wanted::read(&args).unwrap().target_bytes, Some(64 * MIB));
    }
}
