//! Streaming calls of functions at this node.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_crdt::NodeId;
use tracing::Instrument;

use super::aside::aside;
use super::caller::HostCaller;
use super::left::leave_calls;
use crate::driver::Mark;
use crate::driver::shared::Shared;
use crate::driver::spans::{self, part};
use crate::engine::Time;
use crate::error::{Error, ErrorKind};
use crate::function::{AT_END_MAX, BoxFuture, Caller, Ended, Function, Host, Streaming};
use crate::payload::Payload;
use crate::session::{Call, Command, CommandId, Origin};
use crate::view::View;
use crate::wire::{EntityId, Token};

impl Shared {
    /// Opens a stream of an entity's function here, which runs on whatever thread waits for it. It begins once what its caller's
    /// session has seen is here.
    pub(crate) async fn open(
        self: &Arc<Self>,
        call: Call,
        after: Token,
        timeout_ms: u64,
    ) -> Result<Streaming, Error> {
        if let Some(foreign) = self.functions.foreign_for(&call) {
            return self.stream_foreign(foreign, call, after, timeout_ms).await;
        }
        let function = Arc::clone(self.functions.of(&call)?);
        call.check()?;
        if !after.is_empty() {
            self.await_seen(&call.entity, &after, timeout_ms).await?;
        }
        let id = CommandId(self.functions.next.fetch_add(1, Ordering::Relaxed));
        let context = self.context(&call.entity, id);
        let host = Arc::new(StreamHost::new(self, &function, &call.entity, after));
        let command = Command {
            method: call.method,
            payload: call.payload,
            deadline: Time(u64::MAX),
            origin: call.origin,
        };
        let method = command.method.clone();
        let (span, trace) = part!("stream", "internal", command.origin.trace, host.entity, method);
        let origin = Origin {
            trace,
            ..command.origin
        };
        let command = Command { origin, ..command };
        let streaming = function.open(command, context, Arc::clone(&host) as Arc<dyn Host>)?;
        let open = Open::new(self, function.kind(), method);
        Ok(streaming.map(|run| {
            Box::pin(async move {
                let ended = run_here(open, host, run).instrument(span.clone()).await;
                spans::end(&span, &ended.0);
                ended
            })
        }))
    }

    /// The same, for whoever must not wait for a function's steps.
    pub(crate) async fn open_aside(
        self: &Arc<Self>,
        call: Call,
        after: Token,
        timeout_ms: u64,
    ) -> Result<Streaming, Error> {
        let streaming = self.open(call, after, timeout_ms).await?;
        let shared = Arc::clone(self);
        Ok(streaming.map(|run| {
            Box::pin(async move {
                let ended = aside(&shared, run).await;
                ended.unwrap_or_else(|| (Err(cut_off()), Token::default()))
            })
        }))
    }
}

async fn run_here(mut open: Open, host: Arc<StreamHost>, run: BoxFuture<'static, Ended>) -> Ended {
    let result = tokio::select! {
        // First: what the function comes to by the end of its node is none of its answers.
        biased;
        _ = host.shared.stopped() => Err(stopped()),
        (result, _) = host.shared.functions.reactor.around(run) => result,
    };
    // Calls that it made may have been refused for that, and the function have made a refusal of its own of it.
    let result = result.map_err(|error| {
        match host.shared.has_stopped() || host.caller.was_stopped() && host.shared.is_stopping() {
            true => stopped(),
            false => error,
        }
    });
    open.end(&result);
    let token = host
        .shared
        .peek(|engine| engine.token(&host.caller.seen(), [&host.entity]));
    (result, token)
}

/// A stream that is open; counted when it is not any more.
pub(super) struct Open {
    shared: Arc<Shared>,
    kind: String,
    method: String,
    is_error: bool,
}

