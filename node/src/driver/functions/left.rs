//! What goes on without whoever waits for it: what follows a change that is in is made although its caller has gone.
//!
//! Not here: the threads for it (`later`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::later::{do_left, leave_calls};
use crate::driver::quic::block_on;
use crate::driver::shared::Shared;
use crate::engine::Time;
use crate::error::Error;
use crate::function::BoxFuture;
use crate::payload::Payload;
use crate::session::{Action, Call, forward_failed};
use crate::wire::Token;

/// How a call ended, and what its session has seen then, if it has one.
pub(super) type Called = (Result<Payload, Error>, Option<Token>);

/// A future that whoever waits for it moves; dropped before its end, it goes on on a thread of its own. Nothing that it has begun
/// is broken off, so nothing is begun twice.
pub(super) struct GoesOn<T: 'static> {
    shared: Arc<Shared>,
    /// None once it has ended.
    future: Option<BoxFuture<'static, T>>,
}

impl<T: 'static> GoesOn<T> {
    pub(super) fn new(shared: &Arc<Shared>, future: BoxFuture<'static, T>) -> GoesOn<T> {
        GoesOn {
            shared: Arc::clone(shared),
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
            do_left(&self.shared, "what follows a change", move |_| {
                block_on(future);
            });
        }
    }
}

/// What a function in another process has answered, on its way to whoever waits. If nobody takes it, the call is made that it wants
/// made in its place and whose own change is in.
pub(super) struct Handed {
    shared: Arc<Shared>,
    ended: Option<Result<(Action, bool), Error>>,
}

impl Handed {
    pub(super) fn new(shared: &Arc<Shared>, ended: Result<(Action, bool), Error>) -> Handed {
        Handed {
            shared: Arc::clone(shared),
            ended: Some(ended),
        }
    }

    pub(super) fn take(mut self) -> Result<(Action, bool), Error> {
        let Some(ended) = self.ended.take() else {
            unreachable!("it is taken once, with all there is");
        };
        ended
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(Ok((Action::Forward(call), true))) = self.ended.take() {
            leave_calls(&self.shared, vec![call]);
        }
    }
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
        let calling = forwarded(Arc::clone(self), call, seen, deadline);
        let (reply, token) = GoesOn::new(self, calling).await;
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
