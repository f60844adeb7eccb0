//! A proof in words: what will be done, how it goes, what was found.

use serde::Serialize;

use crate::printable::put_line;
use crate::proof::plan::Expectation;
use crate::proof::record::CgroupRecord;
use crate::proof::run::RunSummary;
use crate::proof::scratch::Scratch;
use crate::proof::{Assessment, Outcome, Plan, Refusal, Request, Sample, Strategy, Verdict};
use crate::units::Mib;

/// The lines before a proof: what and where, and what should happen.
pub fn heading(assessment: &Assessment, request: &Request) -> String {
    let mut text = String::new();
    put_line(&mut text, &place(assessment, request));
    if let Some(plan) = &assessment.plan {
        put_line(&mut text, &intention(plan, assessment.scratch.as_ref()));
    }
    text
}

fn place(assessment: &Assessment, request: &Request) -> String {
    let id = &request.subject.id;
    let Some(accounting) = &assessment.facts.accounting else {
        return format!("{id}: no memory cgroup");
    };
    let used = Mib(accounting.counters.usage_bytes);
    let limit = match &accounting.limiter {
        None => "no limit".to_owned(),
        Some(limiter) if limiter.own => format!("limit {}", Mib(limiter.limit_bytes)),
        Some(limiter) => format!("limit {} set by {}", Mib(limiter.limit_bytes), limiter.cgroup.name()),
    };
    format!(
        "{id}: {limit}, {used} in use (cgroup {} {})",
        accounting.location.version, accounting.location.path
    )
}

fn intention(plan: &Plan, scratch: Option<&Scratch>) -> String {
    let how = match scratch {
        None => plan.strategy.to_string(),
        Some(scratch) => {
            let whose = if scratch.on_host { " of the host" } else { "" };
            let medium = if plan.on_disk() { "on a disk" } else { "on tmpfs" };
            format!("{} in {}{whose}, {medium}", plan.strategy, scratch.path.display())
        }
    };
    let amount = format!("writing {} ({how})", Mib(plan.target_bytes));
    let predicted = Mib(plan.predicted_bytes.unwrap_or(0));
    match plan.expectation() {
        Expectation::Survives => format!("{amount}: it should fit"),
        Expectation::Killed => format!("{amount}: the limit should kill at {predicted}"),
        Expectation::Reclaimed => format!("{amount}: at {predicted} page cache should be given back"),
        Expectation::Swaps => format!("{amount}: beyond {predicted} it should go to swap"),
        Expectation::Throttled => {
            format!("{amount}: memory.high of {} should hold it back", Mib(plan.high_bytes.unwrap_or(0)))
        }
    }
}

/// A sample as a line of its own, for a pipe.
pub fn sample_line(sample: &Sample, plan: &Plan) -> String {
    format!(
        "{:>8.3} s  {:>10} written  {:>10} used{}\n",
        seconds(sample.at_us),
        Mib(sample.touched_bytes).to_string(),
        Mib(sample.usage_bytes).to_string(),
        percent(sample.usage_bytes, plan.limit_bytes).map_or_else(String::new, |p| format!("  {p:>3} %"))
    )
}

/// A sample as a bar that is drawn over the one before, for a terminal of so many columns.
pub fn progress_line(sample: &Sample, plan: &Plan, columns: usize) -> String {
    let whole = plan.limit_bytes.unwrap_or(plan.target_bytes);
    let percent = percent(sample.usage_bytes, Some(whole)).unwrap_or(0);
    let tail = format!(" {percent:>3} %  {} of {}", Mib(sample.usage_bytes), Mib(whole));
    let room = columns.saturating_sub(tail.len() + 3).min(50);
    let filled = usize::try_from(percent).unwrap_or(100).min(100) * room / 100;
    format!("\r\x1b[K[{}{}]{tail}", "#".repeat(filled), " ".repeat(room - filled))
}

fn percent(part: u64, whole: Option<u64>) -> Option<u64> {
    let whole = whole.filter(|w| *w > 0)?;
    u64::try_from(u128::from(part) * 100 / u128::from(whole)).ok()
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

/// What was found, with the numbers behind it.
pub fn conclusion(outcome: &Outcome) -> String {
    let decision = &outcome.decision;
    let mut text = String::new();
    text += alarm(decision.verdict.name());
    let reason = decision.reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    put_line(&mut text, &format!("{}{reason}: {}", decision.verdict, decision.sentence));
    if let Some(numbers) = numbers(outcome) {
        put_line(&mut text, &format!("  {numbers}"));
    }
    for refusal in outcome.assessment.refusals.iter().skip(1) {
        put_line(&mut text, &format!("  also {}: {}", refusal.reason, refusal.sentence));
    }
    if let Some(why) = &outcome.record.not_kept {
        put_line(&mut text, &format!("  not recorded: {why}"));
    }
    if let Some(hint) = &decision.hint {
        put_line(&mut text, &format!("hint: {hint}"));
    }
    text
}

/// What is said before all else: the container was harmed. Proof and stress have one name for that.
pub(super) fn alarm(verdict: &str) -> &'static str {
    if verdict == Verdict::InitDied.name() {
        "*** THE CONTAINER WAS LOST ***\n"
    } else if verdict == Verdict::ContainerHarmed.name() {
        "*** A PROCESS OF THE CONTAINER WAS KILLED ***\n"
    } else {
        ""
    }
}

