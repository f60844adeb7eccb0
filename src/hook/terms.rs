//! The words of hooks: what is proved, when, and what follows from it. The same words on the command line, in
//! annotations and in the node's configuration.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::exit::ExitStatus;

/// A word that is none of those allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is none of {allowed}")]
pub struct NotOneOf {
    pub word: String,
    pub allowed: String,
}

/// An enum whose values are words.
macro_rules! words {
    ($type:ident { $($value:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// All words, as they are listed for people.
            pub const ALLOWED: &[&str] = &[$($word),+];

            /// The word.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }

        impl FromStr for $type {
            type Err = NotOneOf;

            fn from_str(word: &str) -> Result<Self, NotOneOf> {
                match word {
                    $($word => Ok(Self::$value),)+
                    _ => Err(NotOneOf { word: word.to_owned(), allowed: Self::ALLOWED.join(", ") }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl TryFrom<String> for $type {
            type Error = NotOneOf;

            fn try_from(word: String) -> Result<Self, NotOneOf> {
                word.parse()
            }
        }
    };
}

/// What a hook does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Kind {
    TestMemory,
    StressMemory,
}

words!(Kind { TestMemory = "test-memory", StressMemory = "stress-memory" });

/// The stages that a proof can be made at. The others of the specification run inside the container, or after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Stage {
    Prestart,
    CreateRuntime,
    Poststart,
}

words!(Stage { Prestart = "prestart", CreateRuntime = "createRuntime", Poststart = "poststart" });

impl Stage {
    /// Nothing of the user's has run yet.
    pub fn is_before_start(self) -> bool {
        matches!(self, Self::Prestart | Self::CreateRuntime)
    }
}

/// What a bad verdict means for the container. The stricter one is the greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Policy {
    /// Nothing: it is recorded.
    #[default]
    Record,
    /// It does not start.
    Enforce,
}

words!(Policy { Record = "record", Enforce = "enforce" });

/// What [`Policy::Enforce`] makes of a proof that was refused or came to no conclusion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum OnInconclusive {
    /// The container does not start.
    #[default]
    Fail,
    /// As with [`Policy::Record`].
    Record,
}

words!(OnInconclusive { Fail = "fail", Record = "record" });

impl Policy {
    /// What the hook ends with after a verdict with this code: 0, or the code itself where the container must not start.
    pub fn exit(self, on_inconclusive: OnInconclusive, code: ExitStatus) -> ExitStatus {
        let unsettled = matches!(code, ExitStatus::REFUSED | ExitStatus::INCONCLUSIVE);
        match self {
            Self::Record => ExitStatus::SUCCESS,
            Self::Enforce if unsettled && on_inconclusive == OnInconclusive::Record => ExitStatus::SUCCESS,
            Self::Enforce => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::Verdict;

    #[test]
    fn record_lets_every_container_start() {
        for verdict in [Verdict::NotEnforced, Verdict::Refused, Verdict::InitDied, Verdict::ProverFailed] {
            assert_eq!(Policy::Record.exit(OnInconclusive::Fail, verdict.exit()), ExitStatus::SUCCESS);
        }
    }

    #[test]
    fn enforce_lets_those_start_whose_limit_holds() {
        let exit = |on, verdict: Verdict| Policy::Enforce.exit(on, verdict.exit()).0;
        assert_eq!(exit(OnInconclusive::Fail, Verdict::Enforced), 0);
        assert_eq!(exit(OnInconclusive::Fail, Verdict::Refused), 3);
        assert_eq!(exit(OnInconclusive::Fail, Verdict::TimedOut), 4);
        assert_eq!(exit(OnInconclusive::Record, Verdict::Refused), 0);
        assert_eq!(exit(OnInconclusive::Record, Verdict::TimedOut), 0);
        assert_eq!(exit(OnInconclusive::Record, Verdict::NotEnforced), 1);
        assert_eq!(exit(OnInconclusive::Record, Verdict::InitDied), 5);
        assert_eq!(exit(OnInconclusive::Record, Verdict::ProverFailed), 125);
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        assert_eq!("createRuntime".parse(), Ok(Stage::CreateRuntime));
        let wrong = "startContainer".parse::<Stage>().unwrap_err().to_string();
        assert_eq!(wrong, "'startContainer' is none of prestart, createRuntime, poststart");
        assert!(Policy::Record < Policy::Enforce);
    }
}
