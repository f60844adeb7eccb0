//! A memory receipt in words: one sentence, the numbers behind it, and what to do.

use std::fmt::Write;

use crate::printable::printable_line;
use crate::receipt::{Memory, Receipt};
use crate::units::Mib;

/// The answer to "why did it die?". Names of processes and cgroups are a container's choice, and a bundle may come from
/// anywhere: none of them makes a line of its own.
#[must_use]
pub fn answer(receipt: &Receipt) -> String {
    let mut text = format!("{} {}\n", printable_line(&receipt.id), printable_line(&receipt.death.sentence));
    if let Some(memory) = &receipt.evidence.memory {
        let _ = writeln!(text, "  {}", numbers(memory));
        for victim in &memory.victims {
            let _ = writeln!(
                text,
                "  the kernel's log: {} (pid {}) was the victim",
                printable_line(&victim.name),
                victim.pid
            );
        }
        if let Some(line) = proofs(memory) {
            let _ = writeln!(text, "  {line}");
        }
    }
    if let Some(advice) = &receipt.death.advice {
        let _ = writeln!(text, "hint: {}", printable_line(advice));
    }
    text
}

fn numbers(memory: &Memory) -> String {
    let limit =
        memory.limit_bytes.map_or_else(|| "no limit".to_owned(), |bytes| format!("limit {}", Mib(bytes)));
    let peak = match (memory.own_peak_bytes, memory.own_peak_before_proofs) {
        (Some(bytes), false) => format!("peak {}", Mib(bytes)),
        (Some(bytes), true) => format!("peak {} before the first proof", Mib(bytes)),
        (None, _) => "peak not known".to_owned(),
    };
    let mut parts = vec![
        limit,
        peak,
        format!("OOM kills {}", memory.oom_kills),
        format!("limit hit {} times", memory.limit_hits),
    ];
    if let Some(stall) = memory.stall {
        let seconds = std::time::Duration::from_micros(stall.some_us).as_secs_f64();
        parts.push(format!("waited {seconds:.3} s for memory"));
    }
    parts.join(", ")
}

fn proofs(memory: &Memory) -> Option<String> {
    let proofs = &memory.proofs;
    (proofs.begun > 0).then(|| {
        format!(
            "not counted: what {} of rt's proofs caused (OOM kills {}, limit hit {} times)",
            proofs.begun, proofs.oom_kills, proofs.limit_hits
        )
    })
}
