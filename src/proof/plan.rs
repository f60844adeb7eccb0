//! The prediction: what will be written, where the kernel will stop it, and how long it may take. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::request::Request;
use super::scratch::Medium;
use super::strategy::{Strategy, fork};
use crate::units::MIB;

/// The worker goes page by page from this far before the predicted byte.
const FINE_BYTES: u64 = 2 * MIB;

/// How long a proof may take at most for the small share of a CPU that it gets.
const SHARED_AT_MOST: Duration = Duration::from_secs(60);

/// How far above the limit a survivor must have come before the limit is called broken.
pub const BROKEN_MARGIN_BYTES: u64 = 2 * MIB;

/// What is expected to happen, by the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// It fits below the limit.
    Survives,
    /// Killed at the predicted byte.
    Killed,
    /// Page cache on a disk: given back at the limit.
    Reclaimed,
    /// Above the limit but not above limit and swap: it goes on in swap.
    Swaps,
    /// memory.high is lower than the limit and slows it to a crawl first.
    Throttled,
}

/// A proof as it will be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub strategy: Strategy,
    /// What keeps the file of the `file` strategy.
    pub medium: Option<Medium>,
    pub step_bytes: u64,
    /// What was asked to be written.
    pub target_bytes: u64,
    /// What will be written at most: a broken limit is known well before an absurd target is reached.
    pub ceiling_bytes: u64,
    /// The limit that binds; `None` only with `--up-to`.
    pub limit_bytes: Option<u64>,
    pub high_bytes: Option<u64>,
    /// Charged at the limiter before.
    pub usage_before_bytes: u64,
    pub reclaimable_bytes: u64,
    pub swap_room_bytes: u64,
    /// The byte at which the limit should kill; `None` where nothing limits.
    pub predicted_bytes: Option<u64>,
    /// The first side: this much must fit.
    pub within_bytes: u64,
    pub page_size: u64,
    /// Batched charges: 64 pages a CPU.
    pub noise_bytes: u64,
    pub deadline: Duration,
}

/// What the kernel charges beside each 2 MiB of pages: a page table where they are mapped, and eight nodes of 576
/// bytes where they belong to a file or to shared memory (XArray, lib/xarray.c).
fn overhead_bytes(strategy: Strategy) -> u64 {
    const PAGE_TABLE: u64 = 4096;
    const NODES: u64 = 8 * 576;
    match strategy {
        Strategy::File => NODES,
        Strategy::Shm => PAGE_TABLE + NODES,
        _ => PAGE_TABLE,
    }
}

/// What the kernel charges for a child of the `fork` strategy that holds nothing yet: its stack, its page tables and
/// the pages it was the first to write. Measured on Linux 6.18: 98 to 108 KiB, for limits from 16 MiB to 2 GiB.
const CHILD_BYTES: u64 = 105 << 10;

/// Where a worker dies that writes into what is left below `limit` (measured, sequential: 64 MiB → 63.871 MiB
/// written). `ceiling` is what it was made ready for: the children of `fork` share it.
pub fn death_point(strategy: Strategy, limit: u64, usage: u64, ceiling: u64) -> u64 {
    match strategy {
        Strategy::Fork => fork_death_point(limit, usage, 0, ceiling),
        strategy => fits(strategy, limit.saturating_sub(usage)),
    }
}

