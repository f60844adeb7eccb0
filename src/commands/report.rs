//! `report`: the proofs that were made of a container, as text, JSON or a page.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::output;
use crate::cli::{Global, ReportArgs, ReportFormat};
use crate::exit::ExitStatus;
use crate::proof::history::{Entry, History};
use crate::proof::journal;
use crate::report::{history as text, history_html};
use crate::runtime::{RuntimeError, Store};

/// A journal is bounded; whatever is longer is none.
const MAX_BYTES: u64 = 8 * journal::MAX_BYTES;

/// Prints the last proof, or all, or writes them to a file.
pub fn run(global: &Global, args: &ReportArgs) -> anyhow::Result<ExitStatus> {
    let path = find(global, &args.subject)?;
    let history = History::parse(&read(&path)?);
    if history.entries.is_empty() {
        let why = text::skipped(&history).map_or_else(String::new, |line| format!(": {line}"));
        bail!("no proof in '{}'{why}", path.display());
    }
    let history = if args.all { history } else { history.last() };
    let document = match args.format {
        ReportFormat::Text => text::text(&history),
        ReportFormat::Json => json(&history)?,
        ReportFormat::Html => history_html::document(&history),
    };
    match &args.output {
        Some(file) => {
            output::replace(file, &document).with_context(|| format!("cannot write '{}'", file.display()))?
        }
        None => super::print(&document)?,
    }
    Ok(ExitStatus::SUCCESS)
}

/// A record a line.
fn json(history: &History) -> anyhow::Result<String> {
    if let Some(line) = text::skipped(history) {
        tracing::warn!("{line}");
    }
    let line = |entry: &Entry| match entry {
        Entry::Proof(record) => serde_json::to_string(record),
        Entry::Stress(record) => serde_json::to_string(record),
    };
    history.entries.iter().map(|entry| Ok(line(entry)? + "\n")).collect()
}

/// The journal of a container that is there, or was; else of a path.
fn find(global: &Global, subject: &str) -> anyhow::Result<PathBuf> {
    if !subject.contains('/') && subject != "." {
        let store = Store::open(global)?;
        match store.load(subject) {
            Ok(container) => return Ok(container.directory().join(journal::FILE)),
            Err(RuntimeError::NotFound) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot load container '{subject}'")),
        }
        if let Some(kept) = kept(&store, subject)? {
            return Ok(kept);
        }
    }
    match Path::new(subject) {
        folder if folder.is_dir() => Ok(folder.join(journal::FILE)),
        file if file.exists() => Ok(file.to_owned()),
        _ => bail!("no container '{subject}', and no file or bundle of that name"),
    }
}

/// Where the proofs of a deleted container are kept: its bundle, or below the root where that went too.
fn kept(store: &Store, id: &str) -> anyhow::Result<Option<PathBuf>> {
    let Ok(folder) = store.kept(id) else { return Ok(None) };
    let bundle = store.kept_receipt(id)?.map(|receipt| receipt.bundle);
    let folders = [Some(folder), bundle];
    Ok(folders.into_iter().flatten().map(|dir| dir.join(journal::FILE)).find(|file| file.exists()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("cannot read '{}'", path.display());
    let file = match fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("no proof was made: there is no '{}'", path.display())
        }
        file => file.with_context(failed)?,
    };
    anyhow::ensure!(file.metadata().with_context(failed)?.is_file(), "'{}' is no file", path.display());
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).with_context(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
