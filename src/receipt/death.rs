//! Why a container died: a pure function of the evidence. What is not known is said to be so.

use serde::{Deserialize, Serialize};

use super::advice::advice;
use super::end::{End, signal_name};
use super::evidence::{Culprit, Evidence, Found, Memory, SentSignal};
use crate::units::Mib;

/// Kinds of deaths. Names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It lives.
    Alive,
    /// It was deleted before it was started.
    NotStarted,
    /// The kernel killed it for want of memory.
    OomKilled,
    /// A signal ended it.
    Killed,
    /// It ended by itself.
    Exited,
    /// It was lost in a proof of its memory limit.
    LostInProof,
    /// Nobody told.
    Unknown,
}

impl Cause {
    /// The name as JSON and annotations have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::NotStarted => "not-started",
            Self::OomKilled => "oom-killed",
            Self::Killed => "killed",
            Self::Exited => "exited",
            Self::LostInProof => "lost-in-proof",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a container died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    pub cause: Cause,
    /// False where the evidence only makes it the likeliest.
    pub certain: bool,
    /// What follows the container's name in a sentence.
    pub sentence: String,
    /// What limit to give it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advice: Option<String>,
}

/// Says why the container of this evidence died.
#[must_use]
pub fn explain(evidence: &Evidence) -> Death {
    let (cause, certain, sentence) = find(evidence);
    Death { cause, certain, advice: advice(cause, evidence.memory.as_ref()), sentence }
}

type Finding = (Cause, bool, String);

fn find(evidence: &Evidence) -> Finding {
    let memory = evidence.memory.as_ref();
    let oom = memory.filter(|memory| memory.oom_kills > 0).map(Oom);
    match evidence.found {
        Found::Alive => (Cause::Alive, true, format!("has not died{}", and(oom.as_ref()))),
        Found::NotStarted => (Cause::NotStarted, true, "was never started, and was deleted".to_owned()),
        Found::Deleted => (
            Cause::Killed,
            true,
            format!("was killed when it was deleted by force while it ran{}", and(oom.as_ref())),
        ),
        Found::Stopped if evidence.memory.is_none() && evidence.victim.is_some() => by_the_log(evidence),
        Found::Stopped => match (oom, memory.is_some_and(|memory| memory.proofs.lost_init)) {
            (_, true) => {
                (Cause::LostInProof, true, "died while rt proved its memory limit; see the record".to_owned())
            }
            (Some(oom), _) => after_oom(evidence, &oom),
            (None, _) => without_oom(evidence),
        },
    }
}

/// OOM kills of the container's own processes.
struct Oom<'a>(&'a Memory);

impl Oom<'_> {
    fn kills(&self) -> String {
        match self.0.oom_kills {
            1 => "one of its processes was OOM-killed".to_owned(),
            kills => format!("{kills} of its processes were OOM-killed"),
        }
    }

    fn by(&self) -> String {
        match &self.0.culprit {
            Some(Culprit::Own { limit_bytes }) => format!("by its own limit of {}", Mib(*limit_bytes)),
            Some(Culprit::Above { path, limit_bytes: Some(bytes) }) => {
                format!("by the limit of {} on {path} above it", Mib(*bytes))
            }
            Some(Culprit::Above { path, limit_bytes: None }) => format!("by the limit on {path} above it"),
            Some(Culprit::Host) => "because the host had no memory left".to_owned(),
            Some(Culprit::Unknown) | None => "by a limit that cannot be told".to_owned(),
        }
    }

    /// Each kill may be that of a worker whose proof was not finished.
    fn may_be_a_proofs(&self) -> bool {
        self.0.oom_kills <= self.0.proofs.unfinished
    }

    /// The log tells of every kill.
    fn all_logged(&self) -> bool {
        self.0.victims.len() as u64 >= self.0.oom_kills
    }
}

/// What else is to be said of OOM kills where they were not the end.
fn and(oom: Option<&Oom<'_>>) -> String {
    oom.map_or_else(String::new, |oom| format!("; before that {} {}", oom.kills(), oom.by()))
}

