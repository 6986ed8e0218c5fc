//! Makes a function's calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_crdt::NodeId;

use super::aside::aside;
use super::later::{Later, note_failure};
use crate::driver::shared::Shared;
use crate::engine::Time;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::{Error, ErrorKind};
use crate::function::{BoxFuture, Caller, Streaming};
use crate::payload::Payload;
use crate::session::{Call, Effect};
use crate::wire::Token;

/// Of calls within calls, every so many-th goes on with a stack of its own: each takes stack while the one within it runs.
const STACK_CALLS_MAX: u8 = 8;

/// Whether a call of this depth does.
fn has_own_stack(depth: u8) -> bool {
    depth > 0 && depth.is_multiple_of(STACK_CALLS_MAX)
}

/// Makes a function's calls within its own caller's time, and keeps what it has seen by them.
pub(super) struct HostCaller {
    shared: Arc<Shared>,
    /// When its own caller gives up, if it does.
    deadline: Option<Time>,
    seen: Mutex<Token>,
    /// A call of it was refused as this node, or another, stops.
    was_stopped: AtomicBool,
    later: Later,
}

impl HostCaller {
    /// Whether a call of it was refused as a node stops.
    pub(super) fn was_stopped(&self) -> bool {
        self.was_stopped.load(Ordering::Relaxed)
    }

    pub(super) fn new(shared: &Arc<Shared>, deadline: Option<Time>, seen: Token) -> HostCaller {
        HostCaller {
            shared: Arc::clone(shared),
            deadline,
            seen: Mutex::new(seen),
            was_stopped: AtomicBool::default(),
            later: Later::default(),
        }
    }

    pub(super) fn seen(&self) -> Token {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn left_ms(&self) -> u64 {
        let left_ms = |deadline| self.shared.clock.time().ms_until(deadline);
        self.deadline.map_or(TIMEOUT_MS_DEFAULT, left_ms)
    }
}

impl Caller for HostCaller {
    fn peers(&self) -> Vec<NodeId> {
        self.shared.peek(|engine| engine.linked().collect())
    }

    fn call(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Payload, Error>> {
        Box::pin(async move {
            let (left_ms, mut token) = (self.left_ms(), self.seen());
            let calling = self.shared.call_within(on, call, Some(&mut token), left_ms);
            let reply = calling.await;
            self.seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .join(&token);
            if matches!(&reply, Err(error) if error.kind() == ErrorKind::Stopping) {
                self.was_stopped.store(true, Ordering::Relaxed);
            }
            reply
        })
    }

    fn make(&self, effects: Vec<Effect>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for call in self.later.leave(&self.shared, effects).await {
                let name = call.to_string();
                note_failure(&name, self.call(None, call).await);
            }
        })
    }

    fn open(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Streaming, Error>> {
        let (seen, left_ms) = (self.seen(), self.left_ms());
        match on {
            Some(on) => Box::pin(self.shared.open_on(on, call, seen, left_ms)),
            None => Box::pin(self.shared.open_anywhere(call, seen, left_ms)),
        }
    }
}

impl Shared {
    /// A call within a call, at a node or wherever its function is. Its future would contain itself.
    pub(super) fn call_within<'a>(
        self: &'a Arc<Self>,
        on: Option<NodeId>,
        call: Call,
        session: Option<&'a mut Token>,
        left_ms: u64,
    ) -> BoxFuture<'a, Result<Payload, Error>> {
        Box::pin(async move {
            if !has_own_stack(call.origin.depth) {
                return self.call_to(on, call, session, left_ms).await;
            }
            let (shared, mut seen) = (Arc::clone(self), session.as_deref().cloned().unwrap_or_default());
            let calling = async move {
                let reply = shared.call_to(on, call, Some(&mut seen), left_ms).await;
                (reply, seen)
            };
            let ended = aside(self, Box::pin(calling)).await;
            let (reply, seen) = ended.unwrap_or_else(|| (Err(cut_off()), Token::default()));
            if let Some(session) = session {
                session.join(&seen);
            }
            reply
        })
    }

    async fn call_to(
        self: &Arc<Self>,
        on: Option<NodeId>,
        call: Call,
        session: Option<&mut Token>,
        left_ms: u64,
    ) -> Result<Payload, Error> {
        match on {
            Some(on) => self.call_on(on, call, session, left_ms).await,
            None => self.call_anywhere(call, session, left_ms).await,
        }
    }
}

fn cut_off() -> Error {
    Error::new(
        ErrorKind::Unanswered,
        "there was no thread for the call, or it panicked; whether the function ran is not known",
    )
}
