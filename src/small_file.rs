//! Small files, read as a whole by plain reads: `fs::read` asks for the size and the place in the file first, and those of /proc
//! and cgroupfs say that they are empty.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

/// Room for most.
const USUAL: usize = 4096;

/// All of a file.
///
/// # Errors
/// It cannot be read.
pub fn all(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = until(file, &mut bytes, |length| length == 0)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// All of a file on disk, or of one of the kernel whose records are far shorter than half a page; mostly in one call. The
/// kernel fills a page with whole records, so a read far from full was the last.
///
/// # Errors
/// It cannot be read.
pub fn short(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = short_into(file, &mut bytes)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

/// As [`short`], into a buffer that is used again for other files, whatever is in it.
///
/// # Errors
/// It cannot be read.
pub fn short_into<'a>(file: &File, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    let length = until(file, buffer, |length| length < USUAL / 2)?;
    Ok(&buffer[..length])
}

/// Reads to the beginning of `buffer`, which grows; returns how much there is.
fn until(mut file: &File, buffer: &mut Vec<u8>, is_last: impl Fn(usize) -> bool) -> io::Result<usize> {
    let mut end = 0;
    loop {
        if buffer.len() < end + USUAL {
            buffer.resize(end + USUAL, 0);
        }
        match file.read(&mut buffer[end..end + USUAL]) {
            Ok(length) => {
                end += length;
                if is_last(length) {
                    return Ok(end);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut buffer = Vec::new();
        let open = || File::open(&path).unwrap();
        for length in [0, 1, USUAL / 2 - 1, USUAL / 2, USUAL, USUAL + 1, 3 * USUAL] {
            let content: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            std::fs::write(&path, &content).unwrap();
            assert_eq!(all(&open()).unwrap(), content);
            assert_eq!(short(&open()).unwrap(), content);
            assert_eq!(short_into(&open(), &mut buffer).unwrap(), content);
        }
    }
}
