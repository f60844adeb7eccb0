//! The verdict: pure and total. Every evidence has one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Refuser, Stop, WithinCheck};
use super::harm::Harmed;
use super::plan::{BROKEN_MARGIN_BYTES, Plan};
use super::preflight::victim_hint;
use super::refusal::Reason;
use super::run;
use super::worker::{Stage, WorkerEnd};
use crate::exit::ExitStatus;
use crate::units::Mib;

const SIGKILL: i32 = 9;

/// The stable names of what a proof can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Killed where predicted.
    Enforced,
    /// Page cache beyond the limit, and the limit held by reclaim.
    HeldByReclaim,
    /// Above the limit and alive, in swap.
    SpilledToSwap,
    /// Asked for less than there was room for, and lived.
    WithinLimit,
    /// The limit is not in the kernel, or was exceeded.
    NotEnforced,
    /// Killed well before the limit.
    KilledEarly,
    /// Preflight said no.
    Refused,
    /// memory.high held it back.
    Throttled,
    /// SIGKILL by somebody else.
    KilledExternally,
    /// OOM-killed by a limit above.
    KilledByAncestor,
    TimedOut,
    /// Lived, but too near the limit to say.
    TooClose,
    /// The prover was asked to end.
    Interrupted,
    /// The container was lost.
    InitDied,
    /// A process of the container was OOM-killed instead of the worker, or beside it.
    ContainerHarmed,
    /// The worker failed by itself.
    ProverFailed,
}

impl Verdict {
    /// All verdicts, best first within each exit code.
    pub const ALL: [Self; 16] = [
        Self::Enforced,
        Self::HeldByReclaim,
        Self::SpilledToSwap,
        Self::WithinLimit,
        Self::NotEnforced,
        Self::KilledEarly,
        Self::Refused,
        Self::Throttled,
        Self::KilledExternally,
        Self::KilledByAncestor,
        Self::TimedOut,
        Self::TooClose,
        Self::Interrupted,
        Self::InitDied,
        Self::ContainerHarmed,
        Self::ProverFailed,
    ];

    /// The name as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::HeldByReclaim => "held-by-reclaim",
            Self::SpilledToSwap => "spilled-to-swap",
            Self::WithinLimit => "within-limit",
            Self::NotEnforced => "not-enforced",
            Self::KilledEarly => "killed-early",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::KilledExternally => "killed-externally",
            Self::KilledByAncestor => "killed-by-ancestor",
            Self::TimedOut => "timed-out",
            Self::TooClose => "too-close",
            Self::Interrupted => "interrupted",
            Self::InitDied => "init-died",
            Self::ContainerHarmed => "container-harmed",
            Self::ProverFailed => "prover-failed",
        }
    }

    /// The exit code of a proof command with this verdict.
    pub fn exit(self) -> ExitStatus {
        match self {
            Self::Enforced | Self::HeldByReclaim | Self::SpilledToSwap | Self::WithinLimit => {
                ExitStatus::SUCCESS
            }
            Self::NotEnforced | Self::KilledEarly => ExitStatus::FAILURE,
            Self::Refused => ExitStatus::REFUSED,
            Self::Throttled
            | Self::KilledExternally
            | Self::KilledByAncestor
            | Self::TimedOut
            | Self::TooClose
            | Self::Interrupted => ExitStatus::INCONCLUSIVE,
            Self::InitDied | Self::ContainerHarmed => ExitStatus::INIT_DIED,
            Self::ProverFailed => ExitStatus::PROVER_FAILURE,
        }
    }

    /// The worst of several; of equally bad ones the first.
    pub fn worst(verdicts: impl IntoIterator<Item = Self>) -> Option<Self> {
        run::worst(verdicts, |verdict| Some(verdict.exit().0))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A verdict with why: a stable reason where there is one, and a sentence with the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    pub reason: Option<&'static str>,
    pub sentence: String,
    pub hint: Option<String>,
}

