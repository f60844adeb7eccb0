//! A proof from beginning to end, whatever door it came through.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::asked::{self, NotApplied};
use super::budget::{self, Reservation};
use super::error::ProofError;
use super::evidence::{Evidence, Sample, Stop, WithinCheck};
use super::facts::{Accounting, Facts};
use super::harm::{self, OwnDeaths};
use super::meters::Meters;
use super::observe::{Observer, Watched};
use super::plan::Plan;
use super::preflight;
use super::record::Record;
use super::refusal::{Reason, Refusal};
use super::request::Request;
use super::scratch::{Scratch, Search};
use super::strategy::{Strategy, fork};
use super::verdict::{Decision, Verdict, decide};
use super::victims::{self, Candidate};
use super::worker::{Worker, WorkerEnd};
use super::{hostmem, journal};
use crate::cgroup::{MemoryCgroup, locate};
use crate::poll::SignalGuard;

/// How long the children of a worker may take to be gone after it.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What is known before anything is done; `--dry-run` ends here.
#[derive(Debug)]
pub struct Assessment {
    pub facts: Facts,
    /// The limit that was asked for and is not there: the proof's result already.
    pub not_applied: Option<NotApplied>,
    pub plan: Option<Plan>,
    pub refusals: Vec<Refusal>,
    /// Where the `file` strategy writes.
    pub scratch: Option<Scratch>,
}

impl Assessment {
    /// The decision that stands without a worker; `None` where the proof may be made.
    pub fn decision(&self) -> Option<Decision> {
        if let Some(finding) = self.not_applied {
            return Some(Decision {
                verdict: Verdict::NotEnforced,
                reason: Some("limit-not-applied"),
                sentence: finding.sentence(),
                hint: Some(
                    "look for missing delegation of the memory controller, or a runtime that ignores it"
                        .into(),
                ),
            });
        }
        let first = self.refusals.first()?;
        Some(Decision {
            verdict: Verdict::Refused,
            reason: Some(first.reason.name()),
            sentence: first.sentence.clone(),
            hint: first.hint.clone(),
        })
    }
}

/// The result of a proof.
#[derive(Debug)]
pub struct Outcome {
    pub assessment: Assessment,
    pub decision: Decision,
    pub record: Record,
    /// A record that could not be written; the verdict stands.
    pub record_error: Option<ProofError>,
    /// From the worker's end to the decision; `None` where there was no worker.
    pub decided_within: Option<Duration>,
}

/// Gathers the facts, compares, predicts and looks for refusals. Changes nothing.
pub fn assess(request: &Request) -> Result<Assessment, ProofError> {
    let dir = request.lock_dir.clone().unwrap_or_else(budget::usual_dir);
    assess_beside(request, budget::reserved(&dir))
}

