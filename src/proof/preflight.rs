//! All refusals, from facts alone: pure, so that each is tested without a kernel.

use super::facts::{Accounting, Facts};
use super::plan::Plan;
use super::refusal::{Reason, Refusal};
use super::request::{Asked, Request, Status, Trigger};
use super::strategy::Strategy;
use super::victims::{self, Candidate};
use crate::units::Mib;

/// Why the planned proof must not be begun; empty where it may. `reserved_bytes` is what other running proofs
/// of this host may still take.
pub fn refusals(facts: &Facts, request: &Request, plan: Option<&Plan>, reserved_bytes: u64) -> Vec<Refusal> {
    let mut found: Vec<Refusal> = status(facts).into_iter().chain(shared_cgroup(facts, request)).collect();
    let Some(plan) = plan else {
        if found.is_empty() {
            found.push(unlimited(request));
        }
        return found;
    };
    found.extend(host(facts, plan, reserved_bytes));
    if let Some(accounting) = &facts.accounting {
        found.extend(limited_above(accounting, request, plan));
        found.extend(limited_below(accounting, request));
        if plan.reaches_limit() {
            found.extend(at_the_limit(facts, accounting, plan));
        }
    }
    found.extend(mlock_limit(facts, plan));
    found.retain(|refusal| !(request.allow_kill_container && refusal.reason.overridable()));
    found
}

fn status(facts: &Facts) -> Option<Refusal> {
    match facts.status {
        Status::Live => None,
        Status::Paused => Some(Refusal::new(
            Reason::Paused,
            "the container is paused: a worker in its cgroup would never run",
            "resume it first",
        )),
        Status::Stopped => Some(Refusal::new(
            Reason::Stopped,
            "the container is stopped: nothing holds its cgroup",
            "prove a created or running container",
        )),
    }
}

/// A hook is called by an engine: in a cgroup of both, the proof would be one of the engine's limit and page cache.
fn shared_cgroup(facts: &Facts, request: &Request) -> Option<Refusal> {
    let accounting = facts.accounting.as_ref().filter(|accounting| accounting.holds_prover)?;
    (request.trigger == Trigger::Hook).then(|| {
        Refusal::new(
            Reason::SharedCgroup,
            format!("the memory cgroup {} is this hook's own too", accounting.location.path),
            "give the container a cgroup of its own, and run the hook outside of it",
        )
    })
}

fn unlimited(request: &Request) -> Refusal {
    let sentence = match request.asked {
        Asked::Unknown => "the kernel has no memory limit for it",
        _ => "no memory limit was asked for, and the kernel has none",
    };
    Refusal::new(
        Reason::Unlimited,
        sentence,
        "set a limit, say what was asked with --expect MB, or try --up-to MB",
    )
}

fn host(facts: &Facts, plan: &Plan, reserved_bytes: u64) -> Vec<Refusal> {
    let mut found = Vec::new();
    let host = &facts.host;
    if host.panic_on_oom >= 2 && plan.reaches_limit() {
        found.push(Refusal::new(
            Reason::HostUnsafe,
            "vm.panic_on_oom is 2: an OOM kill in the container would panic the host",
            "set vm.panic_on_oom to 0 or 1",
        ));
    }
    let spare = host.mem_available_bytes.saturating_sub(host.reserve_bytes());
    let wanted = plan.ceiling_bytes.saturating_sub(plan.swap_room_bytes).saturating_add(reserved_bytes);
    if wanted > spare {
        let mut sentence =
            format!("the proof may take {} and the host can spare {}", Mib(plan.ceiling_bytes), Mib(spare));
        if reserved_bytes > 0 {
            sentence += &format!(", {} of it reserved by running proofs", Mib(reserved_bytes));
        }
        found.push(Refusal::new(
            Reason::HostUnsafe,
            sentence,
            "free memory on the host, or prove a smaller limit",
        ));
    }
    let swapped = plan.may_swap_bytes();
    if swapped > host.swap_free_bytes / 2 {
        found.push(Refusal::new(
            Reason::HostUnsafe,
            format!("the proof may swap out {} of {} free swap", Mib(swapped), Mib(host.swap_free_bytes)),
            "ask for less, or limit the container's swap",
        ));
    }
    found
}

