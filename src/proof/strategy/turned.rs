//! Memory that outlives who wrote it for a moment, and from a turn on memory of the process alone: when the limit kills, that part is
//! free at once, and nobody else runs into the limit before the rest is.

use std::io;

use super::Fill;
use super::mapped::{Constant, Mapped};

pub(super) struct Turned {
    first: Box<dyn Fill>,
    private: Mapped<Constant>,
    /// Where the private part begins, once that is known.
    at: Option<usize>,
}

impl Turned {
    pub fn new(first: Box<dyn Fill>, private: Mapped<Constant>) -> Self {
        Self { first, private, at: None }
    }
}

impl Fill for Turned {
    fn extend(&mut self, from: usize, to: usize, step: usize, progress: &dyn Fn(usize)) -> io::Result<()> {
        match self.at {
            None => self.first.extend(from, to, step, progress),
            Some(at) => self.private.extend(from - at, to - at, step, &|end| progress(at + end)),
        }
    }

    fn rewrite(&mut self, to: usize, written: &dyn Fn(usize)) -> io::Result<()> {
        let at = self.at.unwrap_or(to).min(to);
        self.first.rewrite(at, written)?;
        self.private.rewrite(to - at, written)
    }

    fn turn(&mut self, done: usize) {
        self.at.get_or_insert(done);
    }

    fn verify(&mut self, to: usize) -> io::Result<()> {
        let at = self.at.unwrap_or(to).min(to);
        self.first.verify(at)?;
        self.private.verify(to - at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::PAGE;
    use super::*;
    use crate::sys::memory::Region;

    #[test]
    fn what_comes_after_the_turn_is_private() {
        let mapped = || Mapped::new(Region::new(8 * PAGE).unwrap(), Constant);
        let mut fill = Turned::new(Box::new(mapped()), mapped());
        let seen = std::cell::Cell::new(0);
        let progress = |end| seen.set(end);
        fill.extend(0, 4 * PAGE, PAGE, &progress).unwrap();
        fill.turn(4 * PAGE);
        fill.extend(4 * PAGE, 6 * PAGE, PAGE, &progress).unwrap();
        fill.turn(6 * PAGE);
        fill.extend(6 * PAGE, 7 * PAGE, PAGE, &progress).unwrap();
        assert_eq!((seen.get(), fill.at), (7 * PAGE, Some(4 * PAGE)));
        let again = std::cell::Cell::new(0);
        fill.rewrite(7 * PAGE, &|bytes| again.set(again.get() + bytes)).unwrap();
        assert_eq!(again.get(), 7 * PAGE);
        fill.verify(7 * PAGE).unwrap();
    }
}
