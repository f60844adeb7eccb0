//! The file of records, a JSON line each: mode 0600, no links followed, bounded, a line appended whole.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::ProofError;
use super::lock::{self, lock_within};
use super::record::Record;
use super::record_dir::RecordDir;

/// The file's name in a bundle and in a container's state folder.
pub const FILE: &str = "rt-proofs.jsonl";

/// The file is cut to its newest half when it would grow beyond this.
pub const MAX_BYTES: u64 = 1 << 20;

/// Appends a record in each of `dirs`; the first failure is told after all were tried, unless one was written and
/// the others only cannot be (a read-only bundle).
pub fn append(dirs: &[RecordDir], record: &impl Serialize) -> Result<(), ProofError> {
    let mut line = serde_json::to_vec(record)
        .map_err(|e| ProofError::Record { path: PathBuf::from(FILE), source: e.into() })?;
    line.push(b'\n');
    let mut written = false;
    let mut failed = None;
    for dir in dirs {
        match dir.append(&line) {
            Ok(()) => written = true,
            Err(e) => {
                tracing::debug!("{e}");
                failed.get_or_insert(e);
            }
        }
    }
    match failed {
        Some(e) if !written || !is_read_only(&e) => Err(e),
        _ => Ok(()),
    }
}

/// As [`append`], where the proof itself has failed: that is what is told, and this beside it.
pub(super) fn append_failure(dirs: &[RecordDir], record: &impl Serialize) {
    if let Err(e) = append(dirs, record) {
        tracing::warn!("{}", e.in_full());
    }
}

fn is_read_only(error: &ProofError) -> bool {
    let ProofError::Record { source, .. } = error else { return false };
    matches!(
        source.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
    )
}

/// The last record of a folder's file; `None` where there is none. Lines that are no records are skipped.
pub fn latest(dir: &Path) -> Option<Record> {
    text(dir)?.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// The text of a folder's file; `None` where there is none that can be read.
pub fn text(dir: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(dir.join(FILE))
        .ok()?;
    file.take(2 * MAX_BYTES).read_to_end(&mut bytes).ok()?;
    // A line that is no text spoils itself alone.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The newest whole lines of a journal's text that fit in `max` bytes.
#[must_use]
pub fn newest(text: &str, max: usize) -> &str {
    let Some(from) = text.len().checked_sub(max).filter(|from| *from > 0) else { return text };
    // From the first line that begins there or later; the byte before tells whether one begins right there.
    let tail = text.as_bytes()[from - 1..].iter().position(|byte| *byte == b'\n');
    tail.and_then(|newline| text.get(from + newline..)).unwrap_or_default()
}

pub(super) fn append_line(path: &Path, line: &[u8]) -> Result<(), ProofError> {
    let failed = |source| ProofError::Record { path: path.to_owned(), source };
    loop {
        let mut file = lock_within(open(path)?, lock::WITHIN).map_err(failed)?;
        // Another process may have cut the file and put a new one in its place while this one waited.
        let metadata = file.metadata().map_err(failed)?;
        match std::fs::symlink_metadata(path) {
            Ok(now) if (now.dev(), now.ino()) == (metadata.dev(), metadata.ino()) => {}
            _ => continue,
        }
        // A writer that was killed half-way leaves a line without an end, which would swallow this one.
        let torn = is_torn(&file, metadata.len()).map_err(failed)?;
        let line: Cow<'_, [u8]> = if torn { [b"\n", line].concat().into() } else { line.into() };
        if metadata.len() + line.len() as u64 > MAX_BYTES {
            return cut(path, &mut file, &line).map_err(failed);
        }
        return file.write_all(&line).map_err(failed);
    }
}

fn is_torn(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Opens without following a link, and only a regular file that has no second name.
fn open(path: &Path) -> Result<File, ProofError> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| ProofError::Record { path: path.to_owned(), source })?;
    let metadata = file.metadata().map_err(|source| ProofError::Record { path: path.to_owned(), source })?;
    if metadata.is_file() && metadata.nlink() <= 1 {
        Ok(file)
    } else {
        Err(ProofError::RecordNotAFile { path: path.to_owned() })
    }
}

/// Puts the newest lines that fit in half of the bound, and `line`, in the place of the file, at once.
fn cut(path: &Path, file: &mut File, line: &[u8]) -> io::Result<()> {
    let mut old = Vec::new();
    file.take(2 * MAX_BYTES).read_to_end(&mut old)?;
    let half = usize::try_from(MAX_BYTES / 2).unwrap_or(usize::MAX);
    let from = old.len().saturating_sub(half.saturating_sub(line.len()));
    let kept = match old.get(from..).and_then(|tail| tail.iter().position(|b| *b == b'\n')) {
        Some(newline) => &old[from + newline + 1..],
        None => &[],
    };
    let fresh = path.with_extension("jsonl.new");
    let _ = std::fs::remove_file(&fresh);
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&fresh)?;
    out.write_all(kept)?;
    out.write_all(line)?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lines_are_appended_privately() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join(FILE);
        append_line(&path, b"one\n").unwrap();
        append_line(&path, b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_newest_lines_are_whole_ones() {
        assert_eq!(newest("one\ntwo\n", 100), "one\ntwo\n");
        assert_eq!(newest("one\ntwo\n", 8), "one\ntwo\n");
        assert_eq!(newest("one\ntwo\n", 7), "two\n");
        assert_eq!(newest("one\ntwo\n", 4), "two\n");
        assert_eq!(newest("one\ntwo\n", 3), "");
        assert_eq!(newest("ä", 1), "");
    }

    #[test]
    fn links_and_pipes_are_not_written_through() {
        let tmp = tempfile::tempdir().unwrap();
        let (path, other) = (tmp.path().join(FILE), tmp.path().join("other"));
        std::fs::write(&other, "mine").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(append_line(&path, b"x\n").is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&other, &path).unwrap();
        assert!(matches!(append_line(&path, b"x\n"), Err(ProofError::RecordNotAFile { .. })));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(append_line(&path, b"x\n").is_err());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
    }

    #[test]
    fn the_file_stays_bounded_and_keeps_the_newest_whole_lines() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join(FILE);
        for i in 0..150 {
            let line = format!("{i:>10000}\n");
            append_line(&path, line.as_bytes()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() as u64 <= MAX_BYTES);
        assert!(text.lines().all(|line| line.len() == 10_000));
        assert_eq!(text.lines().last().unwrap().trim(), "149");
        assert!(!path.with_extension("jsonl.new").exists());
    }
}
