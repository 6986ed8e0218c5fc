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
/// Kinds that begin so are Anabranch's own.
#[cfg(feature = "quic")]
pub(crate) const OWN_KINDS: &str = "anabranch:";

#[cfg(feature = "quic")]
pub(crate) use function::read;
pub use function::{SCHEDULE, Shown, schedules};
pub use order::{ARGUMENT_BYTES_MAX, EVERY_MS_MIN, Json, Missed, Order, OrderError, When};
#[cfg(feature = "quic")]
pub(crate) use planner::{Fire, Planner, responsible};
