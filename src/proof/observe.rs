//! One poll over everything that can end a proof: the worker, its socket, the clock, a signal, the container's init.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::timerfd::TimerFd;
use nix::unistd::Pid;

use super::error::ProofError;
use super::evidence::{Sample, Stop};
use super::plan::Plan;
use super::samples::Samples;
use super::victims::Candidate;
use super::worker::{Reply, Worker};
use crate::cgroup::Meter;
use crate::poll::{SignalGuard, after, ticker};
use crate::sys::worker::pidfd_open;

/// How often usage is sampled.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// How often the likeliest victim is looked for again.
pub const VICTIMS_EVERY: Duration = Duration::from_millis(100);

/// Without this much progress in [`STALL_AFTER`] while memory.high is exceeded, the worker is throttled. The kernel
/// then sleeps up to 2 s in each call that charges (mem_cgroup_handle_over_high): one step a call.
const STALL_BYTES: u64 = 4 << 20;
const STALL_AFTER: Duration = Duration::from_secs(4);

/// The end of a worker that is dying is waited for beyond the deadline: this part of the whole time, of which a hook's proof
/// leaves a fifth, and no longer than that.
const GRACE_SHARE: u32 = 8;
const LONGEST_GRACE: Duration = Duration::from_secs(5);

/// A look at usage and swap, and who might die; given by the engine, which knows the cgroups.
pub trait Watched {
    /// The counters of the limiter.
    fn limiter(&self) -> &Meter;
    /// Times memory.high was exceeded so far.
    fn high_hits(&self) -> u64;
    /// Swap used now above what there was before, in bytes.
    fn swapped_bytes(&self) -> u64;
    /// The process that could be killed rather than a worker that has `touched` bytes.
    fn endangered(&self, touched: u64) -> Option<Candidate>;
}

/// Observes one worker from its first byte on.
#[derive(Debug)]
pub struct Observer {
    signals: SignalGuard,
    timer: TimerFd,
    init: Option<OwnedFd>,
    started: Instant,
    deadline: Instant,
    /// How long beyond that a worker's end is waited for.
    grace: Duration,
    victims_at: Instant,
    /// Progress, hits of memory.high and time when progress was last enough.
    progress: (u64, u64, Instant),
    pub samples: Samples,
    pub swapped_bytes: u64,
    /// The most that the usage of others rose, from its lowest.
    pub others_grew_bytes: u64,
    others_least: u64,
    /// How far usage may be ahead of the worker's word: one step being made present, and batched charges.
    slack: u64,
}

impl Observer {
    /// Starts the clocks. `init` is watched too; one that is gone already shows at once.
    pub fn start(signals: SignalGuard, init: Option<Pid>, plan: &Plan) -> Result<Self, ProofError> {
        let failed = |what| move |source: io::Error| ProofError::Observe { what, source };
        let now = Instant::now();
        Ok(Self {
            signals,
            timer: ticker(SAMPLE_EVERY).map_err(failed("sampling timer"))?,
            init: init.map(pidfd_open).transpose().map_err(failed("process descriptor of init"))?,
            started: now,
            deadline: after(plan.deadline),
            grace: (plan.deadline / GRACE_SHARE).min(LONGEST_GRACE),
            victims_at: now + VICTIMS_EVERY,
            progress: (0, 0, now),
            samples: Samples::default(),
            swapped_bytes: 0,
            others_grew_bytes: 0,
            others_least: plan.usage_before_bytes,
            slack: plan.step_bytes + plan.noise_bytes,
        })
    }

