//! `file`: page cache. What is written belongs to a file without a name, so it goes with the worker. On a disk the
//! kernel takes it back at the limit; on tmpfs it counts as any other memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Fill;

/// Written in one go, at most: it stays in the cache.
const PIECE: usize = 256 << 10;

pub(super) struct InFile {
    file: File,
    /// Written once here, before the worker joins, so that it is not charged to the container.
    bytes: Vec<u8>,
}

impl InFile {
    pub fn new(file: File) -> Self {
        Self { file, bytes: vec![0xa5; PIECE] }
    }
}

impl Fill for InFile {
    fn extend(&mut self, from: usize, to: usize, step: usize, progress: &dyn Fn(usize)) -> io::Result<()> {
        let piece = step.min(PIECE);
        for start in (from..to).step_by(piece) {
            let end = to.min(start + piece);
            self.file.write_all_at(&self.bytes[..end - start], start as u64)?;
            progress(end);
        }
        Ok(())
    }

    fn rewrite(&mut self, to: usize, written: &dyn Fn(usize)) -> io::Result<()> {
        for start in (0..to).step_by(PIECE) {
            let end = to.min(start + PIECE);
            self.file.write_all_at(&self.bytes[..end - start], start as u64)?;
            written(end - start);
        }
        Ok(())
    }
}
