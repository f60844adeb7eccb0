//! `man`: the manual pages, one for rt and one a subcommand, made from the clap types.

use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::{Cli, Global, ManArgs};
use crate::exit::ExitStatus;

/// Section of system administration commands, as runc's pages.
const SECTION: &str = "8";

/// Writes `rt.8`, `rt-create.8`, …
#[inline(never)]
pub fn run(_: &Global, args: &ManArgs) -> anyhow::Result<ExitStatus> {
    for (name, text) in pages()? {
        let path = args.directory.join(&name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitStatus::SUCCESS)
}

/// Each page's file name and text.
fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut cli = Cli::command().disable_help_subcommand(true).version(env!("CARGO_PKG_VERSION"));
    cli.build();
    let pages = std::iter::once(&cli).chain(cli.get_subcommands()).map(page);
    pages.collect::<std::io::Result<_>>().context("cannot render a page")
}

fn page(command: &Command) -> std::io::Result<(String, Vec<u8>)> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut text = Vec::new();
    // The pages refer to each other by `rt-create(8)`.
    let man = Man::new(command.clone()).title(name.to_uppercase()).section(SECTION);
    man.render(&mut text)?;
    Ok((Path::new(&name).with_extension(SECTION).display().to_string(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_in_section_8() {
        let pages = pages().unwrap();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["rt.8", "rt-create.8", "rt-test-memory.8"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(names.iter().all(|name| !name.contains('_')), "{names:?}");
        let (_, update) = pages.iter().find(|(name, _)| name == "rt-update.8").unwrap();
        let text = String::from_utf8_lossy(update);
        assert!(text.contains(".TH RT-UPDATE 8"), "{text}");
        assert!(text.contains("cpu\\-quota"), "{text}");
    }
}
