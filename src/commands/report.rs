//! `report`: the proofs that were made of a container, as text, JSON or a page.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::output;
use crate::cli::{Global, ReportArgs, ReportFormat};
use crate::exit::ExitStatus;
use crate::printable::printable;
use crate::proof::history::{Entry, History};
use crate::proof::journal;
use crate::report::exposition::Dialect;
use crate::report::verdicts::{self, Line};
use crate::report::{history as text, history_html, proof_metrics};
use crate::runtime::Store;

/// A journal is bounded; whatever is longer is none.
const MAX_BYTES: u64 = 8 * journal::MAX_BYTES;

/// Prints the last run, or all, or writes them to a file; of one container, or of every one of this root.
#[inline(never)]
pub fn run(global: &Global, args: &ReportArgs) -> anyhow::Result<ExitStatus> {
    let document = match &args.subject {
        Some(subject) => of_one(global, args, subject)?,
        None => of_all(&Store::open(global)?, args)?,
    };
    match &args.output {
        Some(file) => output::replace(file, &printable(&document))
            .with_context(|| format!("cannot write '{}'", file.display()))?,
        None => super::print(&document)?,
    }
    Ok(ExitStatus::SUCCESS)
}

fn of_one(global: &Global, args: &ReportArgs, subject: &str) -> anyhow::Result<String> {
    let path = find(global, subject)?;
    let history = History::parse(&read(&path)?);
    if history.entries.is_empty() {
        let why = text::skipped(&history).map_or_else(String::new, |line| format!(": {line}"));
        bail!("no proof in '{}'{why}", path.display());
    }
    document(args.format, &if args.all { history } else { history.last() })
}

/// The containers that are there, by name, and then the deleted ones of which a proof is kept.
fn of_all(store: &Store, args: &ReportArgs) -> anyhow::Result<String> {
    let there = store.list()?.into_iter().map(|container| {
        let journal = journal::text(&store.root().join(&container.id));
        let status = container.status_word().to_owned();
        (container.id, status, journal.unwrap_or_default())
    });
    let mut all: Vec<_> = there.collect();
    let names: BTreeSet<_> = all.iter().map(|(id, ..)| id.clone()).collect();
    for id in store.kept_names().into_iter().filter(|id| !names.contains(id)) {
        if let Some(journal) = journal::text(&store.kept(&id)?) {
            all.push((id, "deleted".to_owned(), journal));
        }
    }
    let all = all.into_iter().map(|(id, status, journal)| (id, status, History::parse(&journal)));
    let all: Vec<_> = all.collect();
    if args.format == ReportFormat::Text && !args.all {
        let lines = all.iter().map(|(id, status, history)| Line { id, status, last: history.latest() });
        return Ok(verdicts::table(&lines.collect::<Vec<_>>()));
    }
    let mut histories = History::default();
    for (.., history) in all {
        histories.append(if args.all { history } else { history.last() });
    }
    document(args.format, &histories)
}

fn document(format: ReportFormat, history: &History) -> anyhow::Result<String> {
    Ok(match format {
        ReportFormat::Text => text::text(history),
        ReportFormat::Json => json(history)?,
        ReportFormat::Html => history_html::document(history),
        ReportFormat::Openmetrics => proof_metrics::exposition(Dialect::OpenMetrics, history),
        ReportFormat::Prometheus => proof_metrics::exposition(Dialect::Prometheus, history),
    })
}

/// A record a line, and a line for each run of proofs.
fn json(history: &History) -> anyhow::Result<String> {
    if let Some(line) = text::skipped(history) {
        tracing::warn!("{line}");
    }
    let line = |entry: &Entry| match entry {
        Entry::Proof(record) => serde_json::to_string(record),
        Entry::Stress(record) => serde_json::to_string(record),
    };
    let mut text = String::new();
    for run in history.runs() {
        for entry in run.entries() {
            text += &(line(entry)? + "\n");
        }
        if let Some(summary) = run.summary() {
            text += &(serde_json::to_string(&summary)? + "\n");
        }
    }
    Ok(text)
}

/// The journal of a container that is there, or was; else of a path.
fn find(global: &Global, subject: &str) -> anyhow::Result<PathBuf> {
    if !subject.contains('/') && subject != "." {
        let store = Store::open(global)?;
        match store.load(subject) {
            Ok(container) => return Ok(container.directory().join(journal::FILE)),
            Err(error) if error.is_absence() => {}
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
