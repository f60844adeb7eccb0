//! A stress from beginning to end: one poll over all workers, the clock, signals and the container's init.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::timerfd::TimerFd;
use nix::unistd::Pid;

use super::StressRequest;
use super::crew::{Event, Member, MemberState, Quarters};
use super::record::{MemberRecord, StressRecord, Summary};
use super::tally::Tally;
use super::verdict::{Decision, Evidence, Stop, StressVerdict, decide};
use crate::cgroup::pressure::{self, Pressure, PressureSource};
use crate::cgroup::{Counters, Version};
use crate::poll::{SignalGuard, ticker};
use crate::proof::engine::{self, Assessment, assess, is_alive, reserve};
use crate::proof::error::ProofError;
use crate::proof::evidence::Sample;
use crate::proof::facts::Accounting;
use crate::proof::harm::{OwnDeaths, Watch};
use crate::proof::journal;
use crate::proof::meters::Meters;
use crate::proof::observe::{SAMPLE_EVERY, VICTIMS_EVERY, Watched};
use crate::proof::plan::Plan;
use crate::proof::refusal::{Reason, Refusal};
use crate::proof::request::Request;
use crate::proof::scratch::Scratch;
use crate::proof::strategy::{Strategy, fork};
use crate::proof::victims::Candidate;
use crate::proof::worker::WorkerEnd;
use crate::sys::worker::pidfd_open;

const SIGKILL: i32 = 9;

/// One worker as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberSnapshot {
    pub strategy: Strategy,
    pub state: MemberState,
    pub share_bytes: u64,
    pub touched_bytes: u64,
    pub written_bytes: u64,
    pub kills: u64,
}

/// All as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub sample: Sample,
    pub limit_bytes: Option<u64>,
    pub members: Vec<MemberSnapshot>,
}

/// The result of a stress.
#[derive(Debug)]
pub struct Outcome {
    pub decision: Decision,
    pub record: StressRecord,
    /// A record that could not be written; the verdict stands.
    pub record_error: Option<ProofError>,
}

/// Stresses the container: `see` is told every sample. All workers are gone when this returns, whatever happened.
pub fn stress(request: &StressRequest, see: &mut dyn FnMut(&Snapshot)) -> Result<Outcome, ProofError> {
    let began = Instant::now();
    let mut assessment = assess(&request.base)?;
    let scratch = per_strategy(request, &mut assessment)?;
    let mut held = None;
    if assessment.decision().is_none() {
        match reserve(&request.base, &assessment)? {
            Ok(reservation) => held = Some(reservation),
            Err(busy) => assessment.refusals.push(busy),
        }
    }
    let target = assessment.plan.as_ref().map(|plan| plan.target_bytes);
    let mut record = StressRecord::begin(request, &assessment.facts, target);
    record.refusals.clone_from(&assessment.refusals);
    let dirs = &request.base.subject.record_dirs;
    let mut record_error = None;
    let decision = match (assessment.decision(), &assessment.plan, &assessment.facts.accounting) {
        (None, Some(plan), Some(accounting)) => {
            record_error = journal::append(dirs, &record).err();
            match Run::new(request, plan, accounting, scratch.as_ref())
                .and_then(|mut run| run.go(&mut record, see))
            {
                Ok(decision) => decision,
                Err(e) => {
                    record.conclude(&failure(&e), began.elapsed());
                    journal::append_failure(dirs, &record);
                    return Err(e);
                }
            }
        }
        (before, ..) => not_begun(before),
    };
    drop(held);
    record.conclude(&decision, began.elapsed());
    let record_error = journal::append(dirs, &record).err().or(record_error);
    record.not_kept = record_error.as_ref().map(ProofError::in_full);
    Ok(Outcome { decision, record, record_error })
}

/// What only some strategies are refused for; and where the file strategy writes.
fn per_strategy(request: &StressRequest, assessment: &mut Assessment) -> Result<Option<Scratch>, ProofError> {
    let mut scratch = None;
    for strategy in [Strategy::Mlock, Strategy::File] {
        let members = request.strategies.iter().filter(|s| **s == strategy).count() as u64;
        let Some(plan) = assessment.plan.as_ref().filter(|_| members > 0) else { continue };
        let share = plan.target_bytes / (request.strategies.len() as u64).max(1);
        let base = Request { strategy, target_bytes: Some(share * members), ..request.base.clone() };
        let found = assess(&base)?;
        let of_strategy = |refusal: &Refusal| matches!(refusal.reason, Reason::MlockLimit | Reason::NoFolder);
        assessment.refusals.extend(found.refusals.into_iter().filter(of_strategy));
        scratch = scratch.or(found.scratch);
    }
    Ok(scratch)
}

