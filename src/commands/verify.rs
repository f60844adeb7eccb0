//! `verify`: the checklist of what the runtime promises on this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use nix::unistd::{AccessFlags, access};

use crate::cli::{Global, VerifyArgs, VerifyFormat};
use crate::exit::ExitStatus;
use crate::log;
use crate::report::{junit, verify as report, verify_html};
use crate::verify::{self, Report, Runtime};

/// Goes through the checklist and prints it as it goes; exit 0 only if all hold.
#[inline(never)]
pub fn run(_global: &Global, args: &VerifyArgs) -> anyhow::Result<ExitStatus> {
    let runtime = match &args.runtime {
        None => Runtime::own(),
        Some(name) => match find(name) {
            Ok(program) => Runtime::other(program, std::env::current_exe().context("cannot find rt itself")?),
            Err(wrong) => {
                log::report(&wrong);
                return Ok(ExitStatus::USAGE);
            }
        },
    };
    go_through(&runtime, args.format)
}

/// The program of that path, or of that name in PATH.
fn find(name: &Path) -> anyhow::Result<PathBuf> {
    let runs = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    let named = name.components().count() == 1 && !name.starts_with(".");
    let found = match named {
        false => std::path::absolute(name).ok().filter(runs),
        true => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|dir| dir.join(name)).find(runs)
        }
    };
    found.ok_or_else(|| anyhow!("bad --runtime: '{}' is no program that can be run", name.display()))
}

fn go_through(runtime: &Runtime, format: VerifyFormat) -> anyhow::Result<ExitStatus> {
    let host = verify::detect()?;
    let text = format == VerifyFormat::Text;
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
    super::print(&whole(&done, format)?)?;
    Ok(if done.passed { ExitStatus::SUCCESS } else { ExitStatus::FAILURE })
}

/// What is printed in the end.
fn whole(done: &Report, format: VerifyFormat) -> anyhow::Result<String> {
    Ok(match format {
        VerifyFormat::Text => report::summary(done),
        VerifyFormat::Json => serde_json::to_string(done)? + "\n",
        VerifyFormat::Junit => junit::document(done),
        VerifyFormat::Html => verify_html::document(done),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_a_path_or_a_name_in_path() {
        assert!(find(Path::new("sh")).unwrap().is_absolute());
        assert_eq!(find(Path::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        for bad in ["no-such-runtime", "/etc/passwd", "/bin", "", "./sh"] {
            let told = find(Path::new(bad)).unwrap_err().to_string();
            assert!(told.contains("bad --runtime"), "{told}");
        }
    }
}