impl Open {
    pub(super) fn new(shared: &Arc<Shared>, kind: &str, method: String) -> Open {
        shared.functions.streams.fetch_add(1, Ordering::Relaxed);
        Open {
            shared: Arc::clone(shared),
            kind: kind.to_owned(),
            method,
            is_error: false,
        }
    }

    /// Its function has ended it.
    pub(super) fn end<T>(&mut self, result: &Result<T, Error>) {
        self.is_error = result.is_err();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let functions = &self.shared.functions;
        functions.streams.fetch_sub(1, Ordering::Relaxed);
        functions.note_stream(&self.kind, &self.method, self.is_error);
    }
}

/// What a stream's function is beside.
struct StreamHost {
    shared: Arc<Shared>,
    function: Arc<Function>,
    entity: EntityId,
    caller: HostCaller,
    /// Set whenever the entity changes; none if the node had stopped before.
    mark: Mutex<Option<Mark>>,
    /// Set whenever who is there does.
    live: Mutex<Mark>,
    at_end: Mutex<Vec<Call>>,
}

impl StreamHost {
    fn new(shared: &Arc<Shared>, function: &Arc<Function>, entity: &EntityId, seen: Token) -> StreamHost {
        StreamHost {
            shared: Arc::clone(shared),
            function: Arc::clone(function),
            entity: entity.clone(),
            caller: HostCaller::new(shared, None, seen),
            mark: Mutex::new(shared.subscribe(entity)),
            live: Mutex::new(shared.watch_live()),
            at_end: Mutex::default(),
        }
    }
}

impl Caller for StreamHost {
    fn peers(&self) -> Vec<NodeId> {
        self.caller.peers()
    }

    fn call(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Payload, Error>> {
        self.caller.call(on, call)
    }

    fn open(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Streaming, Error>> {
        self.caller.open(on, call)
    }
}

impl Host for StreamHost {
    fn look(&self) -> Result<View, Error> {
        let mut mark = lock(&self.mark);
        // The mark is down before the entity is looked at, so a change in between sets it again.
        if let Some(mark) = &mut *mark {
            mark.mark_unchanged();
        }
        drop(mark);
        self.shared
            .peek(|engine| engine.view(&self.entity, self.function.ty()))
    }

    fn changed(&self) -> BoxFuture<'_, Result<(), Error>> {
        let (mark, mut live) = (lock(&self.mark).clone(), lock(&self.live).clone());
        Box::pin(async move {
            let ended = async || {
                // The stream ends with its node, and not by what its function makes of an error.
                let _ = self.shared.stopped().await;
                Err(stopped())
            };
            let Some(mut mark) = mark else {
                return ended().await;
            };
            tokio::select! {
                changed = mark.changed() => match changed {
                    Ok(()) => Ok(()),
                    Err(_) => ended().await,
                },
                changed = live.changed() => {
                    // Down now and not by a look: who is there may have been asked for before it, or never.
                    *lock(&self.live) = live;
                    changed.map_err(|_| stopped())
                }
            }
        })
    }

    fn at_end(&self, call: Call) -> Result<(), Error> {
        let mut at_end = lock(&self.at_end);
        if at_end.len() >= AT_END_MAX {
            let message = format!("a stream wants at most {AT_END_MAX} calls made at its end");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        at_end.push(call);
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now().wall_ms
    }
}

impl Drop for StreamHost {
    fn drop(&mut self) {
        let at_end = std::mem::take(&mut *lock(&self.at_end));
        leave_calls(&self.shared, self.caller.seen(), at_end);
        if let Some(mark) = lock(&self.mark).take() {
            self.shared.unsubscribe(&self.entity, mark);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cut_off() -> Error {
    Error::new(
        ErrorKind::Lost,
        "there was no thread for the stream's function, or it panicked; what it did elsewhere is not known",
    )
}

pub(super) fn stopped() -> Error {
    Error::new(
        ErrorKind::Stopping,
        "the node has stopped, and the stream with it; open it at another node",
    )
}
