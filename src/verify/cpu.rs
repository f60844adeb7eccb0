//! The CPU limit, measured: a process in the container's cgroup that wants a whole CPU gets its share only.

use std::time::Duration;

use super::burner::Burner;
use super::runtime::Runtime;
use super::{CPU_PERCENT, List, Seen, Step, Wrong};
use crate::cgroup::{host, join, locate};

/// Ten periods of the kernel's bandwidth control.
const WINDOW: Duration = Duration::from_secs(1);

/// So often it is tried on a host that is too busy to reach the limit.
const WINDOWS: u32 = 5;

/// What the kernel may give above the limit: an eleventh period at the edges of the window, a slice of 5 ms in each
/// period of 100 ms (sched_cfs_bandwidth_slice_us), and the clock tick that CPU time is counted in.
const TOLERANCE: f64 = 0.08;

/// The limit throttles what runs under it.
pub fn throttles(pid: i32, runtime: &Runtime, list: &mut List<'_>) {
    list.check(Step::Cpu, "cpu-throttles", || measure(pid, runtime));
}

fn measure(pid: i32, runtime: &Runtime) -> Seen {
    let location = locate(pid, "cpu").map_err(|e| Wrong::from_error(&e))?;
    let burner = Burner::start(&runtime.rt).map_err(|e| Wrong::from_error(&e))?;
    join::join(&location.dir, burner.pid()).map_err(|e| Wrong::from_error(&e))?;
    let asked = f64::from(u32::try_from(CPU_PERCENT).unwrap_or(u32::MAX)) / 100.0;
    let mut seen = String::new();
    for _ in 0..WINDOWS {
        let before = host::times_throttled(&location);
        let Some(share) = burner.share_over(WINDOW) else {
            return Err(Wrong::new("the CPU time of the process that was to be throttled cannot be read"));
        };
        let throttled = host::times_throttled(&location).saturating_sub(before);
        seen = format!("a process that wants a whole CPU got {:.0} % of one", share * 100.0);
        if share > asked + TOLERANCE {
            return Err(Wrong::new(format!("{seen}, and {CPU_PERCENT} % was asked for")));
        }
        if throttled > 0 {
            return Ok(format!("{seen}, throttled {throttled} times in a second"));
        }
    }
    // It got less than the limit gives: that says nothing against the limit.
    Err(Wrong::not_told(format!("{seen}: this host is too busy to tell whether the limit would throttle it")))
}
