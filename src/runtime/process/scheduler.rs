//! The CPU scheduler of a container process: checked in the parent, set by the process itself.

use nix::errno::Errno;
use oci_spec::runtime::{LinuxSchedulerFlag, LinuxSchedulerPolicy, Scheduler};

use super::reason::Reason;
use crate::sys::process::{SchedAttr, sched_setattr};

/// Why a scheduler was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    /// Out of -20..=19.
    #[error("invalid scheduler.nice: {nice} when scheduler.policy is {policy}")]
    Nice {
        /// The value asked for.
        nice: i32,
        /// The policy it was asked for with.
        policy: LinuxSchedulerPolicy,
    },
    /// A priority without a real-time policy.
    #[error("scheduler.priority can only be specified for SchedFIFO or SchedRR policy")]
    Priority,
    /// Deadline parameters without SCHED_DEADLINE.
    #[error("scheduler runtime/deadline/period can only be specified for SchedDeadline policy")]
    Deadline,
    /// EPERM while the container is confined to some CPUs: SCHED_DEADLINE needs all of them.
    #[error("process scheduler can't be used together with AllowedCPUs")]
    AllowedCpus,
    /// sched_setattr(2) failed.
    #[error("error setting scheduler: {0}")]
    Set(Reason),
}

/// runc's checks, without touching the process.
pub fn validate(scheduler: &Scheduler) -> Result<(), SchedulerError> {
    use LinuxSchedulerPolicy::{SchedBatch, SchedDeadline, SchedFifo, SchedOther, SchedRr};
    let policy = *scheduler.policy();
    let nice = scheduler.nice().unwrap_or_default();
    if matches!(policy, SchedOther | SchedBatch) && !(-20..=19).contains(&nice) {
        return Err(SchedulerError::Nice { nice, policy });
    }
    if scheduler.priority().unwrap_or_default() != 0 && !matches!(policy, SchedFifo | SchedRr) {
        return Err(SchedulerError::Priority);
    }
    let deadline = [scheduler.runtime(), scheduler.deadline(), scheduler.period()];
    if policy != SchedDeadline && deadline.iter().any(|value| value.unwrap_or_default() != 0) {
        return Err(SchedulerError::Deadline);
    }
    Ok(())
}

/// Sets the scheduler of the calling process. `confined`: the container has a list of CPUs.
pub fn apply(scheduler: &Scheduler, confined: bool) -> Result<(), SchedulerError> {
    match sched_setattr(attributes(scheduler)) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) if confined => Err(SchedulerError::AllowedCpus),
        Err(errno) => Err(SchedulerError::Set(errno.into())),
    }
}

fn attributes(scheduler: &Scheduler) -> SchedAttr {
    let flags = scheduler.flags().iter().flatten();
    SchedAttr {
        policy: match scheduler.policy() {
            LinuxSchedulerPolicy::SchedOther => 0,
            LinuxSchedulerPolicy::SchedFifo => 1,
            LinuxSchedulerPolicy::SchedRr => 2,
            LinuxSchedulerPolicy::SchedBatch => 3,
            LinuxSchedulerPolicy::SchedIso => 4,
            LinuxSchedulerPolicy::SchedIdle => 5,
            LinuxSchedulerPolicy::SchedDeadline => 6,
        },
        flags: flags.fold(0, |bits, flag| {
            bits | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
        }),
        nice: scheduler.nice().unwrap_or_default(),
        // A negative priority becomes a huge one, which the kernel refuses with EINVAL.
        priority: u32::try_from(scheduler.priority().unwrap_or_default()).unwrap_or(u32::MAX),
        runtime: scheduler.runtime().unwrap_or_default(),
        deadline: scheduler.deadline().unwrap_or_default(),
        period: scheduler.period().unwrap_or_default(),
        ..SchedAttr::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(json: &str) -> Scheduler {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn refuses_what_runc_refuses() {
        for (json, error) in [
            (
                r#"{"policy":"SCHED_BATCH","nice":20}"#,
                "invalid scheduler.nice: 20 when scheduler.policy is SCHED_BATCH",
            ),
            (
                r#"{"policy":"SCHED_OTHER","priority":1}"#,
                "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
            ),
            (
                r#"{"policy":"SCHED_FIFO","priority":1,"runtime":5}"#,
                "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
            ),
        ] {
            assert_eq!(validate(&scheduler(json)).unwrap_err().to_string(), error);
        }
        assert!(validate(&scheduler(r#"{"policy":"SCHED_BATCH","nice":19,"priority":0}"#)).is_ok());
    }

    #[test]
    fn attributes_carry_policy_flags_and_times() {
        let attr = attributes(&scheduler(
            r#"{"policy":"SCHED_DEADLINE","flags":["SCHED_RESET_ON_FORK"],"runtime":42000,"period":7}"#,
        ));
        assert_eq!((attr.policy, attr.flags, attr.runtime, attr.period), (6, 1, 42000, 7));
    }
}
