//! `sequential`: private anonymous memory, written from the first byte to the last.

use std::io;

use super::Fill;
use crate::sys::memory::Region;

/// Not zero, so that no kernel feature can merge or elide the pages as empty.
const BYTE: u8 = 0xa5;
const PAGE: usize = 4096;

pub struct Sequential {
    region: Region,
    /// False once the kernel refused MADV_POPULATE_WRITE (before Linux 5.14).
    populates: bool,
}

impl Sequential {
    pub fn new(bytes: usize) -> io::Result<Self> {
        Ok(Self { region: Region::new(bytes)?, populates: true })
    }
}

impl Fill for Sequential {
    fn extend(&mut self, from: usize, to: usize, fine: bool, progress: &dyn Fn(usize)) -> io::Result<()> {
        if fine {
            for start in (from..to).step_by(PAGE) {
                let end = to.min(start + PAGE);
                self.region.bytes()[start..end].fill(BYTE);
                progress(end);
            }
            return Ok(());
        }
        // One call for all page faults of the piece; the write after it costs memory bandwidth alone.
        if self.populates && self.region.populate(from, to).is_err() {
            self.populates = false;
        }
        self.region.bytes()[from..to].fill(BYTE);
        progress(to);
        Ok(())
    }
}
