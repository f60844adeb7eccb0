//! Mapped memory, written piece by piece. What is written is the strategy's [`Content`].

use std::io;

use super::Fill;
use crate::sys::memory::Region;

/// The step that goes page by page.
pub const PAGE: usize = 4096;

/// Written again in one go, at most.
const PIECE: usize = 256 << 10;

/// What a strategy writes, by the offset in its memory.
pub(super) trait Content {
    /// Writes `bytes`, which begin at `offset`.
    fn write(&mut self, offset: usize, bytes: &mut [u8]);

    /// True where `bytes`, which begin at `offset`, are what was written; contents that cannot tell agree.
    fn holds(&self, _offset: usize, _bytes: &[u8]) -> bool {
        true
    }
}

/// One byte everywhere; not zero, so that no kernel feature can elide the pages as empty.
pub(super) struct Constant;

impl Content for Constant {
    fn write(&mut self, _offset: usize, bytes: &mut [u8]) {
        bytes.fill(0xa5);
    }
}

/// A mapping and what goes into it.
pub(super) struct Mapped<C> {
    region: Region,
    content: C,
    /// False once the kernel refused MADV_POPULATE_WRITE (before Linux 5.14).
    populates: bool,
}

impl<C: Content> Mapped<C> {
    pub fn new(region: Region, content: C) -> Self {
        Self { region, content, populates: true }
    }
}

impl<C: Content> Fill for Mapped<C> {
    fn extend(&mut self, from: usize, to: usize, step: usize, progress: &dyn Fn(usize)) -> io::Result<()> {
        for start in (from..to).step_by(step) {
            let end = to.min(start + step);
            // One call for all page faults of the step; the write after it costs memory bandwidth alone.
            if step > PAGE && self.populates && self.region.populate(start, end).is_err() {
                self.populates = false;
            }
            self.content.write(start, &mut self.region.bytes()[start..end]);
            progress(end);
        }
        Ok(())
    }

    fn rewrite(&mut self, to: usize, written: &dyn Fn(usize)) -> io::Result<()> {
        for start in (0..to).step_by(PIECE) {
            let end = to.min(start + PIECE);
            self.content.write(start, &mut self.region.bytes()[start..end]);
            written(end - start);
        }
        Ok(())
    }

    fn verify(&mut self, to: usize) -> io::Result<()> {
        match self.content.holds(0, &self.region.bytes()[..to]) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(nix::libc::EIO)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Words;
    use super::*;

    #[test]
    fn memory_that_lost_a_bit_is_found() {
        let mut fill = Mapped::new(Region::new(4 * PAGE).unwrap(), Words);
        fill.extend(0, 4 * PAGE, 4 * PAGE, &|_| {}).unwrap();
        fill.verify(4 * PAGE).unwrap();
        fill.region.bytes()[PAGE + 3] ^= 0x10;
        assert_eq!(fill.verify(4 * PAGE).unwrap_err().raw_os_error(), Some(nix::libc::EIO));
        fill.verify(PAGE).unwrap();
    }
}
