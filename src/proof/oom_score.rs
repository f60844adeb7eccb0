//! This process's own oom_score_adj: who is killed first. An undumpable process does not own its files in /proc: only root
//! may open them.

use std::fs::File;
use std::io::{self, Write};

use crate::sys::clone::set_dumpable;

/// The open file: written as often as need be.
pub(super) struct OomScore(File);

impl OomScore {
    /// Killed before anybody else.
    pub const FIRST: &str = "1000";

    /// Of a process that is dumpable, or root's.
    pub fn open() -> io::Result<Self> {
        File::options().write(true).open("/proc/self/oom_score_adj").map(Self)
    }

    /// Of an undumpable process: one that is not root's is dumpable while the file is opened. Who could look at it then is
    /// of the same user and the same user namespace: no container of rt's, which has another one where rt is not root.
    pub fn open_undumpable() -> io::Result<Self> {
        match Self::open() {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                set_dumpable(true)?;
                let opened = Self::open();
                set_dumpable(false)?;
                opened
            }
            opened => opened,
        }
    }

    pub fn set(&mut self, score: &str) -> io::Result<()> {
        self.0.write_all(score.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Uid, setuid};

    #[test]
    fn a_user_who_is_not_root_raises_the_score_of_an_undumpable_process() {
        crate::sys::testing::succeeds_in_child(|| {
            if Uid::effective().is_root() {
                setuid(Uid::from_raw(65534)).unwrap();
            }
            set_dumpable(false).unwrap();
            assert!(OomScore::open().is_err(), "the file is root's");
            OomScore::open_undumpable().unwrap().set(OomScore::FIRST).unwrap();
            assert!(OomScore::open().is_err(), "undumpable again");
        });
    }
}
