//! One control file of a cgroup: reading and writing it, with the path and the value in every error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::error::CgroupError;
use crate::small_file;

type Result<T> = std::result::Result<T, CgroupError>;

/// Opens an existing file for writing. It is never created: a missing file means a missing controller.
pub(super) fn open_to_write(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|error| CgroupError::Open { path: path.to_path_buf(), error })
}

/// Writes one command to an open control file (the kernel takes each `write(2)` as one command).
pub(super) fn write_to(file: &mut File, path: &Path, data: &str) -> Result<()> {
    file.write_all(data.as_bytes()).map_err(|error| CgroupError::Write {
        path: path.to_path_buf(),
        data: data.to_owned(),
        error,
    })
}

/// Writes `data` to `dir/name`.
pub(super) fn write(dir: &Path, name: &str, data: &str) -> Result<()> {
    let path = dir.join(name);
    write_to(&mut open_to_write(&path)?, &path, data)
}

/// The file as [`small_file`]'s `read` has it.
pub(super) fn read_by(read: fn(&File) -> std::io::Result<Vec<u8>>, path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| CgroupError::Open { path: path.to_path_buf(), error })?;
    read(&file).map_err(|error| CgroupError::Read { path: path.to_path_buf(), error })
}

/// The whole of `dir/name`.
pub(super) fn read(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    let bytes = read_by(small_file::short, &path)?;
    String::from_utf8(bytes).map_err(|error| CgroupError::parse(&path, &error.to_string()))
}

/// `dir/name` as a number: `max` is the largest one, and a negative value (the kernel has shown some in
/// counters) is 0, as in runc.
pub(super) fn read_u64(dir: &Path, name: &str) -> Result<u64> {
    let text = read(dir, name)?;
    number(text.trim()).ok_or_else(|| CgroupError::parse(&dir.join(name), &text))
}

/// Like [`read_u64`], with `None` for a file that is not there (an optional part of the kernel).
pub(super) fn read_optional_u64(dir: &Path, name: &str) -> Result<Option<u64>> {
    match read_u64(dir, name) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The value of `key` in a file of `key value` lines; 0 when the key is not there.
pub(super) fn read_key(dir: &Path, name: &str, key: &str) -> Result<u64> {
    let text = read(dir, name)?;
    for line in text.lines() {
        if let Some(value) = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' ')) {
            return number(value).ok_or_else(|| CgroupError::parse(&dir.join(name), line));
        }
    }
    Ok(0)
}

/// A decimal number, `max`, or a negative number (0).
pub(super) fn number(text: &str) -> Option<u64> {
    match text {
        "max" => Some(u64::MAX),
        _ => text.parse().ok().or_else(|| text.parse::<i64>().ok().map(|_| 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_runc_reads_them() {
        assert_eq!(number("17"), Some(17));
        assert_eq!(number("max"), Some(u64::MAX));
        assert_eq!(number("-3"), Some(0));
        assert_eq!(number("x"), None);
    }

    #[test]
    fn a_missing_file_is_never_created() {
        let dir = tempfile::tempdir().unwrap();
        let error = write(dir.path(), "memory.max", "1").unwrap_err();
        assert!(error.is_gone());
        assert!(!dir.path().join("memory.max").exists());
    }

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("memory.events"), "oom_kill_x 9\noom_kill 2\n").unwrap();
        assert_eq!(read_key(dir.path(), "memory.events", "oom_kill").unwrap(), 2);
        assert_eq!(read_key(dir.path(), "memory.events", "oom").unwrap(), 0);
    }
}
