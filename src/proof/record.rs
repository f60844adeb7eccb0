//! The record of a proof, schema version 1. Field names are stable; bytes and microseconds throughout.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Sample};
use super::facts::{Accounting, Facts};
use super::harm::Harmed;
use super::hostmem::Host;
use super::plan::Plan;
use super::refusal::Refusal;
use super::request::{Request, Trigger};
use super::scratch::Medium;
use super::strategy::Strategy;
use super::verdict::Decision;
use super::worker::WorkerEnd;
use crate::cgroup::{Counters, Version};

/// The version of [`Record`].
pub const SCHEMA: u32 = 1;

/// The verdict of a record that was begun and not finished (the prover was killed).
pub const IN_PROGRESS: &str = "in-progress";

/// The cgroup as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    pub version: Version,
    pub path: String,
    /// The cgroup whose limit binds, below the mount point.
    pub limiter: Option<String>,
    /// The limit that binds.
    pub limit_bytes: Option<u64>,
    pub high_bytes: Option<u64>,
    /// As the kernel has it (v1: memory plus swap).
    pub swap_limit_bytes: Option<u64>,
    pub oom_group: bool,
}

/// The process that wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    pub pid: i32,
    #[serde(flatten)]
    pub end: Option<WorkerEnd>,
}

/// One proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub schema: u32,
    /// One name for the `in-progress` line and the final one.
    pub proof: String,
    /// One name for the proofs of one command or hook; `None` from an rt that gave none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<String>,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bundle: Option<PathBuf>,
    pub pid: Option<i32>,
    pub trigger: Trigger,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub duration_us: u64,
    pub kernel: String,
    pub cgroup: Option<CgroupRecord>,
    pub host: Host,
    pub strategy: Strategy,
    /// The folder of the `file` strategy, as the container sees it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file_dir: Option<PathBuf>,
    /// Whether that is on a disk or in memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub medium: Option<Medium>,
    pub step_bytes: u64,
    /// What was asked for as the limit; `None` for none or not known.
    pub asked_limit_bytes: Option<u64>,
    pub target_bytes: Option<u64>,
    pub predicted_bytes: Option<u64>,
    pub touched_bytes: u64,
    pub usage_before_bytes: Option<u64>,
    pub usage_after_bytes: Option<u64>,
    pub peak_before_bytes: Option<u64>,
    pub peak_after_bytes: Option<u64>,
    /// The kernel's peak was put back to what was in use after the proof.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub peak_reset: bool,
    pub counters_before: Option<Counters>,
    pub counters_after: Option<Counters>,
    pub worker: Option<WorkerRecord>,
    /// The process of the container that an OOM kill took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub harmed: Option<Harmed>,
    pub samples: Vec<Sample>,
    /// A verdict's name, or [`IN_PROGRESS`].
    pub verdict: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What was found, in words.
    pub sentence: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub refusals: Vec<Refusal>,
    pub exit_code: Option<u8>,
    /// Why no file keeps this record; it is shown all the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_kept: Option<String>,
}

impl CgroupRecord {
    pub(super) fn of(accounting: &Accounting) -> Self {
        Self {
            version: accounting.location.version,
            path: accounting.location.path.clone(),
            limiter: accounting.limiter.as_ref().map(|l| l.cgroup.name()),
            limit_bytes: accounting.effective_limit(),
            high_bytes: accounting.high_bytes,
            swap_limit_bytes: accounting.swap_limit_bytes,
            oom_group: accounting.oom_group.is_some(),
        }
    }
}

/// A name that no other proof or run has, and the time as records have it.
pub(super) fn name_and_time() -> (String, String) {
    let now = SystemTime::now();
    let nanos = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    (format!("{nanos:x}-{}", std::process::id()), humantime::format_rfc3339_micros(now).to_string())
}

/// As [`name_and_time`], the name alone.
pub(super) fn new_name() -> String {
    name_and_time().0
}

impl Record {
    /// The record as it stands before the worker starts.
    pub fn begin(request: &Request, facts: &Facts, plan: Option<&Plan>) -> Self {
        let (proof, started_at) = name_and_time();
        let accounting = facts.accounting.as_ref();
        let counters = accounting.map(|a| a.counters);
        Self {
            schema: SCHEMA,
            proof,
            run: Some(request.run.clone()),
            id: request.subject.id.clone(),
            bundle: request.subject.bundle.clone(),
            pid: request.subject.init.map(nix::unistd::Pid::as_raw),
            trigger: request.trigger,
            started_at,
            duration_us: 0,
            kernel: facts.host.kernel.clone(),
            cgroup: accounting.map(CgroupRecord::of),
            host: facts.host.clone(),
            strategy: request.strategy,
            file_dir: None,
            medium: plan.and_then(|p| p.medium),
            step_bytes: plan.map_or(request.step_bytes, |p| p.step_bytes),
            asked_limit_bytes: request.asked.bytes(),
            target_bytes: plan.map(|p| p.target_bytes),
            predicted_bytes: plan.and_then(|p| p.predicted_bytes),
            touched_bytes: 0,
            usage_before_bytes: counters.map(|c| c.usage_bytes),
            usage_after_bytes: None,
            peak_before_bytes: counters.and_then(|c| c.peak_bytes),
            peak_after_bytes: None,
            peak_reset: false,
            counters_before: counters,
            counters_after: None,
            worker: None,
            harmed: None,
            samples: Vec::new(),
            verdict: IN_PROGRESS.to_owned(),
            reason: None,
            sentence: String::new(),
            hint: None,
            refusals: Vec::new(),
            exit_code: None,
            not_kept: None,
        }
    }

    /// The run it belongs to: its own where it names none.
    #[must_use]
    pub fn run(&self) -> &str {
        self.run.as_deref().unwrap_or(&self.proof)
    }

    /// What the worker showed.
    pub fn observed(&mut self, plan: &Plan, worker_pid: i32, evidence: &Evidence) {
        self.predicted_bytes = plan.predicted_bytes;
        self.touched_bytes = evidence.touched_bytes;
        self.usage_before_bytes = Some(evidence.before.usage_bytes);
        self.usage_after_bytes = Some(evidence.after.usage_bytes);
        self.peak_before_bytes = evidence.before.peak_bytes;
        self.peak_after_bytes = evidence.after.peak_bytes;
        self.counters_before = Some(evidence.before);
        self.counters_after = Some(evidence.after);
        self.worker = Some(WorkerRecord { pid: worker_pid, end: Some(evidence.worker_end) });
        self.harmed.clone_from(&evidence.harmed);
        self.samples.clone_from(&evidence.samples);
    }

    /// The end of it.
    pub fn conclude(&mut self, decision: &Decision, took: Duration) {
        self.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.verdict = decision.verdict.name().to_owned();
        self.reason = decision.reason.map(str::to_owned);
        self.sentence.clone_from(&decision.sentence);
        self.hint.clone_from(&decision.hint);
        self.exit_code = Some(decision.verdict.exit().0);
    }
}
