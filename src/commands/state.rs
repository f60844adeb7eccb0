//! `state`: one container as JSON, in runc's fields and layout.

use super::container_state::ContainerState;
use crate::cli::{ContainerArgs, Global};
use crate::exit::ExitStatus;
use crate::proof::{journal, run};
use crate::receipt::Found;
use crate::runtime::{Container, Status, Store, receipts};

/// The annotations that tell of the last run of proofs: its worst verdict, and when it began.
const VERDICT: &str = "rt.memory.verdict";
const VERDICT_AT: &str = "rt.memory.verdict.at";
/// The annotations of a stopped container: why it died, whether that is certain or only the likeliest, its own peak in bytes,
/// OOM kills of its own processes.
const DEATH: &str = "rt.memory.death";
const CERTAIN: &str = "rt.memory.death.certain";
const PEAK: &str = "rt.memory.peak";
const OOM_KILLS: &str = "rt.memory.oom-kills";

/// Prints the state.
#[inline(never)]
pub fn run(global: &Global, args: &ContainerArgs) -> anyhow::Result<ExitStatus> {
    let container = Store::open(global)?.load(&args.container_id)?;
    super::print(&(serde_json::to_string_pretty(&of(&container)?)? + "\n"))?;
    Ok(ExitStatus::SUCCESS)
}

/// The state without an owner, and with the verdict of the last proofs and the essentials of the receipt.
fn of(container: &Container) -> anyhow::Result<ContainerState> {
    let status = container.status()?;
    let mut annotations = container.annotations().clone();
    if let Some(run) = journal::text(container.directory()).and_then(|text| run::latest_verdict(&text)) {
        annotations.insert(VERDICT.to_owned(), run.verdict);
        annotations.insert(VERDICT_AT.to_owned(), run.started_at);
    }
    if status == Status::Stopped {
        let receipt = receipts::take(container, Found::Stopped, None)?;
        annotations.insert(DEATH.to_owned(), receipt.death.cause.name().to_owned());
        annotations.insert(CERTAIN.to_owned(), receipt.death.certain.to_string());
        if let Some(memory) = receipt.evidence.memory {
            annotations.insert(OOM_KILLS.to_owned(), memory.oom_kills.to_string());
            annotations.extend(memory.own_peak_bytes.map(|peak| (PEAK.to_owned(), peak.to_string())));
        }
    }
    Ok(ContainerState {
        oci_version: container.oci_version().to_owned(),
        id: container.id().to_owned(),
        pid: if status == Status::Stopped { 0 } else { container.init_pid() },
        status: status.as_str(),
        bundle: container.bundle().display().to_string(),
        rootfs: container.rootfs().display().to_string(),
        created: container.created().to_owned(),
        annotations,
        owner: String::new(),
    })
}
