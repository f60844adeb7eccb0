//! The checks of the container's memory: watched, proved below and above the limit, and followed while it changes.

use std::time::Duration;

use nix::unistd::Pid;

use super::runtime::{Folder, Runtime, is_alive};
use super::{ABOVE_BYTES, LIMIT_BYTES, List, Seen, Step, WITHIN_BYTES, Wrong};
use crate::monitor::Source;
use crate::proof::request::Trigger;
use crate::proof::stress::{self, StressRequest, StressVerdict};
use crate::proof::{self, Asked, Outcome, Request, Sample, Strategy, Subject, Verdict};
use crate::units::{MIB, Mib};

/// How long the container is stressed.
const STRESS_TIME: Duration = Duration::from_secs(1);

/// Usage, percent and peak can be read, and make sense.
pub fn monitoring(pid: i32, list: &mut List<'_>) {
    list.check(Step::Monitoring, "monitoring", || {
        let reading = Source::of_process(pid)
            .and_then(|mut source| source.read())
            .map_err(|e| Wrong::from_error(&e))?;
        let usage = Mib(reading.usage_bytes);
        let Some(percent) = reading.percent else {
            return Err(Wrong::new(format!("{usage} in use, and no limit to compare with")));
        };
        if reading.usage_bytes > LIMIT_BYTES
            || reading.peak_bytes.is_some_and(|peak| peak < reading.usage_bytes)
        {
            return Err(Wrong::new(format!("{usage} in use is more than can be")));
        }
        Ok(format!("{usage} in use, {percent:.1} % of {}", Mib(LIMIT_BYTES)))
    });
}

/// Less than the limit fits, and is accounted.
pub fn within(pid: i32, runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::Within, "within", || {
        let outcome = prove(pid, runtime, folder, Strategy::Sequential, WITHIN_BYTES, &mut |_| {})?;
        expect(&outcome, &[Verdict::WithinLimit])
    });
}

/// More than the limit is killed where predicted, and the container lives.
pub fn above(pid: i32, runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::Above, "above", || {
        let outcome = prove(pid, runtime, folder, Strategy::Sequential, ABOVE_BYTES, &mut |_| {})?;
        let seen = expect(&outcome, &[Verdict::Enforced])?;
        if !is_alive(pid) {
            return Err(Wrong::new("the container's init did not survive the proof"));
        }
        Ok(format!("{seen}; the container lives"))
    });
}

/// Under pressure by several workers at once, usage stays at the limit.
pub fn stress(pid: i32, runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::Above, "stress", || {
        let base = request(pid, runtime, folder, Strategy::Sequential, ABOVE_BYTES);
        let request = StressRequest { base, strategies: Strategy::DEFAULT.to_vec(), time: STRESS_TIME };
        let outcome = stress::stress(&request, &mut |_| {}).map_err(|e| Wrong::from_error(&e))?;
        let decision = &outcome.decision;
        let seen = format!("{}: {}", decision.verdict, decision.sentence);
        if decision.verdict != StressVerdict::Held {
            return Err(Wrong::by_exit(decision.verdict.exit(), seen, decision.hint.as_ref()));
        }
        let kills = outcome.record.summary.map_or(0, |summary| summary.kills.all());
        Ok(format!("{seen}; {kills} workers killed, the container lives"))
    });
}

/// Usage follows what is written while it is written, and falls when it is given back.
pub fn tracking(pid: i32, runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::Tracking, "tracking", || {
        let mut seen: Vec<Sample> = Vec::new();
        let mut see = |sample: &Sample| seen.push(*sample);
        let outcome = prove(pid, runtime, folder, Strategy::Sequential, WITHIN_BYTES, &mut see)?;
        expect(&outcome, &[Verdict::WithinLimit])?;
        let before = outcome.record.usage_before_bytes.unwrap_or(0);
        let after = outcome.record.usage_after_bytes.unwrap_or(0);
        let highest = seen.iter().map(|sample| sample.usage_bytes).max().unwrap_or(0);
        let follows = |s: &Sample| s.usage_bytes + 2 * MIB >= before.max(MIB) - MIB + s.touched_bytes;
        if seen.is_empty() || !seen.iter().all(follows) {
            return Err(Wrong::new(format!(
                "usage did not follow what was written ({} samples)",
                seen.len()
            )));
        }
        if after > before + WITHIN_BYTES / 4 {
            return Err(Wrong::new(format!("{} in use afterwards, {} before", Mib(after), Mib(before))));
        }
        Ok(format!(
            "{} samples: usage rose from {} to {} and fell to {}",
            seen.len(),
            Mib(before),
            Mib(highest),
            Mib(after)
        ))
    });
}

/// Percentages are of the limit, while half of it is held.
pub fn percentages(pid: i32, runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::Tracking, "percentages", || {
        let mut source = Source::of_process(pid).map_err(|e| Wrong::from_error(&e))?;
        let mut readings = Vec::new();
        let mut see = |_: &Sample| readings.extend(source.read().ok());
        let outcome = prove(pid, runtime, folder, Strategy::Sequential, WITHIN_BYTES, &mut see)?;
        expect(&outcome, &[Verdict::WithinLimit])?;
        // The last sample is taken when all is written: 64 of 128 MiB, and what init has.
        let Some((percent, reading)) = readings.last().and_then(|last| Some((last.percent?, last))) else {
            return Err(Wrong::new("no percentage could be read while memory was held"));
        };
        let seen = format!("{percent:.1} % while {} are in use", Mib(reading.usage_bytes));
        if (50.0..55.0).contains(&percent) && reading.limit_bytes == Some(LIMIT_BYTES) {
            return Ok(format!("{seen} of {}", Mib(LIMIT_BYTES)));
        }
        Err(Wrong::new(format!("{seen}, and {} were asked for as the limit", Mib(LIMIT_BYTES))))
    });
}

/// Makes a proof of the container's limit with this strategy.
pub fn prove(
    pid: i32,
    runtime: &Runtime,
    folder: &Folder,
    strategy: Strategy,
    target: u64,
    see: &mut dyn FnMut(&Sample),
) -> Result<Outcome, Wrong> {
    let request = request(pid, runtime, folder, strategy, target);
    proof::prove(&request, see).map_err(|e| Wrong::from_error(&e))
}

fn request(pid: i32, runtime: &Runtime, folder: &Folder, strategy: Strategy, target: u64) -> Request {
    let mut subject = Subject::of_process(Pid::from_raw(pid));
    subject.record_dirs = vec![folder.path.clone().into()];
    let mut request = Request::new(subject, Asked::Limited(LIMIT_BYTES));
    request.strategy = strategy;
    request.target_bytes = Some(target);
    request.trigger = Trigger::Verify;
    request.worker_program.clone_from(&runtime.rt);
    request
}

/// The verdict, where it is one of those.
pub fn expect(outcome: &Outcome, wanted: &[Verdict]) -> Seen {
    let decision = &outcome.decision;
    let said = format!("{}: {}", decision.verdict, decision.sentence);
    // A limit that holds by swapping holds as well; it is said so.
    let swapped = wanted.contains(&Verdict::Enforced) && decision.verdict == Verdict::SpilledToSwap;
    if wanted.contains(&decision.verdict) || swapped {
        return Ok(said);
    }
    Err(Wrong::by_exit(decision.verdict.exit(), said, decision.hint.as_ref()))
}
