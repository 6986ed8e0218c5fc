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
#[derive(Debug, Default)]
pub(crate) struct PeerClock {
    /// How far it seemed ahead since its link came up, the latest last, milliseconds.
    ahead_ms: VecDeque<i64>,
    /// Whether it was off when that was known last, over an earlier link, too.
    was_off: bool,
}

impl PeerClock {
    /// Its link is up, and it shows this when ours shows that. How far it is off, where that is news.
    pub fn starts(&mut self, theirs: u64, ours: u64) -> Option<i64> {
        self.ahead_ms.clear();
        self.says(theirs, ours)
    }

    /// It says again what it shows. How far it is off, where that is news.
    pub fn says(&mut self, theirs: u64, ours: u64) -> Option<i64> {
        if self.ahead_ms.len() >= CLOCK_SAMPLES {
            self.ahead_ms.pop_front();
        }
        self.ahead_ms.push_back(ahead_ms(theirs, ours));
        let known = self.known_ms()?;
        let was_off = std::mem::replace(&mut self.was_off, is_off(known));
        (is_off(known) && !was_off).then_some(known)
    }

    /// Whether it is known to be too far ahead.
    pub fn is_ahead(&self) -> bool {
        self.known_ms().is_some_and(|ms| ms > 0 && is_off(ms))
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
        let mut clock = PeerClock::default();
        assert_eq!(clock.starts(100_000, 123_000), None);
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
    fn a_clock_that_is_off_is_said_once_however_often_its_link_comes_up() {
        let mut clock = PeerClock::default();
        assert_eq!(clock.starts(105_000, 100_000), Some(5_000));
        assert_eq!(clock.starts(106_000, 101_000), None, "it was said");
        // What it seems to be behind may be how late it came: nothing is known anew.
        assert_eq!(clock.starts(100_000, 110_000), None);
        assert_eq!(clock.known_ms(), None);
        assert_eq!(clock.starts(116_000, 111_000), None, "it was said");
        assert_eq!(clock.starts(112_000, 112_000), None);
        assert_eq!(
            clock.starts(118_000, 113_000),
            Some(5_000),
            "it was right in between"
        );
    }

    #[test]
    fn a_clock_that_is_off_is_known_in_both_directions() {
        let mut clock = PeerClock::default();
        assert_eq!(clock.starts(100_000, 100_001), None);
        assert_eq!(clock.says(110_000, 105_000), Some(5_000));
        assert_eq!(clock.says(115_000, 110_000), None, "it was said");
        let mut clock = PeerClock::default();
        assert_eq!(clock.starts(100_000, 100_001), None);
        let said = (1..=CLOCK_SAMPLES as u64).map(|i| clock.says(95_000 + i, 100_000 + i));
        let said: Vec<Option<i64>> = said.collect();
        let (last, before) = said.split_last().unwrap();
        assert!(before.iter().all(Option::is_none), "{said:?}");
        assert_eq!(*last, Some(-5_000));
    }
}
