//! Every strategy of the prover against the container's limit.

use super::memory::{expect, prove};
use super::runtime::{Folder, Runtime, is_alive};
use super::{ABOVE_BYTES, List, Seen, Step, Wrong};
use crate::proof::{Reason, Strategy, Verdict};

/// The check of a strategy; `sequential` has been proved by the steps before.
fn name(strategy: Strategy) -> Option<&'static str> {
    match strategy {
        Strategy::Sequential => None,
        Strategy::Pattern => Some("strategy-pattern"),
        Strategy::Random => Some("strategy-random"),
        Strategy::File => Some("strategy-file"),
        Strategy::Shm => Some("strategy-shm"),
        Strategy::Mlock => Some("strategy-mlock"),
        Strategy::Fork => Some("strategy-fork"),
    }
}

/// One check a strategy; what cannot be tried here, as locking memory without the right, is not applicable.
pub fn each(pid: i32, runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    for strategy in Strategy::ALL {
        let Some(name) = name(strategy) else { continue };
        list.check(Step::Strategies, name, || proved(pid, runtime, folder, strategy));
    }
}

fn proved(pid: i32, runtime: &Runtime, folder: &Folder, strategy: Strategy) -> Seen {
    let outcome = prove(pid, runtime, folder, strategy, ABOVE_BYTES, &mut |_| {})?;
    let not_here = [Reason::MlockLimit, Reason::NoFolder].map(|reason| Some(reason.name()));
    if not_here.contains(&outcome.decision.reason) {
        return Err(Wrong::not_applicable(outcome.decision.sentence));
    }
    let seen = expect(&outcome, &[Verdict::Enforced, Verdict::HeldByReclaim])?;
    match is_alive(pid) {
        true => Ok(seen),
        false => Err(Wrong::new("the container's init did not survive the proof")),
    }
}
