//! `hook`: a proof as a prestart, createRuntime or poststart hook of any OCI runtime.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::{proof_subject, proving};
use crate::cli::{Global, HookArgs};
use crate::exit::ExitStatus;
use crate::hook::listed::{self, INSIDE, Place};
use crate::hook::{Annotations, Kind, OnInconclusive, Policy, Stage, State, deadline};
use crate::log;
use crate::poll::after;
use crate::printable::put_line;
use crate::proof::request::Trigger;
use crate::proof::stress::{self, StressRequest};
use crate::proof::{self, Asked, Decision, ProofError, Reason, Request, Status, Strategy, Subject, Verdict};
use crate::runtime::{Store, bundle};
use crate::units::MIB;

/// A larger state is none.
const MAX_STATE: u64 = 16 << 20;

/// The least that a strategy is given, so that it can say that the time was over.
const LEAST: Duration = Duration::from_millis(1);

/// What stresses a container that has no root file system of its own yet.
const STRESSING: [Strategy; 3] = [Strategy::Sequential, Strategy::Pattern, Strategy::Random];

/// Makes the proof. An error is a mistake in how the hook is used; a proof that fails is judged by the policy.
#[inline(never)]
pub fn run(global: &Global, args: &HookArgs) -> anyhow::Result<ExitStatus> {
    let call = Call::read(global, args)?;
    let found = call.make().unwrap_or_else(|error| Found {
        verdict: Verdict::ProverFailed.name(),
        code: ExitStatus::PROVER_FAILURE,
        reason: None,
        sentence: log::chain(&error),
        hint: None,
    });
    let exit = call.policy.exit(call.on_inconclusive, found.code);
    if found.code != ExitStatus::SUCCESS {
        log::to_stderr(found.told(&call.subject.id, exit).as_bytes());
    }
    Ok(exit)
}

/// What a proof or a stress found.
struct Found {
    verdict: &'static str,
    code: ExitStatus,
    reason: Option<&'static str>,
    sentence: String,
    hint: Option<String>,
}

impl From<Decision> for Found {
    fn from(decision: Decision) -> Self {
        let Decision { verdict, reason, sentence, hint } = decision;
        Self { verdict: verdict.name(), code: verdict.exit(), reason, sentence, hint }
    }
}

impl From<stress::Decision> for Found {
    fn from(decision: stress::Decision) -> Self {
        let stress::Decision { verdict, reason, sentence, hint } = decision;
        Self { verdict: verdict.name(), code: verdict.exit(), reason, sentence, hint }
    }
}

impl Found {
    /// What the user of an engine reads: the last line says all of it.
    fn told(&self, id: &str, exit: ExitStatus) -> String {
        let mut text = String::new();
        if let Some(hint) = self.hint() {
            put_line(&mut text, &format!("hint: {hint}"));
        }
        let reason = self.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let found = match self.code {
            ExitStatus::FAILURE => "does not hold",
            _ => "was not proved",
        };
        let so = if exit == ExitStatus::SUCCESS { "recorded" } else { "it must not run" };
        let Self { verdict, sentence, .. } = self;
        let last =
            format!("the memory limit of container '{id}' {found}, {so}: {verdict}{reason}: {sentence}");
        put_line(&mut text, &last);
        text
    }

    /// What can be done about it; the options of `rt test-memory` are no help here.
    fn hint(&self) -> Option<&str> {
        if self.reason == Some(Reason::Unlimited.name()) {
            return Some(
                "set a memory limit, or let containers run that cannot be proved (on-inconclusive: record)",
            );
        }
        if self.verdict == Verdict::TimedOut.name() {
            return Some(
                "give it more time: --seconds and a timeout of the hook, or max_seconds of the node",
            );
        }
        self.hint.as_deref()
    }
}

/// Everything that is known before anything is done.
struct Call {
    kind: Kind,
    subject: Subject,
    asked: Asked,
    policy: Policy,
    on_inconclusive: OnInconclusive,
    strategies: Vec<Strategy>,
    target_bytes: Option<u64>,
    deadline: Duration,
    /// Nothing of the container's own has run yet.
    before_start: bool,
}

