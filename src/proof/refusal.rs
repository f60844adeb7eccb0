//! Refusals: why a proof is not begun, because it would endanger something or could say nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The stable name of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The container does not run.
    Stopped,
    /// The container is frozen: a worker in its cgroup would never run.
    Paused,
    /// No limit was asked for, and none is set.
    Unlimited,
    /// The host has too little memory or swap left, or would panic on an OOM kill.
    HostUnsafe,
    /// One OOM kill would take the whole container.
    GroupKill,
    /// The kernel could choose a process of the container instead of the worker.
    VictimUnsafe,
    /// The v1 OOM killer is off: a worker at the limit would hang.
    OomDisabled,
    /// An ancestor's limit would be hit first: siblings could die.
    LimitedAbove,
    /// The container has a tighter limit in a cgroup of its own making: the one asked for would not be reached.
    LimitedBelow,
    /// Memory cannot be locked by this caller.
    MlockLimit,
    /// No folder takes the file of the `file` strategy.
    NoFolder,
    /// The container has no cgroup of its own: a hook would prove the limit of its engine.
    SharedCgroup,
    /// Another proof of the same cgroup is running.
    Busy,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::Stopped,
        Self::Paused,
        Self::Unlimited,
        Self::HostUnsafe,
        Self::GroupKill,
        Self::VictimUnsafe,
        Self::OomDisabled,
        Self::LimitedAbove,
        Self::LimitedBelow,
        Self::MlockLimit,
        Self::NoFolder,
        Self::SharedCgroup,
        Self::Busy,
    ];

    /// The name as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Unlimited => "unlimited",
            Self::HostUnsafe => "host-unsafe",
            Self::GroupKill => "group-kill",
            Self::VictimUnsafe => "victim-unsafe",
            Self::OomDisabled => "oom-disabled",
            Self::LimitedAbove => "limited-above",
            Self::LimitedBelow => "limited-below",
            Self::MlockLimit => "mlock-limit",
            Self::NoFolder => "no-folder",
            Self::SharedCgroup => "shared-cgroup",
            Self::Busy => "busy",
        }
    }

    /// True where `--allow-kill-container` takes the risk.
    pub fn overridable(self) -> bool {
        matches!(self, Self::GroupKill | Self::VictimUnsafe)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal as it is told: its name, a sentence with the numbers, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub reason: Reason,
    pub sentence: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal with something that can be done about it.
    pub fn new(reason: Reason, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into(), hint: Some(hint.into()) }
    }
}
