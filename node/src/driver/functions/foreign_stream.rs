//! Streams of functions in other processes: those that a function answers as a stream, and what a command of an entity answers
//! whenever the entity has changed.
//!
//! Contract: a stream of an entity changes nothing after its first answer: it is asked again for what others did.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anabranch_crdt::NodeId;
use tracing::Instrument;

use super::caller::HostCaller;
use super::followed::Followed;
use super::stream::{Open, stopped};
use crate::driver::shared::Shared;
use crate::driver::spans::{self, part};
use crate::engine::Time;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::{Error, ErrorKind};
use crate::function::{BoxFuture, Caller, Ended, Foreign, Pipe, Streaming};
use crate::payload::{Encoding, Payload};
use crate::session::{Call, Command, Input, counts_votes};
use crate::wire::{EntityId, Token};

/// So long who follows an entity waits for its function to be back.
const BACK_MS_MAX: u64 = 60_000;
/// One that is there and is not to be had is asked again after so long.
const BACK_EVERY: Duration = Duration::from_millis(100);

impl Shared {
    /// Opens a stream of a function in another process.
    pub(super) async fn stream_foreign(
        self: &Arc<Self>,
        function: Arc<dyn Foreign>,
        call: Call,
        after: Token,
        timeout_ms: u64,
    ) -> Result<Streaming, Error> {
        call.check()?;
        if !function.is_streamed(&call.method) {
            let message = format!("nothing changed: {call} is answered once: call it");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if !after.is_empty() {
            self.await_seen(&call.entity, &after, timeout_ms).await?;
        }
        let wants = call.payload.encoding;
        let mut call = function.take(call)?;
        let (span, trace) = part!("stream", "internal", call.origin.trace, call.entity, call.method);
        call.origin.trace = trace;
        let shared = Arc::clone(self);
        let mut open = Open::new(self, function.kind(), call.method.clone());
        Streaming::new(wants, |pipe| {
            let running: BoxFuture<'static, Ended> = match (function.is_stateless(), function.goes_on()) {
                (true, _) => Box::pin(shared.answer_stream(function, call, after, pipe, wants)),
                (false, true) => Box::pin(shared.attend_foreign(function, call, after, pipe, wants)),
                (false, false) => Box::pin(shared.follow_foreign(function, call, after, pipe, wants)),
            };
            Ok(Box::pin(async move {
                let ended = running.instrument(span.clone()).await;
                open.end(&ended.0);
                spans::end(&span, &ended.0);
                ended
            }))
        })
    }

    async fn answer_stream(
        self: Arc<Self>,
        function: Arc<dyn Foreign>,
        call: Call,
        after: Token,
        pipe: Pipe,
        wants: Encoding,
    ) -> Ended {
        let caller = Arc::new(HostCaller::new(&self, None, after));
        let command = Command {
            method: call.method,
            payload: call.payload,
            deadline: Time(u64::MAX),
            origin: call.origin,
        };
        let calls = Arc::clone(&caller) as Arc<dyn Caller>;
        let result = tokio::select! {
            result = function.stream(command, wants, pipe, calls) => result,
            _ = self.stopped() => Err(stopped()),
        };
        (result, caller.seen())
    }

    async fn follow_foreign(
        self: Arc<Self>,
        function: Arc<dyn Foreign>,
        call: Call,
        after: Token,
        pipe: Pipe,
        wants: Encoding,
    ) -> Ended {
        let mut token = after;
        let result = self.follow(&function, &call, &mut token, pipe, wants).await;
        (result, token)
    }

    /// Asks anew whenever the entity has changed, or, of one with votes, who is up.
    async fn follow(
        self: &Arc<Self>,
        function: &Arc<dyn Foreign>,
        call: &Call,
        token: &mut Token,
        mut pipe: Pipe,
        wants: Encoding,
    ) -> Result<(), Error> {
        let mut followed = Followed::new(self, &call.entity).ok_or_else(stopped)?;
        let (mut live, mut up) = (self.watch_live(), self.up());
        let mut last: Option<Payload> = None;
        loop {
            let asking = self.ask_until_there(function, call, token, &mut followed, last.is_some());
            let (function, reply, changed) = asking.await?;
            if changed && last.is_some() {
                let text = format!("{call} is asked again for each change, and made one: let it only look");
                return Err(function.blame(&call.method, "change", &text));
            }
            if last.as_ref() != Some(&reply) {
                let shown = function.give(&call.method, wants, reply.clone())?;
                last = Some(reply);
                if pipe.reply(shown).await.is_err() {
                    return Ok(());
                }
            }
            loop {
                tokio::select! {
                    changed = followed.changed() => {
                        changed?;
                        break;
                    }
                    Ok(()) = live.changed() => {
                        let were = std::mem::replace(&mut up, self.up());
                        if up != were && self.counts_votes(&*function, &call.entity) {
                            // Before it is asked: nobody else need have told it by now.
                            self.tell_foreign(&call.entity, Input::Recount, None);
                            break;
                        }
                    }
                    _ = self.stopped() => return Err(stopped()),
                }
            }
        }
    }

    /// The other nodes that are up.
    fn up(&self) -> BTreeSet<NodeId> {
        let live = self.network().live();
        live.into_iter().map(|replica| replica.node).collect()
    }

    /// Whether what its function is shown of an entity says how many are up.
    fn counts_votes(&self, function: &dyn Foreign, entity: &EntityId) -> bool {
        let is = || self.peek(|engine| engine.view_as_it_is(entity).ty());
        function.ty().or_else(is).is_some_and(counts_votes)
    }

    /// Asks in turn. Who has asked before waits for the function to be back where it is away, and asks that.
    async fn ask_until_there(
        self: &Arc<Self>,
        first: &Arc<dyn Foreign>,
        call: &Call,
        token: &mut Token,
        followed: &mut Followed,
        waits: bool,
    ) -> Result<(Arc<dyn Foreign>, Payload, bool), Error> {
        let until = self.clock.time().after_ms(BACK_MS_MAX);
        let mut served = self.functions.foreign.served.subscribe();
        loop {
            served.borrow_and_update();
            let waits = waits && self.clock.time() < until;
            // It may be another process by now, and what it serves another thing.
            let there = self.functions.foreign.of(call.entity.kind());
            let there = there.filter(|function| function.is_streamed(&call.method));
            let mut pause = Duration::from_millis(self.clock.time().ms_until(until));
            if there.is_some() || !waits {
                pause = pause.min(BACK_EVERY);
                let function = there.unwrap_or_else(|| Arc::clone(first));
                let turn = followed.turn().await?;
                let asked = self.ask_again(&function, call, token).await;
                drop(turn);
                match asked {
                    Err(error) if waits && is_away(&error) => {}
                    asked => return asked.map(|(reply, changed)| (function, reply, changed)),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = served.changed() => {}
                _ = self.stopped() => return Err(stopped()),
            }
        }
    }

    async fn ask_again(
        self: &Arc<Self>,
        function: &Arc<dyn Foreign>,
        call: &Call,
        token: &mut Token,
    ) -> Result<(Payload, bool), Error> {
        let deadline = self.clock.time().after_ms(TIMEOUT_MS_DEFAULT);
        let calling = self.call_foreign(Arc::clone(function), call.clone(), Some(token), deadline);
        let (action, changed) = calling.await?;
        let left_ms = self.clock.time().ms_until(deadline);
        Ok((self.reply_of(action, token, left_ms).await?, changed))
    }
}

/// Whether a function that only looks may be asked again after this, once it is there.
fn is_away(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unreachable | ErrorKind::Lost | ErrorKind::Overloaded
    )
}