/// The decision that stands without a worker.
fn not_begun(before: Option<crate::proof::Decision>) -> Decision {
    let before = before.unwrap_or_else(engine::unaccounted);
    let verdict = match before.verdict {
        crate::proof::Verdict::NotEnforced => StressVerdict::LimitBroken,
        _ => StressVerdict::Refused,
    };
    Decision { hint: before.hint, ..Decision::new(verdict, before.reason, before.sentence) }
}

fn failure(error: &ProofError) -> Decision {
    Decision::new(StressVerdict::ProverFailed, Some("error"), error.to_string())
}

struct Run<'a> {
    request: &'a StressRequest,
    plan: &'a Plan,
    quarters: Quarters<'a>,
    members: Vec<Member>,
    meters: Meters,
    watch: Watch,
    /// The container's processes when it began.
    others: Vec<Candidate>,
    pressure: Option<PressureSource>,
    before: Before,
    tally: Tally,
    /// OOM kills counted at the tick before the last one, and at the last.
    kills_at_ticks: [u64; 2],
    signals: SignalGuard,
    timer: TimerFd,
    init: Option<OwnedFd>,
    started: Instant,
}

/// Counters when the first worker started.
struct Before {
    own: Counters,
    limiter_hits: u64,
    hits_above: u64,
    pressure: Option<Pressure>,
}

impl<'a> Run<'a> {
    fn new(
        request: &'a StressRequest,
        plan: &'a Plan,
        accounting: &'a Accounting,
        scratch: Option<&'a Scratch>,
    ) -> Result<Self, ProofError> {
        let failed = |what| move |source: io::Error| ProofError::Observe { what, source };
        let base = &request.base;
        let meters = Meters::open(base, plan, accounting, Vec::new())?;
        let pressure = base.subject.init.and_then(|init| PressureSource::of(init.as_raw()).ok().flatten());
        let before = Before {
            own: meters.own.read()?,
            limiter_hits: meters.limiter().read()?.limit_hits,
            hits_above: meters.hits_above(),
            pressure: pressure.as_ref().and_then(|source| source.read().ok()),
        };
        let count = request.strategies.len().max(1) as u64;
        let share = (plan.target_bytes / count / plan.page_size).max(1) * plan.page_size;
        Ok(Self {
            members: request.strategies.iter().map(|strategy| Member::new(*strategy, share)).collect(),
            quarters: Quarters {
                program: &base.worker_program,
                dir: accounting.location.dir.clone(),
                unified_dir: beside_v1(accounting.location.version, base.subject.init),
                scratch,
                step_bytes: plan.step_bytes,
                time: request.time,
            },
            init: base
                .subject
                .init
                .map(pidfd_open)
                .transpose()
                .map_err(failed("process descriptor of init"))?,
            signals: SignalGuard::new().map_err(failed("signals"))?,
            timer: ticker(SAMPLE_EVERY).map_err(failed("sampling timer"))?,
            started: Instant::now(),
            tally: Tally::default(),
            kills_at_ticks: [before.own.oom_kill; 2],
            watch: Watch::begin(
                &meters.limiter_cgroup,
                accounting.oom_group.is_some(),
                plan.limit_bytes.unwrap_or(0),
            )?,
            others: meters.others(),
            request,
            plan,
            meters,
            pressure,
            before,
        })
    }