/// What can be written into `room`.
fn fits(strategy: Strategy, room: u64) -> u64 {
    let piece = 2 * MIB;
    let bytes = u128::from(room) * u128::from(piece) / u128::from(piece + overhead_bytes(strategy));
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// How much more a family can write that has written `touched` bytes: each child that is still to come costs.
fn fork_death_point(limit: u64, usage: u64, touched: u64, ceiling: u64) -> u64 {
    let room = limit.saturating_sub(usage);
    let children = |bytes: u64| bytes.div_ceil(fork::share(ceiling).max(1)).min(fork::CHILDREN);
    let to_come = children(touched + fits(Strategy::Fork, room)) - children(touched);
    fits(Strategy::Fork, room.saturating_sub(to_come * CHILD_BYTES))
}

/// The default target: across the limit by 16 MiB or an eighth, whichever is more.
pub fn crossing(limit: u64) -> u64 {
    limit.saturating_add((16 * MIB).max(limit / 8))
}

impl Plan {
    /// The plan for a request; `None` where nothing limits and no `--up-to` was given.
    pub fn make(facts: &Facts, request: &Request) -> Option<Self> {
        let accounting = facts.accounting.as_ref();
        let limit_bytes = accounting.and_then(super::facts::Accounting::effective_limit);
        let page_size = facts.host.page_size;
        let usage = accounting.and_then(|a| a.usage_at_limiter().ok()).unwrap_or(0);
        let whole_pages = |bytes: u64| bytes.div_ceil(page_size).saturating_mul(page_size);
        let target = match (limit_bytes, request.up_to_bytes) {
            (Some(limit), _) => request.target_bytes.unwrap_or_else(|| crossing(limit)),
            (None, Some(up_to)) => {
                request.target_bytes.unwrap_or(up_to).min(up_to).min(facts.host.mem_available_bytes / 2)
            }
            (None, None) => return None,
        };
        let target_bytes = whole_pages(target.max(page_size));
        let mut plan = Self {
            strategy: request.strategy,
            medium: None,
            step_bytes: whole_pages(request.step_bytes.max(page_size)),
            target_bytes,
            ceiling_bytes: target_bytes,
            limit_bytes,
            high_bytes: accounting.and_then(|a| a.high_bytes),
            usage_before_bytes: usage,
            reclaimable_bytes: accounting.map_or(0, |a| a.reclaimable_bytes),
            swap_room_bytes: accounting.map_or(0, |a| match request.strategy {
                // Only what others hold can be swapped out.
                Strategy::Mlock => a.swap_room_bytes.min(usage),
                _ => a.swap_room_bytes,
            }),
            predicted_bytes: None,
            within_bytes: 0,
            page_size,
            noise_bytes: facts.host.charge_noise_bytes(),
            deadline: Duration::ZERO,
        };
        plan.rebase(usage);
        let share = accounting.and_then(|a| a.cpu_share).unwrap_or(1.0);
        plan.deadline =
            request.timeout.unwrap_or_else(|| deadline(plan.ceiling_bytes, plan.may_swap_bytes(), share));
        Some(plan)
    }

    /// Predicts again from the usage measured just before the worker writes.
    pub fn rebase(&mut self, usage_bytes: u64) {
        self.usage_before_bytes = usage_bytes;
        let Some(limit) = self.limit_bytes else {
            self.within_bytes = self.target_bytes;
            return;
        };
        let highest = crossing(limit).saturating_add(self.swap_room_bytes);
        self.ceiling_bytes = self.target_bytes.min(highest.div_ceil(self.page_size) * self.page_size);
        let predicted = death_point(self.strategy, limit, usage_bytes, self.ceiling_bytes);
        self.predicted_bytes = Some(predicted);
        let half = predicted / 2 / self.page_size * self.page_size;
        self.within_bytes = if self.target_bytes < predicted { self.target_bytes } else { half };
    }

    /// Predicts again half way: `touched` bytes are written, and `charged` are in use at the limiter without what CPUs
    /// hold in stock (up to 64 pages each, which the usage before counted in).
    pub fn refine(&mut self, touched: u64, charged: u64) {
        let Some(limit) = self.limit_bytes else { return };
        let more = match self.strategy {
            Strategy::Fork => fork_death_point(limit, charged, touched, self.ceiling_bytes),
            // From here on that one writes private memory.
            strategy if strategy.is_freed_late(self.medium) => {
                fits(Strategy::Sequential, limit.saturating_sub(charged))
            }
            strategy => fits(strategy, limit.saturating_sub(charged)),
        };
        // What was reclaimed meanwhile is room, but no more than there is.
        self.predicted_bytes = Some((touched + more).min(fits(self.strategy, limit)));
    }

    /// True where the target does not fit below the limit.
    pub fn reaches_limit(&self) -> bool {
        self.predicted_bytes.is_some_and(|predicted| self.target_bytes >= predicted)
    }

    /// True for page cache that the kernel can write back and take away.
    pub fn on_disk(&self) -> bool {
        self.medium == Some(Medium::Disk)
    }

    /// What should happen.
    pub fn expectation(&self) -> Expectation {
        let Some(predicted) = self.predicted_bytes else { return Expectation::Survives };
        let charged = self.usage_before_bytes.saturating_add(self.target_bytes.min(predicted));
        let high_first = self.high_bytes.is_some_and(|high| charged > high);
        match () {
            // With swap, memory.high pushes out what is above it instead.
            () if high_first && self.high_bytes < self.limit_bytes && self.swap_room_bytes == 0 => {
                Expectation::Throttled
            }
            () if self.target_bytes < predicted => Expectation::Survives,
            () if self.on_disk() => Expectation::Reclaimed,
            () if self.target_bytes < predicted.saturating_add(self.swap_room_bytes) => Expectation::Swaps,
            () => Expectation::Killed,
        }
    }

    /// Page by page from here on.
    pub fn fine_from_bytes(&self) -> u64 {
        let end = self.predicted_bytes.unwrap_or(u64::MAX);
        end.saturating_sub(FINE_BYTES) / self.page_size * self.page_size
    }

    /// A kill before this byte is too early: 2 MiB or 2 % before the prediction, and never within the noise.
    pub fn early_below_bytes(&self) -> u64 {
        self.too_early_for(self.predicted_bytes.unwrap_or(0))
    }

    /// As [`Self::early_below_bytes`] once all page cache that there was before is taken back.
    pub fn earliest_of_full_bytes(&self) -> u64 {
        let all = self.limit_bytes.map_or(u64::MAX, |limit| fits(self.strategy, limit));
        let predicted = self.predicted_bytes.unwrap_or(0);
        self.too_early_for(predicted.saturating_add(self.reclaimable_bytes).min(all.max(predicted)))
    }

    fn too_early_for(&self, predicted: u64) -> u64 {
        let slack = (2 * MIB).max(predicted / 50).max(self.page_size + self.noise_bytes);
        predicted.saturating_sub(slack)
    }

    /// How far usage may rise by less or more than was written: 1 %, or batched charges.
    pub fn accounting_slack_bytes(&self, written: u64) -> u64 {
        (written / 100).max(self.noise_bytes)
    }

    /// What the proof will have charged when it ends, with page tables.
    pub fn expected_charge_bytes(&self) -> u64 {
        let room = self.limit_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(self.usage_before_bytes));
        let overhead = self.ceiling_bytes / (2 * MIB) * overhead_bytes(self.strategy);
        self.ceiling_bytes.saturating_add(overhead).min(room)
    }

    /// What may be swapped out at most.
    pub fn may_swap_bytes(&self) -> u64 {
        let above = self.predicted_bytes.map_or(0, |predicted| self.ceiling_bytes.saturating_sub(predicted));
        above.min(self.swap_room_bytes)
    }
}

