//! Queries: methods that only look at their entity, and are answered at once, whoever else is at it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Found;
use crate::driver::shared::Shared;
use crate::engine::Time;
use crate::error::Error;
use crate::payload::Payload;
use crate::session::{Call, Command, CommandId, check_reply};
use crate::wire::{EntityId, Token};

#[cfg(test)]
impl super::Functions {
    /// What a method of a function that is here took lately is forgotten.
    pub(in crate::driver) fn count_as_quick(&self, kind: &str, method: &str) {
        if let Some(found) = self.find(kind, method) {
            found.stats.count_as_quick();
        }
    }
}

impl Found<'_> {
    /// Whether it has taken next to no time lately.
    pub(in crate::driver) fn is_quick(&self) -> bool {
        self.stats.is_quick()
    }

    /// The same, for whoever now looks at once: until it has ended it does not count as quick.
    pub(in crate::driver) fn begin_quickly(&self) -> bool {
        self.stats.begin_quickly()
    }

    /// Whether a call of it waits for nothing: it only looks, by what is here.
    pub(in crate::driver) fn is_at_once(&self, call: &Call, session: Option<&Token>) -> bool {
        self.method.is_query() && self.is_plain(call, session)
    }

    /// Whether a call of it waits for nobody before it runs, nor its function while it does. What is part of a trace is kept track
    /// of.
    pub(in crate::driver) fn is_plain(&self, call: &Call, session: Option<&Token>) -> bool {
        let waits = session.is_some_and(|token| !token.is_empty());
        let is_alone = self.method.is_query() || !self.method.is_async();
        is_alone && !self.method.is_stream() && !waits && call.origin.trace.is_none()
    }
}

impl Shared {
    /// What a query answers that waits for nothing: no future is made for it.
    pub(in crate::driver) fn look_at_once(
        self: &Arc<Self>,
        found: Found<'_>,
        call: Call,
        session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Payload, Error> {
        let fits = call.check();
        let now = self.clock.time();
        let command = Command {
            method: call.method,
            payload: call.payload,
            deadline: now.after_ms(timeout_ms),
            origin: call.origin,
        };
        let reply = fits.and_then(|()| self.look(found, &call.entity, &command, session, now));
        let ended = self.clock.time();
        found.stats.note(now, ended, reply.is_err());
        found.stats.note_look(now, ended);
        reply
    }

    /// What a query answers now. Its caller's session, if it has one, has seen what it goes by.
    pub(super) fn look(
        self: &Arc<Self>,
        Found { function, method, .. }: Found<'_>,
        entity: &EntityId,
        command: &Command,
        session: Option<&mut Token>,
        now: Time,
    ) -> Result<Payload, Error> {
        let view = self.peek(|engine| {
            if let Some(token) = session {
                *token = engine.token(token, [entity]);
            }
            engine.view(entity, function.ty())
        });
        let id = CommandId(self.functions.next.fetch_add(1, Ordering::Relaxed));
        let reply = function.look(method, command, view?, self.context_at(entity, id, now))?;
        check_reply(&reply)?;
        Ok(reply)
    }
}
