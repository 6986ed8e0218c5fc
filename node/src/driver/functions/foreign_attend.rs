//! Streams that functions in other processes answer by themselves, as their entities change.
//!
//! Contract: what a function does on such a stream is done whether or not its caller is still there; a caller who has gone, or is
//! too slow, is the end of it, and the function is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::later::Later;
use super::stream::stopped;
use crate::driver::shared::Shared;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::error::{Error, ErrorKind};
use crate::function::{Ended, Foreign, Pipe};
use crate::payload::{Encoding, Payload};
use crate::session::{Action, Call, Command, CommandId, Effect, Output};
use crate::wire::Token;

/// So many streams at a time at most.
const STREAMS_MAX: usize = 10_000;
/// So many parts of an answer may wait for its caller.
const PARTS_MAX: usize = 256;

/// Counts streams.
#[derive(Debug)]
pub(super) struct Attended(Arc<Semaphore>);

impl Default for Attended {
    fn default() -> Attended {
        Attended(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

impl Attended {
    /// One more, until that is dropped.
    fn one_more(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let message = format!(
                "nothing changed: {STREAMS_MAX} streams of entities go on at this node; retry later, or elsewhere"
            );
            Error::new(ErrorKind::Overloaded, message)
        })
    }
}

/// What follows for one command, for whoever sees to it. Beside parts of an answer it is a few things.
#[derive(Debug)]
pub(super) struct Follows {
    sender: mpsc::UnboundedSender<Output>,
    load: Arc<Load>,
}

/// How many parts of an answer wait to be passed on.
#[derive(Debug, Default)]
pub(super) struct Load {
    parts: AtomicUsize,
    is_over: AtomicBool,
}

impl Follows {
    pub(super) fn new() -> (Follows, mpsc::UnboundedReceiver<Output>, Arc<Load>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let load = Arc::<Load>::default();
        let follows = Follows {
            sender,
            load: Arc::clone(&load),
        };
        (follows, receiver, load)
    }

    /// Says it, but for a part too many. A command's task ends with its answer.
    pub(super) fn send(&self, output: Output) {
        if matches!(output, Output::Streamed { .. })
            && self.load.parts.fetch_add(1, Ordering::Relaxed) >= PARTS_MAX
        {
            self.load.is_over.store(true, Ordering::Relaxed);
            return;
        }
        let _ = self.sender.send(output);
    }
}

impl Load {
    /// One part was passed on; an error, if others were left out since.
    pub(super) fn passed(&self) -> Result<(), Error> {
        self.parts.fetch_sub(1, Ordering::Relaxed);
        match self.is_over.load(Ordering::Relaxed) {
            true => Err(too_slow()),
            false => Ok(()),
        }
    }
}

fn too_slow() -> Error {
    let message = format!("the stream has ended: {PARTS_MAX} messages of it wait to be passed on or taken");
    Error::new(ErrorKind::Overloaded, message)
}

/// Where parts of an answer go.
pub(super) type Parts = mpsc::Sender<Payload>;

/// Waits until nobody takes them; for ever, if nobody ever did.
pub(super) async fn left(parts: &Option<Parts>) {
    match parts {
        Some(parts) => parts.closed().await,
        None => std::future::pending().await,
    }
}

impl Shared {
    pub(super) async fn attend_foreign(
        self: Arc<Self>,
        function: Arc<dyn Foreign>,
        call: Call,
        after: Token,
        mut pipe: Pipe,
        wants: Encoding,
    ) -> Ended {
        let _one = match self.functions.foreign.attended.one_more() {
            Ok(one) => one,
            Err(error) => return (Err(error), after),
        };
        let Call {
            entity,
            method,
            payload,
            origin,
            ..
        } = call;
        let command = Command {
            method: method.clone(),
            payload,
            deadline: self.clock.time().after_ms(TIMEOUT_MS_DEFAULT),
            origin,
        };
        let id = CommandId(self.functions.next.fetch_add(1, Ordering::Relaxed));
        let (parts, mut heard) = mpsc::channel(PARTS_MAX);
        let (sender, ended) = oneshot::channel();
        let of = Arc::clone(&function);
        let running = Arc::clone(&self).run_foreign(of, entity, id, command, after.clone(), Some(parts));
        function.spawn(Box::pin(async move {
            // Its caller may have gone.
            let _ = sender.send(running.await);
        }));
        let attending = async {
            while let Some(part) = heard.recv().await {
                let shown = function.give(&method, wants, part)?;
                if pipe.reply(shown).await.is_err() {
                    return Ok(after.clone());
                }
            }
            let (result, mut token) = ended.await.map_err(|_| stopped())?;
            let last = self.reply_of(result?.0, &mut token, TIMEOUT_MS_DEFAULT).await?;
            // Where there were parts, or there was nothing for the caller, it is empty.
            if !last.bytes.is_empty() {
                let _ = pipe.reply(function.give(&method, wants, last)?).await;
            }
            Ok(token)
        };
        let attended = tokio::select! {
            attended = attending => attended,
            _ = self.stopped() => Err(stopped()),
        };
        match attended {
            Ok(token) => (Ok(()), token),
            Err(error) => (Err(error), after),
        }
    }

    /// Makes what a part of an answer wants called, and hands it to whoever takes it.
    pub(super) async fn pass_on(
        self: &Arc<Self>,
        parts: &Option<Parts>,
        later: &Later,
        action: Option<Action>,
        effects: Vec<Effect>,
        token: &mut Token,
    ) -> Result<(), Error> {
        let deadline = self.clock.time().after_ms(TIMEOUT_MS_DEFAULT);
        self.make_effects(later, effects, deadline, token).await;
        let payload = match action {
            None => None,
            Some(action) => Some(self.reply_of(action, token, TIMEOUT_MS_DEFAULT).await?),
        };
        // It has begun only now, and nobody takes it any more.
        let parts = parts.as_ref().ok_or_else(stopped)?;
        let Some(payload) = payload else { return Ok(()) };
        parts.try_send(payload).map_err(|_| too_slow())
    }
}