impl Call {
    fn read(global: &Global, args: &HookArgs) -> anyhow::Result<Self> {
        let mut text = Vec::new();
        io::stdin().take(MAX_STATE).read_to_end(&mut text).context("cannot read standard input")?;
        let state = State::parse(&text)?;
        let (subject, asked, spec) = subject(global, &state)?;
        let all = spec.annotations().iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()));
        let annotations = Annotations::read(all)?;
        let argv: Vec<_> = std::env::args_os().collect();
        let places = spec.hooks().as_ref().map(|hooks| listed::places(hooks, &argv)).unwrap_or_default();
        refuse_inside(&places)?;
        let at = |stage: Stage| places.iter().any(|place| place.stage == stage.name());
        // The same hook in two stages cannot tell which one this is: the stricter timeout counts.
        let timeout = places.iter().filter_map(|place| place.timeout).min();
        let seconds = args.seconds.or(annotations.seconds);
        let mb = args.mb.or(annotations.mb);
        let too_much = || format!("{} MiB is more than can be written", mb.unwrap_or_default());
        Ok(Self {
            kind: args.proof,
            subject,
            asked,
            policy: args.policy.or(annotations.policy).unwrap_or_default(),
            on_inconclusive: args.on_inconclusive.or(annotations.on_inconclusive).unwrap_or_default(),
            strategies: match args.strategy.as_slice() {
                [] if args.proof == Kind::StressMemory => STRESSING.to_vec(),
                [] => vec![Strategy::Sequential],
                names => proving::strategies(names)?,
            },
            target_bytes: match mb {
                Some(mb) => Some(mb.checked_mul(MIB).with_context(too_much)?),
                None => None,
            },
            deadline: deadline::of(seconds, timeout)?,
            before_start: (at(Stage::Prestart) || at(Stage::CreateRuntime)) && !at(Stage::Poststart),
        })
    }

    fn make(&self) -> anyhow::Result<Found> {
        let mut request = Request::new(self.subject.clone(), self.asked);
        request.target_bytes = self.target_bytes;
        request.trigger = Trigger::Hook;
        request.reset_peak = self.before_start;
        match self.kind {
            Kind::TestMemory => self.prove(request).map(Found::from),
            Kind::StressMemory => self.stress(request).map(Found::from),
        }
    }

    /// All strategies at once, for as long as there is time.
    fn stress(&self, base: Request) -> anyhow::Result<stress::Decision> {
        let request = StressRequest { base, strategies: self.strategies.clone(), time: self.deadline };
        let outcome = stress::stress(&request, &mut |_| ())?;
        warn(outcome.record_error);
        Ok(outcome.decision)
    }

    /// One strategy after the other within the deadline; the worst decision counts.
    fn prove(&self, mut request: Request) -> anyhow::Result<Decision> {
        let ends = after(self.deadline);
        let mut worst: Option<Decision> = None;
        for strategy in &self.strategies {
            request.strategy = *strategy;
            request.timeout = Some(ends.saturating_duration_since(Instant::now()).max(LEAST));
            let outcome = proof::prove(&request, &mut |_| ())?;
            warn(outcome.record_error);
            let last = outcome.decision.is_of_all_strategies();
            let verdict = outcome.decision.verdict;
            let so_far = worst.as_ref().map(|worst| worst.verdict);
            if Verdict::worst(so_far.into_iter().chain([verdict])) != so_far {
                worst = Some(outcome.decision);
            }
            if last {
                break;
            }
        }
        worst.context("no strategy is named")
    }
}

fn warn(record_error: Option<ProofError>) {
    if let Some(error) = record_error {
        tracing::warn!("{}", log::chain(&error.into()));
    }
}

/// The container, the limit asked for it, and its config: as rt saved them at create, or as they are in the bundle.
fn subject(global: &Global, state: &State) -> anyhow::Result<(Subject, Asked, Spec)> {
    let init = Pid::from_raw(state.pid);
    let mut subject = Subject {
        id: state.id.clone(),
        bundle: Some(state.bundle.clone()),
        record_dirs: vec![state.bundle.clone().into()],
        status: Status::Live,
        ..Subject::of_process(init)
    };
    let own = Store::open(global).and_then(|store| store.load(&state.id)).ok();
    if let Some(container) = own.filter(|container| container.bundle() == state.bundle) {
        subject.cgroup = container.cgroup().memory();
        subject.record_dirs.insert(0, proof_subject::record_dir(&container)?);
        let spec = container.spec()?.clone();
        return Ok((subject, proof_subject::asked(container.asked_resources()), spec));
    }
    let spec = bundle::load(&state.bundle)
        .with_context(|| format!("cannot read the config of '{}'", state.bundle.display()))?;
    let asked = proof_subject::asked(spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()));
    Ok((subject, asked, spec))
}

fn refuse_inside(places: &[Place]) -> anyhow::Result<()> {
    match places.iter().find(|place| INSIDE.contains(&place.stage)) {
        Some(place) => bail!(
            "a memory proof cannot be a {} hook, which runs inside the container: allowed is {}",
            place.stage,
            Stage::ALLOWED.join(", ")
        ),
        None => Ok(()),
    }
}
