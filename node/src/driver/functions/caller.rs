//! Makes a function's calls.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_crdt::NodeId;

use crate::driver::shared::Shared;
use crate::engine::Time;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::Error;
use crate::function::{BoxFuture, Caller, Streaming};
use crate::payload::Payload;
use crate::session::Call;
use crate::wire::Token;

/// Makes a function's calls within its own caller's time, and keeps what it has seen by them.
pub(super) struct HostCaller {
    shared: Arc<Shared>,
    /// When its own caller gives up, if it does.
    deadline: Option<Time>,
    seen: Mutex<Token>,
}

impl HostCaller {
    pub(super) fn new(shared: &Arc<Shared>, deadline: Option<Time>, seen: Token) -> HostCaller {
        HostCaller {
            shared: Arc::clone(shared),
            deadline,
            seen: Mutex::new(seen),
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
            let mut token = self.seen();
            let (seen, left_ms) = (Some(&mut token), self.left_ms());
            let reply = match on {
                Some(on) => self.shared.call_on(on, call, seen, left_ms).await,
                None => self.shared.call_anywhere(call, seen, left_ms).await,
            };
            self.seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .join(&token);
            reply
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
