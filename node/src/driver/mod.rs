//! The only loop, and the only place that performs an engine's outputs.
//!
//! Not here: what to replicate when (`engine`), how bytes reach disk (`store`) or peers (`transport`), who is where
//! (`membership`). Clocks and randomness are read here and handed to engine,
//! sessions and triggers.
//!
//! Contract: every input goes to the engine under one lock, and its outputs are performed, in order and without
//! waiting, before that lock is released. So a caller's update, a peer's frame and a timer never see each other
//! half-way, and an embedded caller reads and writes without a task switch.
//!
//! Threads of a node: the store's writer ([`writer`]), which also opens and ends the node; one for each snapshot while it is
//! written ([`image`]); the timer; the network's own.
//! Each hands its events to [`shared::Shared::step`]. None of it needs the caller's async runtime.

// What the engine hands out as one record the log takes as one.
const _: () = assert!(
    crate::engine::limits::RECORD_BYTES_MAX + 64 < crate::store::limits::RECORD_BYTES_MAX,
    "a piece of a record fits the log"
);

mod advertise;
mod calls;
mod cell;
pub(crate) mod clock;
mod created;
mod epochs;
mod functions;
mod image;
mod loading;
mod network;
mod outgoing;
mod peers;
mod queue;
mod quic;
mod refusals;
mod remembered;
mod route;
mod served;
mod shared;
mod sizes;
pub(crate) mod spans;
mod start;
mod status;
mod streams;
#[cfg(test)]
mod tests;
mod timer;
mod triggers;
mod watchers;
mod workers;
mod writer;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

#[cfg(feature = "sidecar")]
pub(crate) use functions::Expected;
pub use functions::MethodStatus;
pub(crate) use shared::Shared;
/// Set when the entity it stands for changes.
pub(crate) type Mark = tokio::sync::watch::Receiver<()>;
pub(crate) use start::{Config, start};
pub use status::{DiskState, MemberHint, MemberStatus};

/// Owns a running node; dropping it orders the stop without waiting for it.
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// For those who look on without keeping the node alive.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop(None);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.about.fmt(f)
    }
}
