//! What calls functions besides callers: schedules, and changes of entities.
//!
//! From below: what is ordered (`order`, `cron`) and kept of it (`function`, `kept`), which schedules are due (`planner`) and which
//! changes nobody was told of (`changes`), both together at a node ([`Runner`]), and what becomes of one of them ([`Errand`]).
//!
//! Not here: who makes the calls, and when it looks (`driver::triggers`; in the simulator, its world).
//!
//! Contract: at least once. Whoever is responsible for a schedule or a change is found without asking anybody, from who is
//! believed to be there, so two nodes may be for a while; each call bears a name by which its function can tell that it was
//! called before.

mod changes;
mod cron;
mod errand;
mod function;
mod kept;
mod news;
mod order;
mod planner;
mod runner;
#[cfg(test)]
mod tests;

#[cfg(feature = "quic")]
pub(crate) use crate::function::OWN_KINDS;
#[cfg(feature = "daemon")]
pub(crate) use cron::utc;
pub use cron::{Cron, CronError};
pub use errand::{Ended, Errand, Home, Next, state_of};
pub use function::{SCHEDULE, Shown, schedules};
pub use kept::{KEPT, check_kinds};
pub use news::{Interest, News};
pub use order::{ARGUMENT_BYTES_MAX, EVERY_MS_MIN, Json, Missed, Order, OrderError, When};
#[cfg(test)]
pub(crate) use order::{Plan, Schedule, Slot};
pub use runner::{Moment, Runner, Work};

/// A call that was not answered is made again after so long, then twice that, and so on.
const AGAIN_MS_MIN: u64 = 1_000;
/// And after no longer than this.
const AGAIN_MS_MAX: u64 = 60_000;

/// How long until the next try, after the pause before the last one; 0 for none.
fn again_ms(pause_ms: u64) -> u64 {
    (2 * pause_ms).clamp(AGAIN_MS_MIN, AGAIN_MS_MAX)
}
