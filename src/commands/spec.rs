//! `spec`: a starter config.json, the one that runc writes.

mod starter;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};
use serde::Serialize;

use starter::Starter;

use crate::cli::{Global, SpecArgs};
use crate::exit::ExitStatus;

const CONFIG: &str = "config.json";

/// Writes config.json into the bundle; an existing one is left alone.
#[inline(never)]
pub fn run(_: &Global, args: &SpecArgs) -> anyhow::Result<ExitStatus> {
    let bundle = args.bundle.as_deref().unwrap_or(Path::new("."));
    let unified = statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let mut spec = Starter::new(unified);
    if args.rootless {
        spec.make_rootless(geteuid().as_raw(), getegid().as_raw());
    }
    write_new(&bundle.join(CONFIG), &text(&spec)?)?;
    Ok(ExitStatus::SUCCESS)
}

fn write_new(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text).with_context(|| format!("cannot write {}", path.display())),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("File {CONFIG} exists. Remove it first")
        }
        Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
}

/// JSON indented by tabs, as Go's MarshalIndent in runc.
fn text(spec: &Starter) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_config_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let args = SpecArgs { bundle: Some(folder.path().to_owned()), rootless: false };
        assert_eq!(run(&Global::default(), &args).unwrap(), ExitStatus::SUCCESS);
        let text = std::fs::read_to_string(folder.path().join(CONFIG)).unwrap();
        assert!(text.contains("\n\t\"process\": {\n\t\t"), "{text}");
        let error = run(&Global::default(), &args).unwrap_err();
        assert_eq!(error.to_string(), "File config.json exists. Remove it first");
    }
}