    /// Time since the worker's first byte could be written.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until the worker has done its order or something ends the proof. `see` is told every sample.
    pub fn wait(
        &mut self,
        worker: &mut Worker,
        watched: &dyn Watched,
        see: &mut dyn FnMut(&Sample),
    ) -> Result<Stop, ProofError> {
        loop {
            let ready = self.poll(worker)?;
            if ready.signal && self.signals.caught() {
                return Ok(Stop::Interrupted);
            }
            if ready.init {
                return Ok(Stop::InitEnded);
            }
            if ready.socket {
                match worker.reply_at_hand() {
                    Ok(Reply::Done(_)) => {
                        let sample = self.sample(worker, watched, see)?;
                        self.weigh_others(&sample);
                        return Ok(Stop::Filled);
                    }
                    Ok(Reply::Failed(stage, errno)) => return Ok(Stop::WorkerFailed { stage, errno }),
                    Err(source) if !is_closed(&source) => {
                        return Err(ProofError::Observe { what: "command socket", source });
                    }
                    // Closed: its death shows on the pidfd in a moment.
                    _ => {
                        let stop = self.await_end(worker);
                        self.sample(worker, watched, see)?;
                        return Ok(stop);
                    }
                }
            }
            if ready.ended {
                // How far it came, and what is in use without it.
                self.sample(worker, watched, see)?;
                return Ok(Stop::WorkerEnded);
            }
            if ready.tick {
                let _ = self.timer.wait();
                let sample = self.sample(worker, watched, see)?;
                self.weigh_others(&sample);
                if let Some(stop) = self.judge(worker, watched) {
                    return Ok(stop);
                }
            }
        }
    }

    fn poll(&self, worker: &Worker) -> Result<Ready, ProofError> {
        let mut fds = vec![
            PollFd::new(worker.pidfd(), PollFlags::POLLIN),
            PollFd::new(worker.socket(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.init.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(ProofError::Observe { what: "poll", source: e.into() }),
        }
        let ready = |i: usize| fds.get(i).is_some_and(|fd| fd.any().unwrap_or(false));
        Ok(Ready { ended: ready(0), socket: ready(1), tick: ready(2), signal: ready(3), init: ready(4) })
    }

    /// The socket is closed a little before the pidfd tells (the kernel unmaps in between); waits for it.
    fn await_end(&self, worker: &Worker) -> Stop {
        let mut fds = [PollFd::new(worker.pidfd(), PollFlags::POLLIN)];
        let left = self.deadline.saturating_duration_since(Instant::now()).max(self.grace);
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => Stop::Deadline,
            _ => Stop::WorkerEnded,
        }
    }

    fn sample(
        &mut self,
        worker: &Worker,
        watched: &dyn Watched,
        see: &mut dyn FnMut(&Sample),
    ) -> Result<Sample, ProofError> {
        let touched_bytes = worker.touched();
        let usage_bytes = watched.limiter().usage()?;
        let at_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let sample = Sample { at_us, touched_bytes, usage_bytes };
        self.swapped_bytes = self.swapped_bytes.max(watched.swapped_bytes());
        see(&sample);
        self.samples.add(sample);
        Ok(sample)
    }

    /// What others use is what the worker, who is alive, does not explain. A prediction is made from one look at that,
    /// which may have been at any point of their ups and downs.
    fn weigh_others(&mut self, sample: &Sample) {
        let worker = sample.touched_bytes / 512 * 513;
        // With swap, what the worker has touched is not all in use.
        let Some(others) = sample.usage_bytes.checked_sub(worker) else { return };
        self.others_least = self.others_least.min(others);
        // Usage was read after the progress: the worker may have gone on.
        let grown = others.saturating_sub(self.slack).saturating_sub(self.others_least);
        self.others_grew_bytes = self.others_grew_bytes.max(grown);
    }

    /// Whether the time is up, the worker is throttled, or somebody else would die.
    fn judge(&mut self, worker: &Worker, watched: &dyn Watched) -> Option<Stop> {
        let now = Instant::now();
        if now >= self.deadline {
            return Some(Stop::Deadline);
        }
        if now >= self.victims_at {
            self.victims_at = now + VICTIMS_EVERY;
            if let Some(other) = watched.endangered(worker.touched()) {
                return Some(Stop::unsafe_for(&other));
            }
        }
        let (touched, high, since) = self.progress;
        if worker.touched() >= touched + STALL_BYTES {
            self.progress = (worker.touched(), watched.high_hits(), now);
        } else if now.duration_since(since) >= STALL_AFTER {
            if watched.high_hits() > high {
                return Some(Stop::Throttled);
            }
            self.progress.2 = now;
        }
        None
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

struct Ready {
    ended: bool,
    socket: bool,
    tick: bool,
    signal: bool,
    init: bool,
}