impl Decision {
    fn new(verdict: Verdict, reason: Option<&'static str>, sentence: impl Into<String>) -> Self {
        Self { verdict, reason, sentence: sentence.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it holds for every strategy, so that no further one is worth trying.
    pub fn is_of_all_strategies(&self) -> bool {
        let of_one = [Reason::MlockLimit, Reason::NoFolder].map(|reason| Some(reason.name()));
        match self.verdict {
            Verdict::InitDied | Verdict::ContainerHarmed | Verdict::Interrupted => true,
            Verdict::NotEnforced => self.reason == Some("limit-not-applied"),
            Verdict::Refused => !of_one.contains(&self.reason),
            _ => false,
        }
    }
}

/// What the evidence says about the plan.
pub fn decide(plan: &Plan, evidence: &Evidence) -> Decision {
    if !evidence.init_alive || evidence.stop == Stop::InitEnded {
        return init_died(evidence);
    }
    if let Some(harmed) = &evidence.harmed {
        return container_harmed(evidence, harmed);
    }
    if let Some(decision) = evidence.within.and_then(|check| not_accounted(plan, check)) {
        return decision;
    }
    match evidence.stop {
        Stop::InitEnded => init_died(evidence),
        Stop::WorkerEnded => worker_ended(plan, evidence),
        Stop::WorkerFailed { stage, errno } => worker_failed(evidence, stage, errno),
        Stop::Filled => survived(plan, evidence),
        Stop::Throttled => throttled(plan, evidence),
        Stop::Deadline if evidence.high_hits() > 0 && plan.high_bytes.is_some() => throttled(plan, evidence),
        Stop::Deadline => Decision::new(
            Verdict::TimedOut,
            None,
            format!(
                "{} written in {:.1} s, then time was up",
                Mib(evidence.touched_bytes),
                plan.deadline.as_secs_f64()
            ),
        )
        .hint("give more time with --timeout"),
        Stop::Interrupted => Decision::new(
            Verdict::Interrupted,
            None,
            format!("interrupted after {}", Mib(evidence.touched_bytes)),
        ),
        Stop::VictimUnsafe { pid, held_bytes, oom_score_adj } => Decision::new(
            Verdict::Refused,
            Some("victim-unsafe"),
            format!(
                "stopped after {}: process {pid} ({} held, oom_score_adj {oom_score_adj}) could have been killed \
                 instead of the worker",
                Mib(evidence.touched_bytes),
                Mib(held_bytes)
            ),
        )
        .hint(victim_hint(oom_score_adj)),
    }
}

fn worker_failed(evidence: &Evidence, stage: Stage, errno: i32) -> Decision {
    let cause = match errno {
        0 => String::new(),
        errno => format!(": {}", std::io::Error::from_raw_os_error(errno)),
    };
    let sentence =
        format!("the worker could not {} after {}{cause}", stage.words(), Mib(evidence.touched_bytes));
    Decision::new(Verdict::ProverFailed, Some("worker-failed"), sentence)
}

fn init_died(evidence: &Evidence) -> Decision {
    let how = if evidence.oom_kills() > 0 { ", OOM-killed" } else { "" };
    Decision::new(
        Verdict::InitDied,
        None,
        format!(
            "the container's init ended during the proof{how}; {} had been written",
            Mib(evidence.touched_bytes)
        ),
    )
}

fn container_harmed(evidence: &Evidence, harmed: &Harmed) -> Decision {
    Decision::new(
        Verdict::ContainerHarmed,
        None,
        format!("{} during the proof; {} had been written", harmed.words(), Mib(evidence.touched_bytes)),
    )
    .hint("look whether the container still does its work; its processes need more room beside a proof")
}

/// Usage that did not rise by what was written, and that is even less than the worker holds: this is not the cgroup
/// the worker is charged to, or nothing is charged.
fn not_accounted(plan: &Plan, check: WithinCheck) -> Option<Decision> {
    let slack = plan.accounting_slack_bytes(check.written_bytes);
    let rose = check.usage_after_bytes.saturating_sub(check.usage_before_bytes);
    // Others may free memory meanwhile; then usage must at least cover the worker.
    let rose_enough = rose + slack >= check.written_bytes;
    let covers_worker = check.usage_after_bytes + slack >= check.worker_bytes.min(check.written_bytes);
    (!rose_enough && !covers_worker).then(|| {
        Decision::new(
            Verdict::NotEnforced,
            Some("not-accounted"),
            format!(
                "{} were written, and the kernel's usage rose by {} only",
                Mib(check.written_bytes),
                Mib(rose)
            ),
        )
    })
}

fn worker_ended(plan: &Plan, evidence: &Evidence) -> Decision {
    let touched = Mib(evidence.touched_bytes);
    match evidence.worker_end {
        WorkerEnd::Signal(SIGKILL) if evidence.oom_kills() == 0 => Decision::new(
            Verdict::KilledExternally,
            None,
            format!("the worker was killed after {touched}, and the kernel counts no OOM kill"),
        ),
        WorkerEnd::Signal(SIGKILL) => oom_killed(plan, evidence),
        WorkerEnd::Signal(signal) => Decision::new(
            Verdict::KilledExternally,
            None,
            format!("the worker ended by signal {signal} after {touched}"),
        ),
        WorkerEnd::Exit(code) => Decision::new(
            Verdict::ProverFailed,
            Some("worker-failed"),
            format!("the worker exited with {code} after {touched}"),
        ),
    }
}

fn oom_killed(plan: &Plan, evidence: &Evidence) -> Decision {
    let touched = Mib(evidence.touched_bytes);
    let explained = evidence.touched_bytes + evidence.others_grew_bytes;
    let (verdict, sentence) = match evidence.refuser(explained >= plan.earliest_of_full_bytes()) {
        Refuser::Limiter => return killed_by_limit(plan, evidence),
        Refuser::Above => (
            Verdict::KilledByAncestor,
            format!("OOM-killed after {touched} by a limit above the container's"),
        ),
        Refuser::Host => (
            Verdict::KilledExternally,
            format!("OOM-killed after {touched}, but not by a limit: the host was short"),
        ),
    };
    Decision::new(verdict, Some("limit-not-hit"), sentence)
}

fn killed_by_limit(plan: &Plan, evidence: &Evidence) -> Decision {
    let touched = Mib(evidence.touched_bytes);
    let (Some(limit), Some(predicted)) = (plan.limit_bytes, plan.predicted_bytes) else {
        return Decision::new(
            Verdict::KilledByAncestor,
            None,
            format!("OOM-killed after {touched} without a limit"),
        );
    };
    let held = limit + evidence.swapped_bytes + BROKEN_MARGIN_BYTES;
    if !plan.on_disk() && evidence.touched_bytes > held {
        return Decision::new(
            Verdict::NotEnforced,
            Some("killed-late"),
            format!("OOM-killed only after {touched}, above the limit of {}", Mib(limit)),
        );
    }
    let early_below = plan.early_below_bytes();
    let explained = evidence.touched_bytes + evidence.others_grew_bytes;
    // Others that come and go are known from samples only; but the kernel counted that it was this limit that was hit.
    let busy = evidence.limiter_hits > 0 && evidence.others_grew_bytes > predicted - early_below;
    if explained < early_below && !busy {
        return Decision::new(
            Verdict::KilledEarly,
            None,
            format!("OOM-killed after {touched}, and {} were predicted", Mib(predicted)),
        );
    }
    Decision::new(
        Verdict::Enforced,
        None,
        format!("OOM-killed after {touched} of {}, predicted {}", Mib(limit), Mib(predicted)),
    )
}

/// The worker wrote all it should, and lives.
fn survived(plan: &Plan, evidence: &Evidence) -> Decision {
    let touched = Mib(evidence.touched_bytes);
    let Some(limit) = plan.limit_bytes else {
        return Decision::new(
            Verdict::WithinLimit,
            Some("unlimited"),
            format!("{touched} written; there is no limit"),
        );
    };
    if !plan.reaches_limit() {
        return Decision::new(
            Verdict::WithinLimit,
            None,
            format!("{touched} written and accounted below the limit of {}", Mib(limit)),
        );
    }
    if plan.on_disk() {
        return through_page_cache(limit, evidence);
    }
    if evidence.swapped_bytes > 0 {
        return Decision::new(
            Verdict::SpilledToSwap,
            None,
            format!("{touched} written under {}: {} went to swap", Mib(limit), Mib(evidence.swapped_bytes)),
        )
        .hint("the limit holds by swapping; limit the swap too to have it kill");
    }
    if evidence.touched_bytes > limit.saturating_add(BROKEN_MARGIN_BYTES) {
        return Decision::new(
            Verdict::NotEnforced,
            Some("limit-exceeded"),
            format!("{touched} written under a limit of {}, and the worker lives", Mib(limit)),
        );
    }
    Decision::new(
        Verdict::TooClose,
        None,
        format!("{touched} written under a limit of {}: too near to say", Mib(limit)),
    )
    .hint(format!(
        "ask for less than {} or more than {}",
        Mib(plan.predicted_bytes.unwrap_or(0)),
        Mib(limit + BROKEN_MARGIN_BYTES)
    ))
}

/// So near to the limit reclaim keeps the usage.
const NEAR_BYTES: u64 = 2 << 20;

/// More than the limit went into files on a disk; what matters is what the kernel kept of it.
fn through_page_cache(limit: u64, evidence: &Evidence) -> Decision {
    let touched = Mib(evidence.touched_bytes);
    let highest = evidence.samples.iter().map(|sample| sample.usage_bytes).max().unwrap_or(0);
    let (verdict, reason, sentence) = if highest > limit.saturating_add(BROKEN_MARGIN_BYTES) {
        (
            Verdict::NotEnforced,
            Some("limit-exceeded"),
            format!(
                "{touched} went through the page cache, and usage rose to {} above {}",
                Mib(highest),
                Mib(limit)
            ),
        )
    } else if evidence.limiter_hits > 0 || (evidence.limiter_silent && highest + NEAR_BYTES >= limit) {
        (
            Verdict::HeldByReclaim,
            None,
            format!(
                "{touched} went through the page cache, and the limit of {} held: {} in use at most",
                Mib(limit),
                Mib(highest)
            ),
        )
    } else {
        (
            Verdict::TooClose,
            Some("cache-not-kept"),
            format!("{touched} went through the page cache, and usage never came to {}", Mib(limit)),
        )
    };
    Decision::new(verdict, reason, sentence)
}

fn throttled(plan: &Plan, evidence: &Evidence) -> Decision {
    let high = plan.high_bytes.map_or_else(String::new, |high| format!(" of {}", Mib(high)));
    Decision::new(
        Verdict::Throttled,
        None,
        format!("{} written, then memory.high{high} held the worker back", Mib(evidence.touched_bytes)),
    )
    .hint("memory.high is below the limit: prove below it, or raise it")
}

#[cfg(test)]
mod tests;
