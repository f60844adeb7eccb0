//! A proof as a hook: made by the runtime that is judged, before anything of the container runs.

use oci_spec::runtime::{HookBuilder, HooksBuilder, LinuxMemoryBuilder, Spec};

use super::runtime::{Folder, Runtime};
use super::variants::{set_memory, with_container};
use super::{LIMIT_BYTES, List, Seen, Step, Wrong};
use crate::proof::request::Trigger;
use crate::proof::{Verdict, journal};

/// The runtime runs the hook, the hook proves the limit, and the container is created.
pub fn proves(runtime: &Runtime, folder: &Folder, list: &mut List<'_>) {
    list.check(Step::Hooks, "hook", || {
        let rt = std::fs::canonicalize(&runtime.rt).map_err(|e| Wrong::from_error(&e))?;
        let change = |spec: &mut Spec| {
            let limit = i64::try_from(LIMIT_BYTES).unwrap_or(i64::MAX);
            set_memory(spec, LinuxMemoryBuilder::default().limit(limit).swap(limit))?;
            let args = ["rt", "hook", "test-memory", "--policy", "enforce"].map(str::to_owned).to_vec();
            let hook =
                HookBuilder::default().path(rt).args(args).build().map_err(|e| Wrong::from_error(&e))?;
            let hooks = HooksBuilder::default().create_runtime(vec![hook]).build();
            spec.set_hooks(Some(hooks.map_err(|e| Wrong::from_error(&e))?));
            Ok(())
        };
        with_container(runtime, folder, "hook", change, |id, _| recorded(folder, id))
    });
}

/// What the hook wrote into the bundle.
fn recorded(folder: &Folder, id: &str) -> Seen {
    let Some(record) = journal::latest(&folder.bundle(id)) else {
        return Err(Wrong::new("the container was created, and the hook recorded no proof"));
    };
    let seen = format!("createRuntime: {}: {}", record.verdict, record.sentence);
    let held =
        [Verdict::Enforced, Verdict::SpilledToSwap].iter().any(|verdict| verdict.name() == record.verdict);
    if held && record.trigger == Trigger::Hook { Ok(seen) } else { Err(Wrong::new(seen)) }
}
