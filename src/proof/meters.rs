//! The counters that a proof watches, on kept descriptors.

use super::error::ProofError;
use super::facts::Accounting;
use super::observe::Watched;
use super::plan::Plan;
use super::request::Request;
use super::strategy::Strategy;
use super::victims::{self, Candidate};
use crate::cgroup::{CgroupError, MemoryCgroup, Meter};

/// The meters of one proof.
pub struct Meters {
    /// Where the worker is charged.
    pub own: Meter,
    /// The limiter; the same cgroup in the usual case.
    limiter: Meter,
    /// Of all others on the way up: one without a limit may be given one.
    above: Vec<Meter>,
    before_swap: u64,
    before_high: u64,
    limit_bytes: u64,
    swap_room_bytes: u64,
    strategy: Strategy,
    noise_bytes: u64,
    pub limiter_cgroup: MemoryCgroup,
    /// Process groups of the workers.
    pub workers: Vec<i32>,
    allow_kill_container: bool,
}

impl Meters {
    /// Opens the meters; `workers` are their process ids.
    pub fn open(
        request: &Request,
        plan: &Plan,
        accounting: &Accounting,
        workers: Vec<i32>,
    ) -> Result<Self, ProofError> {
        let limiter_cgroup = accounting.limiter.as_ref().map_or(&accounting.cgroup, |l| &l.cgroup).clone();
        let own = Meter::open(&accounting.cgroup)?;
        let above = meters_upwards(&accounting.cgroup, &limiter_cgroup)?;
        let before = own.read()?;
        Ok(Self {
            limiter: Meter::open(&limiter_cgroup)?,
            above,
            before_swap: before.swap_bytes,
            before_high: before.high,
            limit_bytes: plan.limit_bytes.unwrap_or(u64::MAX),
            swap_room_bytes: accounting.swap_room_bytes,
            strategy: plan.strategy,
            noise_bytes: plan.noise_bytes,
            limiter_cgroup,
            workers,
            allow_kill_container: request.allow_kill_container,
            own,
        })
    }

    /// What is in use at the limiter without what CPUs hold in stock; `None` where the statistics do not fit the usage,
    /// so that something else is charged too.
    pub fn charged(&self, noise_bytes: u64) -> Result<Option<u64>, ProofError> {
        let (charged, usage) = (self.limiter_cgroup.charged()?, self.limiter.usage()?);
        Ok(charged.filter(|charged| (usage.saturating_sub(noise_bytes)..=usage).contains(charged)))
    }

    /// Refusals of the limiter and of those above it so far; `None` where the kernel does not count them.
    pub fn refusals(&self) -> Option<[u64; 2]> {
        let above = self.above.iter().map(|meter| meter.refusals().ok()?).sum::<Option<u64>>()?;
        Some([self.limiter.refusals().ok()??, above])
    }

    /// Hits of the limits above the limiter so far.
    pub fn hits_above(&self) -> u64 {
        self.above.iter().filter_map(|meter| meter.read().ok()).map(|c| c.limit_hits).sum()
    }

    /// The processes of the container that are there now.
    pub fn others(&self) -> Vec<Candidate> {
        victims::candidates(&self.limiter_cgroup, &self.workers).unwrap_or_default()
    }

    /// The first of `others` that could be killed rather than a worker that has `touched` bytes.
    pub fn endangered_of(&self, others: &[Candidate], touched: u64) -> Option<Candidate> {
        if self.allow_kill_container || self.limit_bytes == u64::MAX {
            return None;
        }
        let usage = self.limiter.usage().ok()?;
        let at_limit = touched + self.limit_bytes.saturating_sub(usage);
        let total = self.limit_bytes + self.swap_room_bytes;
        let worker = victims::held_by_worker(self.strategy, at_limit, self.noise_bytes);
        victims::endangered(others, worker, total)
    }
}

/// The meters of all cgroups from `cgroup` up that can refuse it memory, but for the limiter's.
fn meters_upwards(cgroup: &MemoryCgroup, limiter: &MemoryCgroup) -> Result<Vec<Meter>, CgroupError> {
    let mut meters = Vec::new();
    for at in cgroup.upwards().filter(|at| at.dir != limiter.dir) {
        let own = at.dir == cgroup.dir;
        match at.binds_descendants().and_then(|binds| (own || binds).then(|| Meter::open(&at)).transpose()) {
            Ok(meter) => meters.extend(meter),
            // A mount point that is no cgroup of the controller.
            Err(e) if e.is_missing() && !own => {}
            Err(e) => return Err(e),
        }
    }
    Ok(meters)
}

impl Watched for Meters {
    fn limiter(&self) -> &Meter {
        &self.limiter
    }

    fn high_hits(&self) -> u64 {
        self.own.read().map_or(0, |c| c.high.saturating_sub(self.before_high))
    }

    fn swapped_bytes(&self) -> u64 {
        if self.swap_room_bytes == 0 {
            return 0;
        }
        self.own.read().map_or(0, |c| c.swap_bytes.saturating_sub(self.before_swap))
    }

    fn endangered(&self, touched: u64) -> Option<Candidate> {
        // Nobody is looked at where nobody is spared.
        if self.allow_kill_container { None } else { self.endangered_of(&self.others(), touched) }
    }
}
