//! The workers of a stress: each fills its share, then writes it again and again; one that died is started again, but
//! never so fast that a small limit becomes a storm of forks.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::poll::after;
use crate::proof::error::ProofError;
use crate::proof::scratch::Scratch;
use crate::proof::strategy::Strategy;
use crate::proof::worker::{Reply, Stage, Worker, WorkerEnd};

/// A dead worker is started again after this, and each time twice as late, up to the second.
const RESTART_AFTER: Duration = Duration::from_millis(100);
const RESTART_AT_LATEST: Duration = Duration::from_secs(2);

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    Filling,
    Sustaining,
    Dead,
}

/// One place in the crew, filled by one worker after the other.
#[derive(Debug)]
pub struct Member {
    pub strategy: Strategy,
    pub share_bytes: u64,
    pub state: MemberState,
    /// Workers that were started, and deaths by SIGKILL.
    pub starts: u64,
    pub kills: u64,
    /// OOM kills of processes beside the workers.
    pub deaths_beside: u64,
    worker: Option<Worker>,
    /// Written by the workers before.
    written_before: u64,
    restart_at: Instant,
}

/// What a worker's descriptors told.
#[derive(Debug)]
pub enum Event {
    Nothing,
    /// It has filled its share.
    Filled,
    Ended(WorkerEnd),
    Failed {
        stage: Stage,
        errno: i32,
    },
}

/// Where workers come from and where they go.
#[derive(Debug)]
pub struct Quarters<'a> {
    pub program: &'a Path,
    pub dir: PathBuf,
    /// On a hybrid host: the container's folder of the unified hierarchy, which tells the pressure of those in it.
    pub unified_dir: Option<PathBuf>,
    pub scratch: Option<&'a Scratch>,
    pub step_bytes: u64,
    /// What the whole stress may take.
    pub time: Duration,
}

impl Member {
    pub fn new(strategy: Strategy, share_bytes: u64) -> Self {
        Self {
            strategy,
            share_bytes,
            state: MemberState::Dead,
            starts: 0,
            kills: 0,
            deaths_beside: 0,
            worker: None,
            written_before: 0,
            restart_at: Instant::now(),
        }
    }

    /// Starts a worker: out of the cgroup, then in it. It waits for its work.
    pub fn start(&mut self, quarters: &Quarters<'_>) -> Result<(), ProofError> {
        let scratch = quarters.scratch.filter(|_| self.strategy == Strategy::File);
        let (strategy, bytes) = (self.strategy, self.share_bytes);
        let worker = Worker::spawn(quarters.program, strategy, bytes, scratch, quarters.time)?;
        worker.enter(&quarters.dir)?;
        self.starts += 1;
        self.worker = Some(worker);
        Ok(())
    }

    /// Has the worker that was started fill its share.
    pub fn set_to_work(&mut self, quarters: &Quarters<'_>) {
        let Some(worker) = self.worker.as_mut() else { return };
        if let Some(dir) = &quarters.unified_dir {
            // Without it the pressure of this worker is not counted, and nothing else changes.
            let _ = worker.join(dir);
        }
        // A worker that has gone meanwhile shows on its pidfd.
        let _ = worker.order(self.share_bytes, quarters.step_bytes, u64::MAX);
        self.state = MemberState::Filling;
    }

    /// True where it is time to start again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.worker.is_none() && now >= self.restart_at
    }

    /// The descriptors to wait on: the worker's end, and its word.
    pub fn descriptors(&self) -> Option<[BorrowedFd<'_>; 2]> {
        self.worker.as_ref().map(|worker| [worker.pidfd(), worker.socket()])
    }

    pub fn worker_pid(&self) -> Option<i32> {
        self.worker.as_ref().map(Worker::pid)
    }

    /// Used by the worker that lives.
    pub fn touched_bytes(&self) -> u64 {
        self.worker.as_ref().map_or(0, Worker::touched)
    }

    /// Written by all workers of this place.
    pub fn written_bytes(&self) -> u64 {
        self.written_before + self.worker.as_ref().map_or(0, |w| w.touched() + w.rewritten())
    }

    /// Takes what became ready.
    pub fn take(&mut self, ended: bool, told: bool) -> Result<Event, ProofError> {
        let Some(worker) = self.worker.as_mut() else { return Ok(Event::Nothing) };
        if told {
            match worker.reply_at_hand() {
                Ok(Reply::Done(_)) => {
                    let _ = worker.sustain();
                    self.state = MemberState::Sustaining;
                    return Ok(Event::Filled);
                }
                Ok(Reply::Failed(stage, errno)) => return Ok(Event::Failed { stage, errno }),
                // Closed: its end shows on the pidfd in a moment.
                _ => return self.bury().map(Event::Ended),
            }
        }
        if ended { self.bury().map(Event::Ended) } else { Ok(Event::Nothing) }
    }

    /// Waits for the end of a worker that is dead or dying, and remembers what it wrote.
    fn bury(&mut self) -> Result<WorkerEnd, ProofError> {
        let end = self.dismiss()?.unwrap_or(WorkerEnd::Exit(0));
        let later = RESTART_AFTER.saturating_mul(1 << self.kills.min(8)).min(RESTART_AT_LATEST);
        self.restart_at = after(later);
        self.kills += u64::from(matches!(end, WorkerEnd::Signal(_)));
        Ok(end)
    }

    /// Kills the worker that lives, if one does.
    pub fn kill(&self) -> Result<(), ProofError> {
        let killed = self.worker.as_ref().map_or(Ok(()), Worker::kill);
        killed.map_err(|source| ProofError::Observe { what: "kill of a worker", source })
    }

    /// As [`Self::kill`], and waits for its end.
    pub fn end(&mut self) -> Result<(), ProofError> {
        self.kill()?;
        self.dismiss().map(drop)
    }

    fn dismiss(&mut self) -> Result<Option<WorkerEnd>, ProofError> {
        self.written_before = self.written_bytes();
        self.state = MemberState::Dead;
        let Some(mut worker) = self.worker.take() else { return Ok(None) };
        let end = worker.reap();
        self.deaths_beside += worker.deaths_beside();
        worker.dismiss_beside();
        end.map(Some).map_err(|source| ProofError::Observe { what: "wait for a worker", source })
    }
}
