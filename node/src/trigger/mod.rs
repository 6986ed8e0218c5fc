//! What calls functions besides callers: schedules, and changes of entities.
//!
//! Not here: who makes the calls, and when it looks (`driver::triggers`).
//!
//! Contract: at least once. Whoever is responsible for a schedule or a change is found without asking anybody, from who is
//! believed to be there, so two nodes may be for a while; each call bears a name by which its function can tell that it was
//! called before.

#[cfg(feature = "quic")]
mod changes;
mod cron;
mod function;
mod order;
#[cfg(feature = "quic")]
mod planner;
#[cfg(all(test, feature = "quic"))]
mod tests;

#[cfg(feature = "quic")]
pub(crate) use changes::{Changes, Place, Telling, Trigger};
#[cfg(feature = "daemon")]
pub(crate) use cron::utc;
pub use cron::{Cron, CronError};
/// A call that was not answered is made again after so long, then twice that, and so on.
#[cfg(feature = "quic")]
const AGAIN_MS_MIN: u64 = 1_000;
/// And after no longer than this.
#[cfg(feature = "quic")]
const AGAIN_MS_MAX: u64 = 60_000;

/// How long until the next try, after the pause before the last one; 0 for none.
#[cfg(feature = "quic")]
fn again_ms(pause_ms: u64) -> u64 {
    (2 * pause_ms).clamp(AGAIN_MS_MIN, AGAIN_MS_MAX)
}

/// Kinds that begin so are Anabranch's own.
#[cfg(feature = "quic")]
pub(crate) const OWN_KINDS: &str = "anabranch:";

#[cfg(feature = "quic")]
pub(crate) use function::read;
pub use function::{SCHEDULE, Shown, schedules};
pub use order::{ARGUMENT_BYTES_MAX, EVERY_MS_MIN, Json, Missed, Order, OrderError, When};
#[cfg(feature = "quic")]
pub(crate) use planner::{Fire, Planner, responsible};