    fn go(
        &mut self,
        record: &mut StressRecord,
        see: &mut dyn FnMut(&Snapshot),
    ) -> Result<Decision, ProofError> {
        let stop = self.watch(see)?;
        let living = self.members.iter().filter(|member| member.worker_pid().is_some()).count();
        // All of them at once: one that has not ended in time holds up the others' end no longer.
        self.members.iter().try_for_each(Member::kill)?;
        for member in &mut self.members {
            member.end()?;
        }
        let took = self.started.elapsed();
        let after = self.meters.own.read()?;
        // One that the limit killed just before looks like those that are ended here.
        let late = after.oom_kill.saturating_sub(self.kills_at_ticks[0]);
        for _ in 0..late.min(living as u64) {
            if self.tally.others_killed(self.before.own, after) > self.deaths_beside() {
                self.killed()?;
            }
        }
        let harmed = self.watch.harmed(&self.others, &mut || self.own_deaths(living as u64))?;
        let evidence = Evidence {
            stop,
            init_alive: self.request.base.subject.init.is_none_or(is_alive),
            limit_bytes: self.plan.limit_bytes,
            noise_bytes: self.plan.noise_bytes,
            max_bytes: self.tally.max_bytes,
            target_reached: self.tally.target_reached,
            limit_hits: self.hits()?[0],
            high_hits: self.meters.high_hits(),
            kills: self.tally.kills,
            others_killed: harmed.as_ref().map_or(0, |_| self.others_killed(after)),
            harmed,
        };
        record.harmed.clone_from(&evidence.harmed);
        record.counters_before = Some(self.before.own);
        record.counters_after = Some(after);
        record.members = self.members.iter().map(member_record).collect();
        record.summary = Some(self.summary(&evidence, took));
        record.samples = self.tally.samples.take();
        Ok(decide(&evidence))
    }

    /// OOM kills that are none of the prover's own, where a process of the container was killed.
    fn others_killed(&self, after: Counters) -> u64 {
        self.tally.others_killed(self.before.own, after).saturating_sub(self.deaths_beside()).max(1)
    }

    fn deaths_beside(&self) -> u64 {
        self.members.iter().map(|member| member.deaths_beside).sum()
    }

    /// OOM kills that are of the prover's own processes; of a family each child may be one, and of those that were `living` when
    /// all were killed each too.
    fn own_deaths(&self, living: u64) -> OwnDeaths {
        let families = self.members.iter().filter(|member| member.strategy == Strategy::Fork);
        let children: u64 = families.map(|member| member.starts * fork::CHILDREN).sum();
        let at_least = self.tally.attributed + self.deaths_beside();
        OwnDeaths { at_most: at_least + living + children, ..OwnDeaths::exactly(at_least) }
    }

    /// Runs the crew until something ends it.
    fn watch(&mut self, see: &mut dyn FnMut(&Snapshot)) -> Result<Stop, ProofError> {
        let mut victims_at = Instant::now();
        loop {
            let now = Instant::now();
            let mut due: Vec<_> = self.members.iter_mut().filter(|member| member.is_due(now)).collect();
            for member in &mut due {
                member.start(&self.quarters)?;
            }
            // Together: of moves in a row, only the first one waits for a grace period.
            due.into_iter().for_each(|member| member.set_to_work(&self.quarters));
            self.meters.workers = self.members.iter().filter_map(Member::worker_pid).collect();
            if now >= victims_at {
                victims_at = now + VICTIMS_EVERY;
                if self.plan.reaches_limit()
                    && let Some(other) = self.meters.endangered(0)
                {
                    return Ok(Stop::VictimUnsafe { pid: other.pid, oom_score_adj: other.oom_score_adj });
                }
            }
            if let Some(stop) = self.wait(see)? {
                return Ok(stop);
            }
        }
    }

    /// Waits once, and takes what became ready.
    fn wait(&mut self, see: &mut dyn FnMut(&Snapshot)) -> Result<Option<Stop>, ProofError> {
        let ready = self.poll()?;
        if ready.signal && self.signals.caught() {
            return Ok(Some(Stop::Interrupted));
        }
        if ready.init {
            return Ok(Some(Stop::InitEnded));
        }
        for (index, ended, told) in ready.members {
            match self.members[index].take(ended, told)? {
                Event::Nothing => {}
                Event::Filled => {
                    let all = self.members.iter().all(|member| member.state == MemberState::Sustaining);
                    self.tally.target_reached |= all;
                }
                Event::Ended(WorkerEnd::Signal(SIGKILL)) => self.killed()?,
                Event::Ended(WorkerEnd::Signal(_)) => self.tally.kills.external += 1,
                Event::Ended(WorkerEnd::Exit(code)) => return Ok(Some(Stop::WorkerEnded { code })),
                Event::Failed { stage, errno } => return Ok(Some(Stop::WorkerFailed { stage, errno })),
            }
        }
        if ready.tick {
            let _ = self.timer.wait();
            self.kills_at_ticks = [self.kills_at_ticks[1], self.meters.own.oom_kill()?];
            if self.sample(see)? {
                return Ok(Some(Stop::Broken));
            }
        }
        Ok((self.started.elapsed() >= self.request.time).then_some(Stop::TimeUp))
    }