/// 10 s, or what 8 MiB/s need (measured: 1400 MiB/s, and 20 in an emulated machine), and 4 MiB/s for what goes to
/// swap, stretched by a CPU limit.
fn deadline(bytes: u64, swapped: u64, cpu_share: f64) -> Duration {
    let seconds = Duration::from_secs((bytes / (8 * MIB) + swapped / (4 * MIB)).max(10));
    if cpu_share < 1.0 && cpu_share > 0.0 {
        // A container may choose its share itself.
        seconds.div_f64(cpu_share.max(0.01)).min(seconds.max(SHARED_AT_MOST))
    } else {
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 MiB on v1: 63.871 MiB written of an empty cgroup (kernel-memory-facts).
    #[test]
    fn the_measured_death_point_is_predicted() {
        let predicted = death_point(Strategy::Sequential, 64 * MIB, 0, 80 * MIB);
        let measured = 66_973_696; // 63.871 MiB
        assert!(predicted.abs_diff(measured) <= 16 * 1024, "{predicted}");
    }

    /// Bytes short of the room, in KiB: measured on Linux 6.18 (v1), limits of 64 and 512 MiB.
    #[test]
    fn each_strategy_has_its_own_death_point() {
        for (strategy, mib, short_kib) in [
            (Strategy::Sequential, 512, 1020),
            (Strategy::Mlock, 512, 1020),
            (Strategy::Shm, 64, 260),
            (Strategy::Shm, 512, 2080),
            (Strategy::File, 512, 1116),
            (Strategy::Fork, 64, 2752),
            (Strategy::Fork, 512, 3996),
        ] {
            let limit = mib * MIB;
            let measured = limit - short_kib * 1024;
            let off = death_point(strategy, limit, 0, crossing(limit)).abs_diff(measured);
            assert!(off <= limit / 400, "{strategy}, {mib} MiB: {off} bytes off");
        }
    }

    #[test]
    fn half_way_the_prediction_is_the_same_where_nothing_was_in_stock() {
        for strategy in [Strategy::Sequential, Strategy::Shm, Strategy::Fork] {
            let (limit, usage) = (64 * MIB, MIB);
            let whole = death_point(strategy, limit, usage, 80 * MIB);
            let touched = whole / 2 / (5 * MIB / 2) * (5 * MIB / 2);
            let children = if strategy == Strategy::Fork { touched / (5 * MIB / 2) } else { 0 };
            let charged =
                usage + touched + touched / (2 * MIB) * overhead_bytes(strategy) + children * CHILD_BYTES;
            let mut plan = Plan {
                strategy,
                medium: None,
                step_bytes: MIB,
                target_bytes: 80 * MIB,
                ceiling_bytes: 80 * MIB,
                limit_bytes: Some(limit),
                high_bytes: None,
                usage_before_bytes: usage,
                reclaimable_bytes: 0,
                swap_room_bytes: 0,
                predicted_bytes: Some(whole),
                within_bytes: touched,
                page_size: 4096,
                noise_bytes: 0,
                deadline: Duration::ZERO,
            };
            plan.refine(touched, charged);
            let off = plan.predicted_bytes.unwrap().abs_diff(whole);
            assert!(off <= CHILD_BYTES, "{strategy}: {off}");
        }
    }

    /// Page cache that was written half way is taken away: what is charged is far less than what was written.
    #[test]
    fn no_prediction_is_above_the_limit() {
        let mut plan = Plan {
            strategy: Strategy::File,
            medium: Some(Medium::Disk),
            step_bytes: MIB,
            target_bytes: 288 * MIB,
            ceiling_bytes: 288 * MIB,
            limit_bytes: Some(256 * MIB),
            high_bytes: None,
            usage_before_bytes: MIB,
            reclaimable_bytes: 0,
            swap_room_bytes: 0,
            predicted_bytes: Some(254 * MIB),
            within_bytes: 127 * MIB,
            page_size: 4096,
            noise_bytes: 0,
            deadline: Duration::ZERO,
        };
        plan.refine(127 * MIB, 3 * MIB);
        assert!(plan.predicted_bytes.unwrap() <= 256 * MIB && plan.reaches_limit());
    }

    #[test]
    fn the_deadline_grows_with_size_and_shrinking_cpu() {
        assert_eq!(deadline(64 * MIB, 0, 1.0), Duration::from_secs(10));
        assert_eq!(deadline(64 * MIB, 0, 0.25), Duration::from_secs(40));
        assert_eq!(deadline(64 * MIB, 0, 0.001), Duration::from_secs(60));
        assert_eq!(deadline(8_000 * MIB, 0, 0.5), Duration::from_secs(1000));
        assert_eq!(deadline(8_000 * MIB, 0, 1.0), Duration::from_secs(1000));
        assert_eq!(deadline(64 * MIB, 0, 0.0), Duration::from_secs(10));
    }
}
