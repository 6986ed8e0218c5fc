//! What goes on without whoever waits for it: what follows a change that is in is made although its caller has gone.
//!
//! Not here: the threads for it (`left_tasks`). Contract: it sees what whoever ordered it had seen, as it would have with its caller there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::later::note_failure;
use super::nothing;
use super::step::Step;
use crate::driver::cell::Outcome;
use crate::driver::shared::{Shared, broken, unanswered};
use crate::engine::Time;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::Error;
use crate::function::{BoxFuture, Function};
use crate::payload::Payload;
use crate::session::{Action, Call, CommandId, Effect, Input, forward_failed};
use crate::wire::{EntityId, Token};

/// What each number of a session takes.
const SEEN_BYTES: usize = 48;

/// How a call ended, and what its session has seen then, if it has one.
pub(super) type Called = (Result<Payload, Error>, Option<Token>);

/// A future that whoever waits for it moves; dropped before its end, it goes on without him. Nothing that it has begun
/// is broken off, so nothing is begun twice.
pub(super) struct GoesOn<T: 'static> {
    shared: Arc<Shared>,
    /// What the call in it takes.
    bytes: usize,
    /// None once it has ended.
    future: Option<BoxFuture<'static, T>>,
}

impl<T: 'static> GoesOn<T> {
    pub(super) fn new(shared: &Arc<Shared>, bytes: usize, future: BoxFuture<'static, T>) -> GoesOn<T> {
        GoesOn {
            shared: Arc::clone(shared),
            bytes,
            future: Some(future),
        }
    }

    /// The future, for whoever goes on with it himself.
    pub(super) fn take(mut self) -> Option<BoxFuture<'static, T>> {
        self.future.take()
    }
}

impl<T: 'static> Future for GoesOn<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<T> {
        // What panics does not go on.
        let Some(mut future) = self.future.take() else {
            unreachable!("nobody waits for what has ended");
        };
        let polled = future.as_mut().poll(task);
        if polled.is_pending() {
            self.future = Some(future);
        }
        polled
    }
}

impl<T: 'static> Drop for GoesOn<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let going_on = async move { drop(future.await) };
            do_left(
                &self.shared,
                "what follows a change",
                self.bytes,
                Box::pin(going_on),
            );
        }
    }
}

/// What a function in another process has answered, on its way to whoever waits. If nobody takes it, the call is made that it wants
/// made in its place and whose own change is in.
pub(super) struct Handed {
    shared: Arc<Shared>,
    ended: Option<Result<(Action, bool), Error>>,
    seen: Token,
}

impl Handed {
    pub(super) fn new(shared: &Arc<Shared>, ended: Result<(Action, bool), Error>, seen: Token) -> Handed {
        Handed {
            shared: Arc::clone(shared),
            ended: Some(ended),
            seen,
        }
    }

    /// The answer, and what its session has seen with it.
    pub(super) fn take(mut self) -> (Result<(Action, bool), Error>, Token) {
        let Some(ended) = self.ended.take() else {
            unreachable!("it is taken once, with all there is");
        };
        (ended, std::mem::take(&mut self.seen))
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(Ok((Action::Forward(call), true))) = self.ended.take() {
            leave_calls(&self.shared, std::mem::take(&mut self.seen), vec![call]);
        }
    }
}

/// Does this on threads that do such things. Whether it is done: not where the node has stopped, too much waits or no thread comes.
pub(super) fn do_left(shared: &Arc<Shared>, what: &str, bytes: usize, left: BoxFuture<'static, ()>) -> bool {
    !shared.has_stopped() && shared.functions.left.take(what, bytes, left)
}

/// Makes calls that nobody waits for, one after the other; see [`do_left`].
pub(super) fn leave_calls(shared: &Arc<Shared>, seen: Token, calls: Vec<Call>) {
    leave_effects(shared, seen, None, calls);
}

/// The same behind one that is being made.
pub(super) fn leave_effects(
    shared: &Arc<Shared>,
    mut seen: Token,
    making: Option<(String, GoesOn<Called>)>,
    rest: Vec<Call>,
) {
    if making.is_none() && rest.is_empty() {
        return;
    }
    let making = making.and_then(|(name, making)| {
        let bytes = making.bytes;
        Some((name, bytes, making.take()?))
    });
    let bytes = making.as_ref().map_or(0, |(_, bytes, _)| *bytes) + bytes_of(&rest) + bytes_of_seen(&seen);
    let at = Arc::clone(shared);
    let left = async move {
        if let Some((name, _, making)) = making {
            let (done, with) = making.await;
            note_failure(&name, done);
            if let Some(with) = with {
                seen.join(&with);
            }
        }
        make_left(&at, &mut seen, rest).await;
    };
    do_left(shared, "calls that nobody waits for", bytes, Box::pin(left));
}