fn after_oom(evidence: &Evidence, oom: &Oom<'_>) -> Finding {
    let by = oom.by();
    let init = evidence.init_pid.filter(|pid| oom.0.victims.iter().any(|victim| victim.pid == *pid));
    let sent_sigkill = evidence.signal.as_ref().is_some_and(|sent| sent.signal == libc::SIGKILL);
    match (evidence.end, &evidence.signal) {
        _ if init.is_some() => (Cause::OomKilled, true, format!("was OOM-killed {by}")),
        (Some(End::Signal(libc::SIGKILL)), _) if oom.may_be_a_proofs() && !sent_sigkill => (
            Cause::Killed,
            false,
            format!(
                "was killed by SIGKILL: it may have been OOM-killed {by}, or that was the worker of a proof that was not finished"
            ),
        ),
        // Whoever of the container was killed: of a kill that is not in the log, nobody tells whom it took.
        (Some(End::Signal(libc::SIGKILL)), _) if !oom.all_logged() && !sent_sigkill => (
            Cause::OomKilled,
            false,
            format!("was most likely OOM-killed {by}: it got SIGKILL, and {}", oom.kills()),
        ),
        // A shell passes on in this way that its command was killed, by the kernel or by somebody else later.
        (Some(End::Exit(137)), _) if !oom.may_be_a_proofs() => (
            Cause::OomKilled,
            false,
            format!(
                "exited with 137, as shells do when their command was killed: most likely that was an OOM kill, since {} {by}",
                oom.kills()
            ),
        ),
        (Some(End::Exit(code)), _) => (Cause::Exited, true, format!("exited with {code}{}", and(Some(oom)))),
        (Some(End::Signal(signal)), sent) => {
            let (certain, words) = killed(signal, sent.as_ref());
            (Cause::Killed, certain, format!("{words}{}", and(Some(oom))))
        }
        // It took the signal while it lived, so what was counted did not end it then.
        (None, Some(sent)) => {
            (Cause::Killed, sent.signal == libc::SIGKILL, format!("{}{}", after_signal(sent), and(Some(oom))))
        }
        (None, None) if oom.may_be_a_proofs() => (
            Cause::Unknown,
            false,
            format!(
                "may have been OOM-killed {by}, or that was the worker of a proof that was not finished; the exit status is not known"
            ),
        ),
        // The log excludes that init was the victim.
        (None, None) if oom.all_logged() => {
            (Cause::Unknown, false, format!("ended; how is not known to rt{}", and(Some(oom))))
        }
        (None, None) => (
            Cause::OomKilled,
            false,
            format!("was most likely OOM-killed {by}: {}; the exit status is not known", oom.kills()),
        ),
    }
}

/// An OOM kill of init of which only the kernel's log is left.
fn by_the_log(evidence: &Evidence) -> Finding {
    let by = match evidence.victim.as_ref().and_then(|victim| victim.limiter.as_ref()) {
        Some(path) => format!("by the limit on {path}"),
        None => "because the host had no memory left".to_owned(),
    };
    (Cause::OomKilled, true, format!("was OOM-killed {by}, as the kernel's log tells; its cgroup had gone"))
}

/// Signals that a process takes as the wish that it exits.
const ASKS_TO_END: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP];

fn without_oom(evidence: &Evidence) -> Finding {
    match (evidence.end, &evidence.signal) {
        (Some(End::Exit(code)), sent) => {
            let asked = sent.as_ref().filter(|sent| ASKS_TO_END.contains(&sent.signal)).map(|sent| {
                format!(", after {} was sent with 'kill' at {}", signal_name(sent.signal), sent.at)
            });
            let why = asked.unwrap_or_else(|| of_code(code));
            (Cause::Exited, true, format!("exited with {code}{why}"))
        }
        (Some(End::Signal(libc::SIGKILL)), None) if evidence.memory.is_none() => (
            Cause::Killed,
            false,
            "was killed by SIGKILL; whether for want of memory is not known, because its cgroup had gone".to_owned(),
        ),
        (Some(End::Signal(signal)), sent) => {
            let (certain, words) = killed(signal, sent.as_ref());
            (Cause::Killed, certain, words)
        }
        (None, Some(sent)) => (Cause::Killed, sent.signal == libc::SIGKILL, after_signal(sent)),
        (None, None) if evidence.memory.is_some() => (
            Cause::Unknown,
            false,
            "was not OOM-killed: it ended by itself or was killed from outside; the exit status is not known to rt, only to what started it"
                .to_owned(),
        ),
        (None, None) => (
            Cause::Unknown,
            false,
            "ended, and why is not known: its cgroup had gone, and the exit status is known only to what started it".to_owned(),
        ),
    }
}

/// What an exit code tells by itself.
fn of_code(code: u8) -> String {
    match code {
        0 => " by itself".to_owned(),
        129..=192 => {
            format!(", as shells do when their command was killed by {}", signal_name((code - 128).into()))
        }
        _ => String::new(),
    }
}

/// A death by a signal, which rt may have sent.
fn killed(signal: i32, sent: Option<&SentSignal>) -> (bool, String) {
    let name = signal_name(signal);
    match (sent, signal) {
        (Some(sent), _) if sent.signal == signal => {
            (true, format!("was killed by {name}, sent with 'kill' at {}", sent.at))
        }
        // Nobody else sends what the kernel sends for a fault.
        (_, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGSYS | libc::SIGTRAP) => {
            (true, format!("crashed with {name}"))
        }
        (_, libc::SIGABRT) => (true, format!("aborted itself with {name}")),
        _ => (true, format!("was killed by {name} from outside: no OOM kill of it was counted")),
    }
}

fn after_signal(sent: &SentSignal) -> String {
    let name = signal_name(sent.signal);
    match sent.signal {
        libc::SIGKILL => format!("was killed by {name}, sent with 'kill' at {}", sent.at),
        _ => format!("ended after {name} was sent with 'kill' at {}; the exit status is not known", sent.at),
    }
}

#[cfg(test)]
mod tests;
