//! The machine's two clocks as the driver reads them, for the engine, sessions and triggers, which are told the time.
//!
//! `transport` and `membership` read clocks of their own: for certificates, hellos and gossip.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::{Now, Time};
use crate::terms::millis;

/// Monotonic time since this clock was made, and the wall clock beside it.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    /// The wall clock as last read, and in which millisecond of the monotonic one.
    wall_ms: AtomicU64,
    read_at_ms: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock {
            origin: instant(),
            wall_ms: AtomicU64::new(0),
            read_at_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// The monotonic one alone: it costs half.
    pub(super) fn time(&self) -> Time {
        let elapsed = instant().saturating_duration_since(self.origin);
        Time(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// Both clocks now. Read it while holding the engine, so that the engine's time never goes back.
    pub(super) fn now(&self) -> Now {
        let time = self.time();
        let wall_ms = self.wall_ms_at(time);
        Now { time, wall_ms }
    }

    /// The wall clock at such a moment that was just read. It is read once a millisecond: it says no more than that, and reading
    /// it costs as much as the other.
    pub(super) fn wall_ms_at(&self, time: Time) -> u64 {
        let at_ms = time.0 / 1_000;
        if self.read_at_ms.load(Ordering::Acquire) == at_ms {
            return self.wall_ms.load(Ordering::Relaxed);
        }
        let wall_ms = wall_ms();
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
        self.read_at_ms.store(at_ms, Ordering::Release);
        wall_ms
    }
}

/// How long from one moment to another; nothing if that one has passed.
pub(super) fn until(now: Time, at: Time) -> Duration {
    Duration::from_micros(at.0.saturating_sub(now.0))
}

/// Milliseconds since 1970 by the wall clock; 0 before that.
#[allow(clippy::disallowed_methods, reason = "the driver is where clocks are read")]
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

#[allow(clippy::disallowed_methods, reason = "the driver is where clocks are read")]
fn instant() -> Instant {
    Instant::now()
}