/// A command whose caller has gone before what it did is where its level says.
pub(super) struct Unconfirmed {
    pub function: Arc<Function>,
    pub entity: EntityId,
    pub id: CommandId,
    pub answer: oneshot::Receiver<Outcome>,
    /// What its session has seen.
    pub seen: Token,
    /// What follows takes.
    pub bytes: usize,
}

impl Unconfirmed {
    /// Makes the calls that follow once it is where its level says, and not if it does not come to that. Whether that is done.
    pub(super) fn leave(self, shared: &Arc<Shared>) -> bool {
        let (at, bytes) = (Arc::clone(shared), self.bytes + bytes_of_seen(&self.seen));
        let left = async move {
            let Unconfirmed {
                function,
                entity,
                id,
                answer,
                mut seen,
                ..
            } = self;
            let tell = |input| at.tell_session(&function, &entity, input, Some(id), nothing);
            let outcome = answer.await.unwrap_or_else(|_| Err(unanswered(&Err(broken()))));
            let result = outcome.map(|answer| seen.join(&answer.token));
            let mut step = tell(Input::Committed { id, result });
            if let Some(Step::Effects { effects, answer, .. }) = step {
                let calls = effects.into_iter().map(|effect| effect.call).collect();
                make_left(&at, &mut seen, calls).await;
                step = match answer {
                    Some(result) => Some(Step::Answer(result)),
                    None => tell(Input::EffectsDone { id }),
                };
            }
            make_left(&at, &mut seen, forward_of(step).into_iter().collect()).await;
            tell(Input::Cancelled { id });
        };
        do_left(shared, "what follows a change", bytes, Box::pin(left))
    }
}

/// Makes calls, one after the other. Each sees what those before it have seen.
async fn make_left(shared: &Arc<Shared>, seen: &mut Token, calls: Vec<Call>) {
    for call in calls {
        let name = call.to_string();
        let _place = shared.functions.left.place().await;
        let calling = shared.call_within(None, call, Some(seen), TIMEOUT_MS_DEFAULT);
        note_failure(&name, calling.await);
    }
}

/// What is called to answer in its place.
pub(super) fn forward_of(step: Option<Step>) -> Option<Call> {
    match step {
        Some(Step::Answer(Ok(Action::Forward(call)))) => Some(call),
        _ => None,
    }
}

/// What calls take while they wait.
fn bytes_of<'a>(calls: impl IntoIterator<Item = &'a Call>) -> usize {
    calls.into_iter().map(bytes_of_call).sum()
}

pub(super) fn bytes_of_call(call: &Call) -> usize {
    let entity = call.entity.kind().len() + call.entity.key().len();
    size_of::<Call>() + entity + call.method.len() + call.payload.bytes.len()
}

fn bytes_of_seen(seen: &Token) -> usize {
    seen.iter().count() * SEEN_BYTES
}

/// What the calls take that follow a command's change, if any do.
pub(super) fn bytes_that_follow(effects: &[Effect], action: &Action) -> Option<usize> {
    let forward = match action {
        Action::Forward(call) => Some(call),
        _ => None,
    };
    let has_calls = forward.is_some() || !effects.is_empty();
    let calls = effects.iter().map(|effect| &effect.call).chain(forward);
    has_calls.then(|| bytes_of(calls))
}

impl Shared {
    /// What a function made another's answer, behind a change that is in.
    pub(super) async fn call_forwarded(
        self: &Arc<Self>,
        call: Call,
        session: Option<&mut Token>,
        deadline: Time,
    ) -> Result<Payload, Error> {
        let seen = session.as_deref().cloned();
        let bytes = bytes_of_call(&call);
        let calling = forwarded(Arc::clone(self), call, seen, deadline);
        let (reply, token) = GoesOn::new(self, bytes, calling).await;
        if let (Some(session), Some(token)) = (session, token) {
            *session = token;
        }
        reply
    }

    /// What answers in a command's place and is not here in Rust, wherever it is; `changed` where a change before it is in.
    pub(super) async fn call_beyond(
        self: &Arc<Self>,
        call: Call,
        session: Option<&mut Token>,
        deadline: Time,
        changed: bool,
    ) -> Result<Payload, Error> {
        let (to, left_ms) = (call.entity.clone(), self.clock.time().ms_until(deadline));
        let asked = self.call_within(None, call, session, left_ms).await;
        asked.map_err(|error| match changed {
            true => forward_failed(&to, &error),
            false => error,
        })
    }
}

/// A call within a call: its future would contain itself.
fn forwarded(
    shared: Arc<Shared>,
    call: Call,
    mut seen: Option<Token>,
    deadline: Time,
) -> BoxFuture<'static, Called> {
    Box::pin(async move {
        let reply = match shared.functions.find(call.entity.kind(), &call.method) {
            found @ Some(_) => {
                let calling = shared.call_chain(found, call, seen.as_mut(), deadline, true);
                calling.await
            }
            None => shared.call_beyond(call, seen.as_mut(), deadline, true).await,
        };
        (reply, seen)
    })
}