/// The last line of a run of several proofs: how each ended, and what that makes; `None` of one proof.
#[must_use]
pub fn overall(run: &RunSummary) -> Option<String> {
    let mut text = String::new();
    put_line(&mut text, &format!("overall: {} ({})", run.verdict, run.each()));
    (run.strategies.len() > 1).then_some(text)
}

fn numbers(outcome: &Outcome) -> Option<String> {
    let record = &outcome.record;
    let (before, after) = (record.counters_before?, record.counters_after?);
    let mut parts = vec![
        format!("OOM kills {}", after.oom_kill.saturating_sub(before.oom_kill)),
        format!("limit hit {} times", after.limit_hits.saturating_sub(before.limit_hits)),
    ];
    if let Some(peak) = after.peak_bytes {
        parts.push(format!("peak {}", Mib(peak)));
    }
    parts.push(format!("in use {} before, {} after", Mib(before.usage_bytes), Mib(after.usage_bytes)));
    if record.pid.is_some() && outcome.decision.verdict != Verdict::InitDied {
        parts.push("init alive".to_owned());
    }
    parts.push(format!("{:.3} s", seconds(record.duration_us)));
    Some(parts.join(", "))
}

/// `--dry-run` as JSON.
#[derive(Debug, Serialize)]
pub struct DryRun<'a> {
    pub dry_run: bool,
    pub id: &'a str,
    pub strategy: Strategy,
    pub cgroup: Option<CgroupRecord>,
    pub target_bytes: Option<u64>,
    pub predicted_bytes: Option<u64>,
    pub expectation: Option<Expectation>,
    pub deadline_us: Option<u128>,
    /// The limit that was asked for and is not in the kernel, in words.
    pub limit_not_applied: Option<String>,
    pub refusals: &'a [Refusal],
    pub disturbs: Vec<String>,
}

impl<'a> DryRun<'a> {
    /// From what was found out without touching anything.
    pub fn new(assessment: &'a Assessment, request: &'a Request) -> Self {
        let plan = assessment.plan.as_ref();
        let record = crate::proof::Record::begin(request, &assessment.facts, plan);
        Self {
            dry_run: true,
            id: &request.subject.id,
            strategy: request.strategy,
            cgroup: record.cgroup,
            target_bytes: plan.map(|p| p.target_bytes),
            predicted_bytes: plan.and_then(|p| p.predicted_bytes),
            expectation: plan.map(Plan::expectation),
            deadline_us: plan.map(|p| p.deadline.as_micros()),
            limit_not_applied: assessment.not_applied.map(|finding| finding.sentence()),
            refusals: &assessment.refusals,
            disturbs: disturbs(assessment),
        }
    }
}

/// `--dry-run` in words.
pub fn dry_run(assessment: &Assessment, request: &Request) -> String {
    let mut text = heading(assessment, request);
    if let Some(finding) = assessment.not_applied {
        put_line(&mut text, &format!("not-enforced (limit-not-applied): {}", finding.sentence()));
    }
    for refusal in &assessment.refusals {
        put_line(&mut text, &format!("refused ({}): {}", refusal.reason, refusal.sentence));
        if let Some(hint) = &refusal.hint {
            put_line(&mut text, &format!("  hint: {hint}"));
        }
    }
    if assessment.decision().is_none() {
        for line in disturbs(assessment) {
            put_line(&mut text, &format!("disturbs: {line}"));
        }
        text += "nothing was done: this was a dry run\n";
    }
    text
}

/// What a proof does to the container beside its own worker.
fn disturbs(assessment: &Assessment) -> Vec<String> {
    let (Some(plan), Some(accounting)) = (&assessment.plan, &assessment.facts.accounting) else {
        return Vec::new();
    };
    if !plan.reaches_limit() {
        return Vec::new();
    }
    let mut list = Vec::new();
    if plan.reclaimable_bytes > 0 {
        list.push(format!(
            "up to {} of the container's page cache will be evicted",
            Mib(plan.reclaimable_bytes)
        ));
    }
    if accounting.swap_room_bytes > 0 {
        list.push(format!("up to {} of the container may be swapped out", Mib(accounting.swap_room_bytes)));
    }
    list.push("the recorded peak will be at the limit afterwards".to_owned());
    list
}