fn assess_beside(request: &Request, reserved_bytes: u64) -> Result<Assessment, ProofError> {
    let facts = Facts::gather(&request.subject)?;
    let live = facts.status != super::request::Status::Stopped;
    let effective = facts.accounting.as_ref().and_then(Accounting::container_limit);
    let not_applied =
        live.then(|| asked::compare(request.asked, effective, facts.host.page_size).err()).flatten();
    let mut plan = Plan::make(&facts, request);
    let mut refusals = preflight::refusals(&facts, request, plan.as_ref(), reserved_bytes);
    let mut scratch = None;
    if let Some(plan) = plan.as_mut().filter(|plan| live && plan.strategy == Strategy::File) {
        let search = Search {
            program: &request.worker_program,
            init: request.subject.init,
            wanted: request.file_dir.as_deref(),
            bytes: plan.ceiling_bytes,
            time: plan.deadline,
        };
        match Scratch::find(&search) {
            Ok(found) => {
                plan.medium = Some(found.medium);
                scratch = Some(found);
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    Ok(Assessment { facts, not_applied, plan, refusals, scratch })
}

/// Makes the proof: `see` is told every sample. The worker is gone when this returns, whatever happened.
pub fn prove(request: &Request, see: &mut dyn FnMut(&Sample)) -> Result<Outcome, ProofError> {
    let began = Instant::now();
    let mut assessment = assess(request)?;
    let mut held = None;
    if assessment.decision().is_none() {
        match reserve(request, &assessment) {
            Ok(Ok(reservation)) => {
                // Again, beside the proofs that were begun meanwhile.
                assessment = assess_beside(request, reservation.others_bytes)?;
                held = Some(reservation);
            }
            Ok(Err(busy)) => assessment.refusals.push(busy),
            Err(_) if request.subject.has_lost_init() => assessment = assess(request)?,
            Err(e) => return Err(e),
        }
    }
    let mut record = Record::begin(request, &assessment.facts, assessment.plan.as_ref());
    record.refusals.clone_from(&assessment.refusals);
    record.file_dir = assessment.scratch.as_ref().map(|scratch| scratch.path.clone());
    let dirs = &request.subject.record_dirs;
    let (mut record_error, mut decided_within) = (None, None);
    let decision = match (assessment.decision(), &assessment.plan, &assessment.facts.accounting) {
        (Some(decision), ..) => decision,
        (None, Some(plan), Some(accounting)) => {
            record_error = journal::append(dirs, &record).err();
            let scratch = assessment.scratch.as_ref();
            let others = assessment.facts.candidates.clone();
            match execute(request, plan.clone(), (accounting, others), scratch, &mut record, see) {
                Ok((decision, within)) => {
                    decided_within = Some(within);
                    decision
                }
                // Its cgroup may have gone with it: that is no failure of the prover.
                Err(_) if request.subject.has_lost_init() => lost(),
                Err(e) => {
                    let failed = failure(&e);
                    record.conclude(&failed, began.elapsed());
                    journal::append_failure(dirs, &record);
                    return Err(e);
                }
            }
        }
        (None, ..) => unaccounted(),
    };
    drop(held);
    record.conclude(&decision, began.elapsed());
    let record_error = journal::append(dirs, &record).err().or(record_error);
    record.not_kept = record_error.as_ref().map(ProofError::in_full);
    Ok(Outcome { assessment, decision, record, record_error, decided_within })
}

/// Without accounting there is no limit to plan with, so preflight has refused already; kept total.
pub(super) fn unaccounted() -> Decision {
    Decision {
        verdict: Verdict::Refused,
        reason: Some(Reason::Unlimited.name()),
        sentence: "the kernel accounts no memory for it".to_owned(),
        hint: None,
    }
}

fn lost() -> Decision {
    Decision {
        verdict: Verdict::InitDied,
        reason: None,
        sentence: "the container's init ended before a worker could be watched to its end".to_owned(),
        hint: None,
    }
}

fn failure(error: &ProofError) -> Decision {
    Decision {
        verdict: Verdict::ProverFailed,
        reason: Some("error"),
        sentence: error.to_string(),
        hint: None,
    }
}

/// The host's share of what is assessed, or why it is not to be had.
pub(super) fn reserve(
    request: &Request,
    assessment: &Assessment,
) -> Result<Result<Reservation, Refusal>, ProofError> {
    let dir = request.lock_dir.clone().unwrap_or_else(budget::usual_dir);
    let bytes = assessment.plan.as_ref().map_or(0, |plan| plan.ceiling_bytes);
    let busy = || {
        Refusal::new(
            Reason::Busy,
            "another proof of the same cgroup is running",
            "try again when it has ended",
        )
    };
    let Some(accounting) = &assessment.facts.accounting else { return Ok(Err(busy())) };
    Ok(budget::reserve(&dir, &accounting.cgroup, bytes)?.ok_or_else(busy))
}

fn execute(
    request: &Request,
    mut plan: Plan,
    (accounting, mut others): (&Accounting, Vec<Candidate>),
    scratch: Option<&Scratch>,
    record: &mut Record,
    see: &mut dyn FnMut(&Sample),
) -> Result<(Decision, Duration), ProofError> {
    let program = &request.worker_program;
    let mut worker = Worker::spawn(program, plan.strategy, plan.ceiling_bytes, scratch, plan.deadline)?;
    let meters = Meters::open(request, &plan, accounting, vec![worker.pid()])?;
    let watch = harm::Watch::begin(
        &meters.limiter_cgroup,
        accounting.oom_group.is_some(),
        plan.limit_bytes.unwrap_or(0),
    )?;
    // From the moment that the worker is in the container's cgroup, a signal ends the proof in order.
    let signals = SignalGuard::new().map_err(|source| ProofError::Observe { what: "signals", source })?;
    worker.enter(&accounting.location.dir)?;
    let before = meters.own.read()?;
    let limiter_before = meters.limiter().read()?;
    let above_before = meters.hits_above();
    let refusals_before = meters.refusals();
    plan.rebase(limiter_before.usage_bytes);
    let mut observer = Observer::start(signals, request.subject.init, &plan)?;
    let (stop, within) = run_sides(&mut plan, &mut worker, &meters, &mut observer, &mut others, see)?;
    let died = victims::is_doomed(worker.pid(), None);
    if matches!(stop, Stop::Deadline | Stop::Throttled) {
        worker.pull_out(&accounting.cgroup);
    }
    if stop != Stop::WorkerEnded {
        worker.kill().map_err(|source| ProofError::Observe { what: "kill of the worker", source })?;
    }
    let worker_end =
        worker.reap().map_err(|source| ProofError::Observe { what: "wait for the worker", source })?;
    let ended = Instant::now();
    if plan.strategy == Strategy::Fork {
        await_children(&accounting.cgroup, &worker)?;
    }
    let harmed = watch.harmed(&others, &mut || own_deaths(&plan, &worker, worker_end, died))?;
    worker.dismiss_beside();
    // The counters are right as soon as the death is reported (48 of 48 runs): no sleep.
    let after = meters.own.read()?;
    let evidence = Evidence {
        stop,
        worker_end,
        touched_bytes: worker.touched(),
        within,
        init_alive: request.subject.init.is_none_or(is_alive),
        harmed,
        before,
        after,
        limiter_hits: meters.limiter().read()?.limit_hits.saturating_sub(limiter_before.limit_hits),
        limiter_silent: !meters.limiter_cgroup.counts_hits()?,
        ancestor_hits: meters.hits_above().saturating_sub(above_before),
        refusals: refusals_before
            .zip(meters.refusals())
            .map(|([a, b], [c, d])| [c.saturating_sub(a), d.saturating_sub(b)]),
        swapped_bytes: observer.swapped_bytes,
        others_grew_bytes: observer.others_grew_bytes,
        samples: observer.samples.take(),
    };
    record.observed(&plan, worker.pid(), &evidence);
    let ended = ended.elapsed();
    record.peak_reset = request.reset_peak && accounting.cgroup.reset_peak();
    Ok((decide(&plan, &evidence), ended))
}

/// Deaths that the kernel may have counted as OOM kills: of the worker, which was dead or dying before the prover killed it, of
/// its family, and of those beside it.
fn own_deaths(plan: &Plan, worker: &Worker, end: WorkerEnd, died: bool) -> OwnDeaths {
    let is_one_left = worker.is_beside_left();
    let beside = OwnDeaths { is_one_left, ..OwnDeaths::exactly(worker.deaths_beside()) };
    if !matches!(end, WorkerEnd::Signal(_)) {
        return beside;
    }
    let family = if plan.strategy == Strategy::Fork { fork::CHILDREN } else { 0 };
    let at_least = beside.at_least + u64::from(died);
    OwnDeaths { at_least, at_most: beside.at_most + 1 + family, ..beside }
}

/// First below the limit, where it must fit and be accounted; then on to the target.
fn run_sides(
    plan: &mut Plan,
    worker: &mut Worker,
    meters: &Meters,
    observer: &mut Observer,
    others: &mut Vec<Candidate>,
    see: &mut dyn FnMut(&Sample),
) -> Result<(Stop, Option<WithinCheck>), ProofError> {
    let usage_before_bytes = plan.usage_before_bytes;
    let stop = side(plan, plan.within_bytes, worker, meters, observer, see)?;
    if stop != Stop::Filled {
        return Ok((stop, None));
    }
    let within = Some(WithinCheck {
        written_bytes: worker.touched(),
        usage_before_bytes,
        usage_after_bytes: meters.limiter().usage()?,
        worker_bytes: resident(worker.pid()),
    });
    if plan.ceiling_bytes <= plan.within_bytes {
        return Ok((stop, within));
    }
    // The last look before the limit: from here on somebody will be killed.
    if plan.reaches_limit() {
        others.splice(..0, meters.others());
        if let Some(other) = meters.endangered_of(others, worker.touched()) {
            return Ok((Stop::unsafe_for(&other), within));
        }
    }
    if plan.reaches_limit()
        && let Some(charged) = meters.charged(plan.noise_bytes)?
    {
        plan.refine(worker.touched(), charged);
    }
    Ok((side(plan, plan.ceiling_bytes, worker, meters, observer, see)?, within))
}

fn side(
    plan: &Plan,
    to: u64,
    worker: &mut Worker,
    meters: &Meters,
    observer: &mut Observer,
    see: &mut dyn FnMut(&Sample),
) -> Result<Stop, ProofError> {
    // A worker that has gone meanwhile shows on its pidfd.
    let _ = worker.order(to, plan.step_bytes, plan.fine_from_bytes());
    observer.wait(worker, meters, see)
}

/// Waits until nobody of the worker's process group is in the cgroup any more, but for those beside it: they have been killed,
/// and are on their way out.
fn await_children(cgroup: &MemoryCgroup, worker: &Worker) -> Result<(), ProofError> {
    let began = Instant::now();
    let is_child = |pid: i32| victims::group_of(pid) == Some(worker.pid()) && !worker.has_beside(pid);
    while began.elapsed() < GONE_WITHIN {
        if !cgroup.processes()?.into_iter().any(is_child) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Resident memory of a process, in bytes; 0 where it has gone.
fn resident(pid: i32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .map(|status| {
            ["RssAnon", "RssShmem"].iter().filter_map(|name| hostmem::kib_field(&status, name)).sum()
        })
        .unwrap_or(0)
}

/// True while the process runs in a cgroup, and nothing is on its way to end it.
pub(super) fn is_alive(pid: Pid) -> bool {
    locate::membership_of(pid.as_raw()).is_ok() && !victims::is_doomed(pid.as_raw(), None)
}
