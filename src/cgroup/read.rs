//! Small reads of cgroup and proc files, errors always with the path.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::CgroupError;
use crate::small_file;

/// Room for what is kept open and read again.
const USUAL_BYTES: usize = 4096;

/// Room for a number: 20 digits and the end of the line.
const NUMBER_BYTES: usize = 64;

fn whole(path: &Path) -> io::Result<String> {
    let bytes = small_file::all(&File::open(path)?)?;
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The whole text of a small file.
pub fn text(path: &Path) -> Result<String, CgroupError> {
    whole(path).map_err(|e| CgroupError::read(path, e))
}

/// As [`text`]; `None` where the file is not there (an older kernel, a controller that is off).
pub fn text_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match whole(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        // EOPNOTSUPP: the file is there but the feature is off (PSI, swap accounting).
        Err(e) if e.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(None),
        Err(e) => Err(CgroupError::read(path, e)),
    }
}

/// A file of one decimal number.
pub fn number(path: &Path) -> Result<u64, CgroupError> {
    let text = text(path)?;
    parse_number(path, &text)
}

/// As [`number`]; `None` where the file is not there.
pub fn number_if_there(path: &Path) -> Result<Option<u64>, CgroupError> {
    text_if_there(path)?.map(|text| parse_number(path, &text)).transpose()
}

fn parse_number(path: &Path, text: &str) -> Result<u64, CgroupError> {
    decimal(text).ok_or_else(|| CgroupError::parse(path, text, "a number"))
}

/// A number as the kernel prints it: digits alone, with the end of its line. `parse` would take a sign too.
pub fn decimal(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['\n', ' ']);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The value of `key` in a file of `key value` lines.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| decimal(line.strip_prefix(key)?.strip_prefix(' ')?))
}

/// A file kept open and read again from its start: 0.6 µs instead of 5 µs for an open, read and close.
#[derive(Debug)]
pub struct Kept {
    file: File,
    path: PathBuf,
}

impl Kept {
    /// Opens the file; `None` where it is not there.
    pub fn open_if_there(path: PathBuf) -> Result<Option<Self>, CgroupError> {
        match File::open(&path) {
            Ok(file) => Ok(Some(Self { file, path })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(CgroupError::read(&path, e)),
        }
    }

    /// Opens a file that must be there.
    pub fn open(path: PathBuf) -> Result<Self, CgroupError> {
        match File::open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(e) => Err(CgroupError::read(&path, e)),
        }
    }

    /// The file's only number.
    pub fn number(&self) -> Result<u64, CgroupError> {
        self.with_room::<NUMBER_BYTES, _>(decimal, "a number")
    }

    /// The value of `key` in a file of `key value` lines; an absent key is an error.
    pub fn keyed(&self, key: &str) -> Result<u64, CgroupError> {
        self.with_text(|text| keyed(text, key), "a list with the key asked for")
    }

    /// Lets `take` read the present text of a file that the kernel may give in pieces, into `buffer`.
    pub fn with_pieces<T>(&self, buffer: &mut [u8], take: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let mut length = 0;
        while length < buffer.len() {
            match self.file.read_at(&mut buffer[length..], length as u64).ok()? {
                0 => return take(std::str::from_utf8(&buffer[..length]).ok()?),
                more => length += more,
            }
        }
        None
    }

    /// Lets `take` read the file's present text (less than 4 KiB, as all the files kept are: the kernel prints memory.stat
    /// into one page).
    pub fn with_text<T>(
        &self,
        take: impl FnOnce(&str) -> Option<T>,
        wanted: &'static str,
    ) -> Result<T, CgroupError> {
        self.with_room::<USUAL_BYTES, _>(take, wanted)
    }

    fn with_room<const ROOM: usize, T>(
        &self,
        take: impl FnOnce(&str) -> Option<T>,
        wanted: &'static str,
    ) -> Result<T, CgroupError> {
        let mut buffer = [0u8; ROOM];
        let length = self.file.read_at(&mut buffer, 0).map_err(|e| CgroupError::read(&self.path, e))?;
        let text = std::str::from_utf8(&buffer[..length]).unwrap_or_default();
        // Where all the room is taken there may be more, which changes what the text means.
        let taken = if length < ROOM { take(text) } else { None };
        taken.ok_or_else(|| CgroupError::parse(&self.path, text, wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_takes_all_the_room_is_not_understood() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("number");
        std::fs::write(&path, format!("{:0>64}\n", 7)).unwrap();
        let kept = Kept::open(path.clone()).unwrap();
        assert!(kept.number().is_err());
        let mut room = [0; 64];
        assert_eq!(kept.with_pieces(&mut room, decimal), None);
        std::fs::write(&path, "7\n").unwrap();
        assert_eq!((kept.number().unwrap(), kept.with_pieces(&mut room, decimal)), (7, Some(7)));
    }

    #[test]
    fn keyed_finds_whole_words_only() {
        let text = "oom 4\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(keyed(text, "oom"), Some(4));
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "kill"), None);
    }
}
