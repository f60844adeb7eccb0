//! How long a hook may take. Engines set no timeout of their own, so it keeps one.

use std::time::Duration;

/// Without a timeout in config.json.
pub const USUAL: Duration = Duration::from_secs(5);

/// The part of a hook's timeout that a proof may take: 4 of 5. The rest is for starting, and for ending in order.
const SHARE: (u32, u32) = (4, 5);

/// More was asked for than there is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{seconds} s are asked for, and this hook may take {} s{}", may_take.as_secs_f64(), why(*timeout))]
pub struct TooLong {
    pub seconds: u64,
    pub may_take: Duration,
    pub timeout: Option<Duration>,
}

fn why(timeout: Option<Duration>) -> String {
    match timeout {
        Some(timeout) => format!(": 0.8 of its timeout of {} s in config.json", timeout.as_secs()),
        None => " (it has no timeout in config.json)".to_owned(),
    }
}

/// The deadline of a hook that has this timeout in config.json and was told `--seconds`.
///
/// # Errors
/// More seconds than there are, or none.
pub fn of(seconds: Option<u64>, timeout: Option<Duration>) -> Result<Duration, TooLong> {
    let may_take = timeout.map_or(USUAL, |timeout| timeout / SHARE.1 * SHARE.0);
    match seconds {
        None => Ok(may_take.min(USUAL)),
        Some(seconds) if Duration::from_secs(seconds) > may_take => {
            Err(TooLong { seconds, may_take, timeout })
        }
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// The timeout, in whole seconds, of a hook that shall have `seconds` for its proof.
pub fn timeout_for(seconds: u64) -> i64 {
    let whole = seconds.saturating_mul(u64::from(SHARE.1)).div_ceil(u64::from(SHARE.0));
    i64::try_from(whole).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hooks_timeout_bounds_what_can_be_asked() {
        let seconds = Duration::from_secs;
        assert_eq!(of(None, None), Ok(seconds(5)));
        assert_eq!(of(Some(3), None), Ok(seconds(3)));
        assert_eq!(of(None, Some(seconds(2))), Ok(Duration::from_millis(1600)));
        assert_eq!(of(None, Some(seconds(100))), Ok(seconds(5)));
        assert_eq!(of(Some(60), Some(seconds(100))), Ok(seconds(60)));
        let error = of(Some(6), None).unwrap_err().to_string();
        assert_eq!(error, "6 s are asked for, and this hook may take 5 s (it has no timeout in config.json)");
        let error = of(Some(2), Some(seconds(2))).unwrap_err().to_string();
        assert!(error.ends_with("may take 1.6 s: 0.8 of its timeout of 2 s in config.json"), "{error}");
    }

    #[test]
    fn a_timeout_leaves_room_for_what_it_is_made_for() {
        for asked in 1..60 {
            let timeout = Duration::from_secs(timeout_for(asked).unsigned_abs());
            assert_eq!(of(Some(asked), Some(timeout)), Ok(Duration::from_secs(asked)));
        }
    }
}
