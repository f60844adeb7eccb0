//! Locks of files that other processes hold for a moment, with a bound: whoever holds one for ever holds up no proof.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Much longer than anybody needs a lock for.
pub(super) const WITHIN: Duration = Duration::from_millis(500);

/// How often a lock is tried for.
const EVERY: Duration = Duration::from_millis(2);

/// Locks `file` (flock(2)) for this process alone, within so long.
pub(super) fn lock_within(mut file: File, within: Duration) -> io::Result<Flock<File>> {
    let ends = Instant::now() + within;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < ends => file,
            Err((_, Errno::EWOULDBLOCK)) => {
                let words =
                    format!("another process holds its lock for more than {} s", within.as_secs_f64());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            Err((_, e)) => return Err(e.into()),
        };
        std::thread::sleep(EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_is_waited_for_and_not_for_ever() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(named.path()).unwrap();
        let held = lock_within(open(), Duration::ZERO).unwrap();
        let refused = lock_within(open(), Duration::from_millis(20)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        let other = open();
        let waits = std::thread::spawn(move || lock_within(other, WITHIN).is_ok());
        std::thread::sleep(Duration::from_millis(10));
        drop(held);
        assert!(waits.join().unwrap());
    }
}
