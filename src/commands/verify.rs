//! `verify`: the checklist of what the runtime promises on this machine.

use crate::cli::{Format, Global, VerifyArgs};
use crate::exit::ExitStatus;
use crate::report::verify as report;
use crate::verify::{self, Runtime};

/// Goes through the checklist and prints it as it goes; exit 0 only if all hold.
pub fn run(_global: &Global, args: &VerifyArgs) -> anyhow::Result<ExitStatus> {
    go_through(&Runtime::own(), args.format)
}

fn go_through(runtime: &Runtime, format: Format) -> anyhow::Result<ExitStatus> {
    let host = verify::detect()?;
    let text = format == Format::Text;
    if text {
        super::print(&report::host(&host))?;
    }
    let mut before = None;
    let done = verify::run(runtime, host, &mut |check| {
        if text {
            // A reader that went away must not keep the container from being deleted.
            let _ = super::print(&report::check(check, before));
        }
        before = Some(check.step);
    })?;
    let end = if text { report::summary(&done) } else { serde_json::to_string(&done)? + "\n" };
    super::print(&end)?;
    Ok(if done.passed { ExitStatus::SUCCESS } else { ExitStatus::FAILURE })
}
