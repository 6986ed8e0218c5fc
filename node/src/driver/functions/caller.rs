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
pub(super) fn has_own_stack(depth: u8) -> bool {
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
            let left_ms = self.left_ms();
            let has_own_stack = has_own_stack(call.origin.depth);
            let calling = call_from(Arc::clone(&self.shared), on, call, self.seen(), left_ms);
            let (reply, token) = if has_own_stack {
                on_own_stack(&self.shared, Box::pin(calling)).await
            } else {
                calling.await
            };
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
    /// A call within a call, wherever its function is: its future would contain itself.
    pub(super) fn call_within<'a>(
        self: &'a Arc<Self>,
        call: Call,
        session: Option<&'a mut Token>,
        left_ms: u64,
    ) -> BoxFuture<'a, Result<Payload, Error>> {
        Box::pin(async move {
            if !has_own_stack(call.origin.depth) {
                return self.call_anywhere(call, session, left_ms).await;
            }
            let seen = session.as_deref().cloned().unwrap_or_default();
            let calling = call_from(Arc::clone(self), None, call, seen, left_ms);
            let (reply, token) = on_own_stack(self, Box::pin(calling)).await;
            if let Some(session) = session {
                session.join(&token);
            }
            reply
        })
    }
}

async fn on_own_stack(
    shared: &Shared,
    calling: BoxFuture<'static, (Result<Payload, Error>, Token)>,
) -> (Result<Payload, Error>, Token) {
    let ended = aside(shared, calling).await;
    ended.unwrap_or_else(|| (Err(cut_off()), Token::default()))
}

async fn call_from(
    shared: Arc<Shared>,
    on: Option<NodeId>,
    call: Call,
    mut token: Token,
    left_ms: u64,
) -> (Result<Payload, Error>, Token) {
    let seen = Some(&mut token);
    let reply = match on {
        Some(on) => shared.call_on(on, call, seen, left_ms).await,
        None => shared.call_anywhere(call, seen, left_ms).await,
    };
    (reply, token)
}

fn cut_off() -> Error {
    Error::new(
        ErrorKind::Unanswered,
        "there was no thread for the call, or it panicked; whether the function ran is not known",
    )
}
