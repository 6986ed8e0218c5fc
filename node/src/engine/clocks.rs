//! How far a peer's wall clock is from this node's, as far as that is known from what the peer says it shows.
//!
//! What a peer says takes its time to arrive, or to be read: a frame makes a clock look behind by as much as it was late, and never
//! ahead. So one frame proves that a clock is ahead, and no number of late ones that it is behind: of the latest few the one that
//! came fastest counts, and only once there are so many. A node whose clock is behind its peer's knows at once, and says so; the
//! peer follows when nothing has come in time for long.

use std::collections::VecDeque;

use crate::engine::limits::CLOCK_SKEW_MS_MAX;

/// As many frames in a row are not late by chance: they come with digests, seconds apart.
pub(crate) const CLOCK_SAMPLES: usize = 6;

/// See the module's front page.
#[derive(Debug)]
pub(crate) struct PeerClock {
    /// How far it seemed ahead, the latest last, milliseconds.
    ahead_ms: VecDeque<i64>,
}

impl PeerClock {
    /// A clock that showed this when ours showed that.
    pub fn new(theirs: u64, ours: u64) -> PeerClock {
        PeerClock {
            ahead_ms: VecDeque::from([ahead_ms(theirs, ours)]),
        }
    }

    /// It says again what it shows. How far it is off, where that is news.
    pub fn says(&mut self, theirs: u64, ours: u64) -> Option<i64> {
        let was_off = self.known_ms().is_some_and(is_off);
        if self.ahead_ms.len() >= CLOCK_SAMPLES {
            self.ahead_ms.pop_front();
        }
        self.ahead_ms.push_back(ahead_ms(theirs, ours));
        self.known_ms().filter(|ms| is_off(*ms) && !was_off)
    }

    /// How far it is ahead, at least; none while it seems far behind, and what it said may have been late.
    pub fn known_ms(&self) -> Option<i64> {
        let fastest = self.ahead_ms.iter().copied().max()?;
        let may_be_late = is_off(fastest) && fastest < 0 && self.ahead_ms.len() < CLOCK_SAMPLES;
        (!may_be_late).then_some(fastest)
    }
}

fn is_off(ms: i64) -> bool {
    ms.unsigned_abs() > CLOCK_SKEW_MS_MAX
}

fn ahead_ms(theirs: u64, ours: u64) -> i64 {
    i64::try_from(i128::from(theirs) - i128::from(ours)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_no_clock_that_is_behind() {
        let mut clock = PeerClock::new(100_000, 123_000);
        assert_eq!(clock.known_ms(), None);
        // Late ones between others, for ever.
        for i in 1..100_u64 {
            let ours = 123_000 + i * 5_000;
            let late = if i % (CLOCK_SAMPLES as u64 - 1) == 1 {
                3
            } else {
                20_000
            };
            assert_eq!(clock.says(ours - late, ours), None);
        }
        assert_eq!(clock.known_ms(), Some(-3));
    }

    #[test]
    fn a_clock_that_is_off_is_known_in_both_directions() {
        let mut clock = PeerClock::new(100_000, 100_001);
        assert_eq!(clock.says(110_000, 105_000), Some(5_000));
        assert_eq!(clock.says(115_000, 110_000), None, "it was said");
        let mut clock = PeerClock::new(100_000, 100_001);
        let said = (1..=CLOCK_SAMPLES as u64).map(|i| clock.says(95_000 + i, 100_000 + i));
        let said: Vec<Option<i64>> = said.collect();
        let (last, before) = said.split_last().unwrap();
        assert!(before.iter().all(Option::is_none), "{said:?}");
        assert_eq!(*last, Some(-5_000));
    }
}
