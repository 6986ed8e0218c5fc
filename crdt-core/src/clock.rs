//! The hybrid clock that stamps register writes: wall-clock milliseconds with a counter in the low bits.
//!
//! Not here: reading a clock. The wall time is an argument.
//!
//! Contract: stamps of one clock strictly increase, whatever the wall clock does; a peer's clock that is far
//! ahead cannot drag this one along.

/// How far ahead of the wall clock an observed stamp may be and still move this clock, in milliseconds.
/// A stamp further ahead is kept where it was written; only this clock does not follow it.
///
/// ```
/// use anabranch_crdt::{DRIFT_MS_MAX, HybridClock};
///
/// let mut clock = HybridClock::new();
/// clock.observe(1_000, (1_000 + DRIFT_MS_MAX) << 16);
/// assert_eq!(clock.tick(1_000), ((1_000 + DRIFT_MS_MAX) << 16) + 1);
/// clock.observe(1_000, (1_000 + DRIFT_MS_MAX + 1) << 16); // too far ahead
/// assert_eq!(clock.tick(1_000), ((1_000 + DRIFT_MS_MAX) << 16) + 2);
/// ```
pub const DRIFT_MS_MAX: u64 = 500;

/// The low bits of a stamp that count within a millisecond.
const COUNTER_BITS: u32 = 16;

/// The latest wall time a stamp can express (about 8,900 years), in milliseconds.
const WALL_MS_MAX: u64 = u64::MAX >> COUNTER_BITS;

/// Stamps that follow the wall clock and never go back.
///
/// ```
/// use anabranch_crdt::HybridClock;
///
/// let mut clock = HybridClock::new();
/// let first = clock.tick(1_000);
/// let second = clock.tick(990); // the wall clock was set back
/// assert_eq!(first, 1_000 << 16);
/// assert!(second > first);
/// ```
#[derive(Clone, Debug, Default)]
pub struct HybridClock {
    last: u64,
}

impl HybridClock {
    /// A clock that has stamped and observed nothing.
    ///
    /// ```
    /// use anabranch_crdt::HybridClock;
    ///
    /// assert_eq!(HybridClock::new().tick(0), 1); // the smallest stamp
    /// ```
    pub fn new() -> HybridClock {
        HybridClock::default()
    }

    /// The next stamp: the wall time if it is past the last stamp, else just above the last.
    ///
    /// ```
    /// use anabranch_crdt::HybridClock;
    ///
    /// let mut clock = HybridClock::new();
    /// assert_eq!(clock.tick(7), 7 << 16);
    /// assert_eq!(clock.tick(7), (7 << 16) + 1);
    /// assert_eq!(clock.tick(8), 8 << 16);
    /// ```
    pub fn tick(&mut self, wall_ms: u64) -> u64 {
        let wall = wall_ms.min(WALL_MS_MAX) << COUNTER_BITS;
        self.last = crate::planted!("raw_wall_clock", wall, wall.max(self.last.saturating_add(1)));
        self.last
    }

    /// Takes note of a stamp seen elsewhere, so that later stamps here are above it. A stamp more than
    /// [`DRIFT_MS_MAX`] ahead of the wall clock is ignored.
    ///
    /// ```
    /// use anabranch_crdt::HybridClock;
    ///
    /// let mut clock = HybridClock::new();
    /// clock.observe(1_000, 1_200 << 16);
    /// assert!(clock.tick(1_000) > 1_200 << 16);
    /// clock.observe(1_000, 9_000 << 16); // eight seconds ahead
    /// assert!(clock.tick(1_000) < 9_000 << 16);
    /// ```
    pub fn observe(&mut self, wall_ms: u64, stamp: u64) {
        if stamp >> COUNTER_BITS <= wall_ms.saturating_add(DRIFT_MS_MAX) {
            self.last = self.last.max(stamp);
        }
    }

    /// Takes over what another clock of the same node has stamped and observed.
    ///
    /// ```
    /// use anabranch_crdt::HybridClock;
    ///
    /// let (mut clock, mut other) = (HybridClock::new(), HybridClock::new());
    /// other.observe(1_000, 1_200 << 16);
    /// clock.join(&other);
    /// assert!(clock.tick(1_000) > 1_200 << 16);
    /// ```
    pub fn join(&mut self, other: &HybridClock) {
        self.last = self.last.max(other.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_increase_while_the_wall_clock_stands_jumps_and_goes_back() {
        let mut clock = HybridClock::new();
        let stamps: Vec<u64> = [5, 5, 5, 9, 2, 2, u64::MAX]
            .iter()
            .map(|ms| clock.tick(*ms))
            .collect();
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
        assert_eq!(stamps[3], 9 << 16);
        assert_eq!(stamps[4], (9 << 16) + 1);
    }

    #[test]
    fn a_stamp_within_the_drift_limit_moves_the_clock_and_one_beyond_does_not() {
        let mut clock = HybridClock::new();
        clock.observe(1_000, (1_000 + DRIFT_MS_MAX + 1) << 16);
        assert_eq!(clock.tick(1_000), 1_000 << 16);
        clock.observe(1_000, (1_000 + DRIFT_MS_MAX) << 16);
        assert_eq!(clock.tick(1_000), ((1_000 + DRIFT_MS_MAX) << 16) + 1);
    }
}
