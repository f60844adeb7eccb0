//! The verdict of a stress: pure and total.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::tally::Kills;
use crate::exit::ExitStatus;
use crate::proof::harm::Harmed;
use crate::proof::preflight::victim_hint;
use crate::proof::worker::Stage;
use crate::units::Mib;

/// The stable names of what a stress can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StressVerdict {
    /// Usage never rose above the limit, and init lives.
    Held,
    /// Usage rose above the limit, or the limit is not in the kernel.
    LimitBroken,
    /// Preflight said no, or a process of the container was in danger.
    Refused,
    /// memory.high held the workers back before the limit.
    Throttled,
    /// Somebody else killed the workers before they had what they should.
    KilledExternally,
    /// A limit above killed them.
    KilledByAncestor,
    /// The time was too short for the workers to have what they should.
    TimedOut,
    Interrupted,
    InitDied,
    /// A process of the container was OOM-killed.
    ContainerHarmed,
    ProverFailed,
}

impl StressVerdict {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Held,
        Self::LimitBroken,
        Self::Refused,
        Self::Throttled,
        Self::KilledExternally,
        Self::KilledByAncestor,
        Self::TimedOut,
        Self::Interrupted,
        Self::InitDied,
        Self::ContainerHarmed,
        Self::ProverFailed,
    ];

    /// The name as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::LimitBroken => "limit-broken",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::KilledExternally => "killed-externally",
            Self::KilledByAncestor => "killed-by-ancestor",
            Self::TimedOut => "timed-out",
            Self::Interrupted => "interrupted",
            Self::InitDied => "init-died",
            Self::ContainerHarmed => "container-harmed",
            Self::ProverFailed => "prover-failed",
        }
    }

    /// The exit code of `stress-memory` with this verdict.
    pub fn exit(self) -> ExitStatus {
        match self {
            Self::Held => ExitStatus::SUCCESS,
            Self::LimitBroken => ExitStatus::FAILURE,
            Self::Refused => ExitStatus::REFUSED,
            Self::InitDied | Self::ContainerHarmed => ExitStatus::INIT_DIED,
            Self::ProverFailed => ExitStatus::PROVER_FAILURE,
            _ => ExitStatus::INCONCLUSIVE,
        }
    }
}

impl fmt::Display for StressVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a stress ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    TimeUp,
    Interrupted,
    InitEnded,
    /// Usage was seen above the limit.
    Broken,
    /// This process of the container had become a likelier victim than a worker.
    VictimUnsafe {
        pid: i32,
        oom_score_adj: i64,
    },
    WorkerFailed {
        stage: Stage,
        errno: i32,
    },
    /// A worker ended by itself, without a word.
    WorkerEnded {
        code: i32,
    },
}

/// Everything the verdict is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub stop: Stop,
    /// A process of the container that an OOM kill took.
    pub harmed: Option<Harmed>,
    pub init_alive: bool,
    pub limit_bytes: Option<u64>,
    /// How far usage may be above the limit by batched charges.
    pub noise_bytes: u64,
    pub max_bytes: u64,
    pub target_reached: bool,
    pub limit_hits: u64,
    pub high_hits: u64,
    pub kills: Kills,
    /// OOM kills of processes of the container.
    pub others_killed: u64,
}

impl Evidence {
    /// The pressure was there: all had their share, or the limit was hit; some limits count no hits, but usage came there.
    fn pressed(&self) -> bool {
        let at_limit =
            self.limit_bytes.is_some_and(|limit| self.max_bytes.saturating_add(self.noise_bytes) >= limit);
        at_limit || self.target_reached || self.limit_hits > 0 || self.kills.limit > 0
    }
}

/// A verdict with why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: StressVerdict,
    pub reason: Option<&'static str>,
    pub sentence: String,
    pub hint: Option<String>,
}

impl Decision {
    pub(super) fn new(verdict: StressVerdict, reason: Option<&'static str>, sentence: String) -> Self {
        Self { verdict, reason, sentence, hint: None }
    }
}

