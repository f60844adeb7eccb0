//! The record of a stress, schema version 1: a line of the same journal as proofs, told from them by `kind`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::StressRequest;
use super::tally::Kills;
use super::verdict::Decision;
use crate::cgroup::Counters;
use crate::cgroup::pressure::PressureScope;
use crate::proof::evidence::Sample;
use crate::proof::facts::Facts;
use crate::proof::harm::Harmed;
use crate::proof::hostmem::Host;
use crate::proof::record::{CgroupRecord, IN_PROGRESS, SCHEMA, name_and_time};
use crate::proof::refusal::Refusal;
use crate::proof::request::Trigger;
use crate::proof::strategy::Strategy;

/// What tells a stress from a proof.
pub const KIND: &str = "stress";

/// One worker's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub strategy: Strategy,
    pub share_bytes: u64,
    /// By all workers of the place, what was written again included.
    pub written_bytes: u64,
    pub starts: u64,
    pub kills: u64,
}

/// What was seen, summed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub usage_min_bytes: u64,
    pub usage_mean_bytes: u64,
    pub usage_max_bytes: u64,
    pub written_bytes: u64,
    pub bytes_per_second: u64,
    /// Workers that died, by who killed them.
    pub kills: Kills,
    /// OOM kills of the container's own processes.
    pub others_killed: u64,
    /// Hits of the limit (v1 failcnt, v2 `max`).
    pub limit_hits: u64,
    /// Time in which some, and all, tasks waited for memory; `None` where the kernel tells none.
    pub pressure_some_us: Option<u64>,
    pub pressure_full_us: Option<u64>,
    pub pressure_scope: Option<PressureScope>,
}

/// One stress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StressRecord {
    pub schema: u32,
    pub kind: String,
    /// One name for the `in-progress` line and the final one.
    pub proof: String,
    /// A stress is a run by itself; `None` from an rt that gave no name to runs.
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
    /// How long it should take.
    pub planned_us: u64,
    pub kernel: String,
    pub cgroup: Option<CgroupRecord>,
    pub host: Host,
    pub asked_limit_bytes: Option<u64>,
    /// What the workers share.
    pub target_bytes: Option<u64>,
    pub members: Vec<MemberRecord>,
    pub counters_before: Option<Counters>,
    pub counters_after: Option<Counters>,
    /// The process of the container that an OOM kill took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub harmed: Option<Harmed>,
    pub summary: Option<Summary>,
    pub samples: Vec<Sample>,
    /// A verdict's name, or `in-progress`.
    pub verdict: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
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

impl StressRecord {
    /// The record before a worker starts.
    pub fn begin(request: &StressRequest, facts: &Facts, target_bytes: Option<u64>) -> Self {
        let (proof, started_at) = name_and_time();
        let base = &request.base;
        Self {
            schema: SCHEMA,
            kind: KIND.to_owned(),
            proof,
            run: Some(base.run.clone()),
            id: base.subject.id.clone(),
            bundle: base.subject.bundle.clone(),
            pid: base.subject.init.map(nix::unistd::Pid::as_raw),
            trigger: base.trigger,
            started_at,
            duration_us: 0,
            planned_us: u64::try_from(request.time.as_micros()).unwrap_or(u64::MAX),
            kernel: facts.host.kernel.clone(),
            cgroup: facts.accounting.as_ref().map(CgroupRecord::of),
            host: facts.host.clone(),
            asked_limit_bytes: base.asked.bytes(),
            target_bytes,
            members: Vec::new(),
            counters_before: facts.accounting.as_ref().map(|a| a.counters),
            counters_after: None,
            harmed: None,
            summary: None,
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

    /// The end of it.
    pub fn conclude(&mut self, decision: &Decision, took: std::time::Duration) {
        self.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.verdict = decision.verdict.name().to_owned();
        self.reason = decision.reason.map(str::to_owned);
        self.sentence.clone_from(&decision.sentence);
        self.hint.clone_from(&decision.hint);
        self.exit_code = Some(decision.verdict.exit().0);
    }
}