    fn poll(&self) -> Result<Ready, ProofError> {
        let mut fds = vec![
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let living: Vec<usize> = (0..self.members.len())
            .filter_map(|index| {
                let [end, word] = self.members[index].descriptors()?;
                fds.extend([PollFd::new(end, PollFlags::POLLIN), PollFd::new(word, PollFlags::POLLIN)]);
                Some(index)
            })
            .collect();
        fds.extend(self.init.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(ProofError::Observe { what: "poll", source: e.into() }),
        }
        let ready = |i: usize| fds.get(i).is_some_and(|fd| fd.any().unwrap_or(false));
        let members =
            living.iter().enumerate().map(|(at, index)| (*index, ready(2 + 2 * at), ready(3 + 2 * at)));
        Ok(Ready {
            tick: ready(0),
            signal: ready(1),
            members: members.filter(|(_, ended, told)| *ended || *told).collect(),
            init: ready(2 + 2 * living.len()),
        })
    }

    /// Takes a sample, and says whether usage is above the limit.
    fn sample(&mut self, see: &mut dyn FnMut(&Snapshot)) -> Result<bool, ProofError> {
        let sample = Sample {
            at_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            touched_bytes: self.members.iter().map(Member::touched_bytes).sum(),
            usage_bytes: self.meters.limiter().usage()?,
        };
        self.tally.add(sample);
        let members = self.members.iter().map(member_snapshot).collect();
        see(&Snapshot { sample, limit_bytes: self.plan.limit_bytes, members });
        let highest = self.plan.limit_bytes.map_or(u64::MAX, |limit| limit + self.plan.noise_bytes);
        Ok(sample.usage_bytes > highest)
    }

    /// Puts down a death by SIGKILL.
    fn killed(&mut self) -> Result<(), ProofError> {
        let oom_kills = self.meters.own.oom_kill()?.saturating_sub(self.before.own.oom_kill);
        let silent = !self.meters.limiter_cgroup.counts_hits()?;
        let hits = self.hits()?;
        self.tally.killed(oom_kills, hits, silent);
        Ok(())
    }

    /// Hits of the limit, and of those above it, since the beginning.
    fn hits(&self) -> Result<[u64; 2], ProofError> {
        let limiter = self.meters.limiter().read()?.limit_hits.saturating_sub(self.before.limiter_hits);
        Ok([limiter, self.meters.hits_above().saturating_sub(self.before.hits_above)])
    }

    fn summary(&self, evidence: &Evidence, took: Duration) -> Summary {
        let written_bytes: u64 = self.members.iter().map(Member::written_bytes).sum();
        let rate = u128::from(written_bytes) * 1_000_000 / took.as_micros().max(1);
        let now = self.pressure.as_ref().and_then(|source| source.read().ok());
        let waited = |of: fn(&Pressure) -> u64| Some(of(&now?).saturating_sub(of(&self.before.pressure?)));
        Summary {
            usage_min_bytes: self.tally.min_bytes,
            usage_mean_bytes: self.tally.mean_bytes(),
            usage_max_bytes: self.tally.max_bytes,
            written_bytes,
            bytes_per_second: u64::try_from(rate).unwrap_or(u64::MAX),
            kills: self.tally.kills,
            others_killed: evidence.others_killed,
            limit_hits: evidence.limit_hits,
            pressure_some_us: waited(|p| p.some_total_us),
            pressure_full_us: waited(|p| p.full_total_us),
            pressure_scope: self.pressure.as_ref().map(|source| source.scope),
        }
    }
}

/// On v2 the worker's memory cgroup is its unified one.
fn beside_v1(version: Version, init: Option<Pid>) -> Option<PathBuf> {
    init.filter(|_| version == Version::V1).and_then(|init| pressure::folder_of(init.as_raw()))
}

fn member_record(member: &Member) -> MemberRecord {
    MemberRecord {
        strategy: member.strategy,
        share_bytes: member.share_bytes,
        written_bytes: member.written_bytes(),
        starts: member.starts,
        kills: member.kills,
    }
}

fn member_snapshot(member: &Member) -> MemberSnapshot {
    MemberSnapshot {
        strategy: member.strategy,
        state: member.state,
        share_bytes: member.share_bytes,
        touched_bytes: member.touched_bytes(),
        written_bytes: member.written_bytes(),
        kills: member.kills,
    }
}

/// What became ready; of members the index, whether it ended, whether it told something.
struct Ready {
    tick: bool,
    signal: bool,
    init: bool,
    members: Vec<(usize, bool, bool)>,
}