/// An ancestor that binds tighter than the cgroup's own limit, or would be full before it. The ancestor counts as
/// the container's own where its limit is exactly the one asked for (init moved into a leaf below).
fn limited_above(accounting: &Accounting, request: &Request, plan: &Plan) -> Option<Refusal> {
    let hint = "prove the cgroup that the limit belongs to, or raise the limit above";
    if let Some(limiter) = accounting.limiter.as_ref().filter(|l| !l.own)
        && request.asked != Asked::Limited(limiter.limit_bytes)
    {
        let own = accounting.limit_bytes.map_or("no limit".to_owned(), |bytes| Mib(bytes).to_string());
        let sentence = format!(
            "{} limits it to {}, tighter than its own {own}: siblings there could die",
            limiter.cgroup.name(),
            Mib(limiter.limit_bytes)
        );
        return Some(Refusal::new(Reason::LimitedAbove, sentence, hint));
    }
    let needed = plan.expected_charge_bytes();
    let full = accounting.above.iter().find(|above| above.room_bytes < needed)?;
    let sentence = format!(
        "{} (limit {}) has room for {} only, and the proof takes {}: siblings there could die",
        full.name,
        Mib(full.limit_bytes),
        Mib(full.room_bytes),
        Mib(needed)
    );
    Some(Refusal::new(Reason::LimitedAbove, sentence, hint))
}

/// A cgroup that the container made for itself, and that binds tighter than the limit that was asked for: that one would not
/// be reached.
fn limited_below(accounting: &Accounting, request: &Request) -> Option<Refusal> {
    let (container, limiter) = (accounting.container.as_ref()?, accounting.limiter.as_ref()?);
    request.asked.bytes()?;
    let own = container.limit_bytes.filter(|own| limiter.limit_bytes < *own)?;
    let sentence = format!(
        "the container limits itself to {} in {}, tighter than its own {}: that would not be reached",
        Mib(limiter.limit_bytes),
        limiter.cgroup.name(),
        Mib(own)
    );
    let hint = "lift the limit in the cgroup below, or prove that one by --cgroup";
    Some(Refusal::new(Reason::LimitedBelow, sentence, hint))
}

fn mlock_limit(facts: &Facts, plan: &Plan) -> Option<Refusal> {
    let too_much = plan.strategy == Strategy::Mlock && plan.ceiling_bytes > facts.lockable_bytes;
    too_much.then(|| {
        Refusal::new(
            Reason::MlockLimit,
            format!(
                "the proof locks up to {}, and this caller may lock {}",
                Mib(plan.ceiling_bytes),
                Mib(facts.lockable_bytes)
            ),
            "run with CAP_IPC_LOCK, or raise the limit of locked memory (ulimit -l)",
        )
    })
}

/// Dangers of an OOM kill itself.
fn at_the_limit(facts: &Facts, accounting: &Accounting, plan: &Plan) -> Vec<Refusal> {
    let mut found = Vec::new();
    if accounting.oom_disabled {
        found.push(Refusal::new(
            Reason::OomDisabled,
            "oom_kill_disable is set: a process at the limit hangs instead of being killed",
            "write 0 to memory.oom_control of the cgroup",
        ));
    }
    if let Some(name) = &accounting.oom_group {
        // A process with adj −1000 is spared, but the rest of the container would still go.
        found.push(Refusal::new(
            Reason::GroupKill,
            format!("memory.oom.group is set at {name}: one kill takes the whole container"),
            "write 0 to memory.oom.group, or risk the container with --allow-kill-container",
        ));
    }
    if let Some(limit) = plan.limit_bytes {
        let predicted = plan.predicted_bytes.unwrap_or(0);
        let worker = victims::held_by_worker(plan.strategy, predicted, plan.noise_bytes);
        let total = limit.saturating_add(accounting.swap_room_bytes);
        if let Some(other) = victims::endangered(&facts.candidates, worker, total) {
            found.push(victim_unsafe(&other, limit));
        }
    }
    found
}

/// The refusal for a process that the kernel could choose instead of the worker.
fn victim_unsafe(other: &Candidate, limit: u64) -> Refusal {
    Refusal::new(
        Reason::VictimUnsafe,
        format!(
            "process {} ({} of {} held, oom_score_adj {}) could be killed instead of the worker",
            other.pid,
            Mib(other.bytes),
            Mib(limit),
            other.oom_score_adj
        ),
        victim_hint(other.oom_score_adj),
    )
}

/// What can be done for a process with that oom_score_adj.
pub(super) fn victim_hint(adj: i64) -> &'static str {
    if adj > 0 {
        "lower its oom_score_adj to 0, or risk the container with --allow-kill-container"
    } else {
        "it holds nearly all of the limit: raise the limit, prove below it with MB, or risk the container with \
         --allow-kill-container"
    }
}

#[cfg(test)]
mod tests;