/// What the evidence says.
pub fn decide(evidence: &Evidence) -> Decision {
    use StressVerdict as V;
    let highest = Mib(evidence.max_bytes);
    let plain = |verdict, sentence: String| Decision::new(verdict, None, sentence);
    if !evidence.init_alive || evidence.stop == Stop::InitEnded {
        return plain(V::InitDied, "the container's init ended during the stress".to_owned());
    }
    if let Some(harmed) = &evidence.harmed {
        return plain(V::ContainerHarmed, format!("{} during the stress", harmed.words()));
    }
    if let Some(limit) =
        evidence.limit_bytes.filter(|limit| evidence.max_bytes > limit + evidence.noise_bytes)
    {
        let sentence = format!("{highest} were in use under a limit of {}", Mib(limit));
        return Decision::new(V::LimitBroken, Some("limit-exceeded"), sentence);
    }
    match evidence.stop {
        Stop::WorkerFailed { stage, errno } => {
            let cause = std::io::Error::from_raw_os_error(errno);
            let sentence = format!("a worker could not {}: {cause}", stage.words());
            Decision::new(V::ProverFailed, Some("worker-failed"), sentence)
        }
        Stop::WorkerEnded { code } => Decision::new(
            V::ProverFailed,
            Some("worker-failed"),
            format!("a worker ended by itself, with exit code {code}"),
        ),
        Stop::VictimUnsafe { pid, oom_score_adj } => Decision {
            hint: Some(victim_hint(oom_score_adj).to_owned()),
            ..Decision::new(
                V::Refused,
                Some("victim-unsafe"),
                format!(
                    "stopped: process {pid} (oom_score_adj {oom_score_adj}) could have been killed instead of a worker"
                ),
            )
        },
        _ if evidence.pressed() => held(evidence),
        _ if evidence.kills.ancestor > 0 => {
            plain(V::KilledByAncestor, "a limit above the container's killed the workers".to_owned())
        }
        _ if evidence.kills.external > 0 => plain(
            V::KilledExternally,
            "somebody killed the workers before they had what they should".to_owned(),
        ),
        _ if evidence.high_hits > 0 => {
            plain(V::Throttled, format!("memory.high held the workers back at {highest}"))
        }
        Stop::Interrupted => {
            plain(V::Interrupted, format!("interrupted at {highest}, before the limit or the target"))
        }
        _ => Decision {
            hint: Some("give more time".to_owned()),
            ..plain(
                V::TimedOut,
                format!("{highest} in use when the time was up, below the limit and the target"),
            )
        },
    }
}

fn held(evidence: &Evidence) -> Decision {
    let highest = Mib(evidence.max_bytes);
    let mut sentence = match evidence.limit_bytes {
        Some(limit) => format!("{highest} in use at most, under a limit of {}", Mib(limit)),
        None => format!("{highest} in use at most; there is no limit"),
    };
    if evidence.stop == Stop::Interrupted {
        sentence += "; interrupted before its time";
    }
    Decision::new(StressVerdict::Held, None, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;
    use StressVerdict as V;

    fn evidence() -> Evidence {
        Evidence {
            stop: Stop::TimeUp,
            harmed: None,
            init_alive: true,
            limit_bytes: Some(64 * MIB),
            noise_bytes: MIB / 2,
            max_bytes: 64 * MIB,
            target_reached: false,
            limit_hits: 30,
            high_hits: 0,
            kills: Kills { limit: 2, ..Kills::default() },
            others_killed: 0,
        }
    }

    /// Nobody came to the limit.
    fn early() -> Evidence {
        Evidence { max_bytes: 10 * MIB, limit_hits: 0, kills: Kills::default(), ..evidence() }
    }

    #[test]
    fn every_evidence_has_its_verdict() {
        let external = Kills { external: 1, ..Kills::default() };
        let ancestor = Kills { ancestor: 1, ..external };
        let failed = Stop::WorkerFailed { stage: Stage::Fill, errno: 28 };
        for (want, evidence) in [
            (V::Held, evidence()),
            (V::Held, Evidence { target_reached: true, ..early() }),
            (V::Held, Evidence { stop: Stop::Interrupted, ..evidence() }),
            (V::Held, Evidence { max_bytes: 64 * MIB, ..early() }),
            (V::Held, Evidence { limit_bytes: None, target_reached: true, ..early() }),
            (V::LimitBroken, Evidence { max_bytes: 65 * MIB, ..evidence() }),
            (V::LimitBroken, Evidence { max_bytes: 65 * MIB, stop: Stop::Broken, ..early() }),
            (V::InitDied, Evidence { init_alive: false, ..evidence() }),
            (V::InitDied, Evidence { stop: Stop::InitEnded, max_bytes: 70 * MIB, ..evidence() }),
            (V::ContainerHarmed, Evidence { harmed: Some(Harmed::default()), ..evidence() }),
            (V::Refused, Evidence { stop: Stop::VictimUnsafe { pid: 7, oom_score_adj: 0 }, ..evidence() }),
            (V::ProverFailed, Evidence { stop: failed, ..evidence() }),
            (V::ProverFailed, Evidence { stop: Stop::WorkerEnded { code: 125 }, ..evidence() }),
            (V::KilledByAncestor, Evidence { kills: ancestor, ..early() }),
            (V::KilledExternally, Evidence { kills: external, ..early() }),
            (V::Throttled, Evidence { high_hits: 9, ..early() }),
            (V::Interrupted, Evidence { stop: Stop::Interrupted, ..early() }),
            (V::TimedOut, early()),
        ] {
            assert_eq!(decide(&evidence).verdict, want, "{evidence:?}");
        }
    }

    #[test]
    fn an_exit_code_is_not_told_as_an_errno() {
        let ended = Evidence { stop: Stop::WorkerEnded { code: 2 }, ..evidence() };
        let told = decide(&ended).sentence;
        assert!(told.contains("exit code 2") && !told.contains("os error"), "{told}");
    }

    #[test]
    fn exit_codes_are_those_of_proofs() {
        let codes = V::ALL.map(|verdict| verdict.exit().0);
        assert_eq!(codes, [0, 1, 3, 4, 4, 4, 4, 4, 5, 5, 125]);
    }
}
