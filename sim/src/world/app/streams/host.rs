//! What a stream's function is beside: its entity as it is, its calls, and whoever has it go on.
//!
//! Contract: as in production, a function makes a step only once it was woken and its caller waits; a step that was begun for a
//! caller who has gone since is made all the same.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use anabranch::engine::View;
use anabranch::{
    AT_END_MAX, BoxFuture, Call, Caller, Ended, Error, ErrorKind, Host, NodeId, Nodes, Payload, ReplicaId,
    Streaming,
};

use super::super::desk::{AtDesk, Desk};
use super::bell::{Bells, Who};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a function may look at during a step, and what it has said of the time after.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    /// Only during a step.
    view: Option<Result<View, Error>>,
    now_ms: u64,
    live: Vec<ReplicaId>,
    /// Whether the entity has changed since it was looked at.
    is_changed: bool,
    /// Whether others are there than when that was said last.
    is_live_changed: bool,
    wakers: Vec<Waker>,
    at_end: Vec<Call>,
}

impl Room {
    /// A step begins.
    pub fn enter(&self, view: Result<View, Error>, now_ms: u64, live: Vec<ReplicaId>) {
        let mut inside = lock(&self.0);
        (inside.view, inside.now_ms, inside.live) = (Some(view), now_ms, live);
    }

    /// It is over.
    pub fn leave(&self) {
        lock(&self.0).view = None;
    }

    /// The entity has changed.
    pub fn change(&self) {
        self.wake(|inside| inside.is_changed = true);
    }

    /// Who is there has.
    pub fn change_live(&self) {
        self.wake(|inside| inside.is_live_changed = true);
    }

    fn wake(&self, note: impl FnOnce(&mut Inside)) {
        let mut inside = lock(&self.0);
        note(&mut inside);
        let wakers = std::mem::take(&mut inside.wakers);
        drop(inside);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What is to be called now that it has ended.
    pub fn take_at_end(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.0).at_end)
    }
}

impl Nodes for Room {
    fn live(&self) -> Vec<ReplicaId> {
        lock(&self.0).live.clone()
    }
}

/// The same, as a function has it.
pub(super) struct AtStream {
    pub room: Arc<Room>,
    desk: AtDesk,
}

impl AtStream {
    pub fn new(room: &Arc<Room>, desk: &Arc<Desk>) -> AtStream {
        AtStream {
            room: Arc::clone(room),
            desk: AtDesk(Arc::clone(desk)),
        }
    }
}

impl Caller for AtStream {
    fn call(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Payload, Error>> {
        self.desk.call(on, call)
    }

    fn peers(&self) -> Vec<NodeId> {
        self.desk.peers()
    }

    fn open(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Streaming, Error>> {
        self.desk.open(on, call)
    }
}

impl Host for AtStream {
    fn look(&self) -> Result<View, Error> {
        let mut inside = lock(&self.room.0);
        inside.is_changed = false;
        let stopped = || {
            Error::new(
                ErrorKind::Stopping,
                "the node has stopped, and the stream with it",
            )
        };
        inside.view.clone().unwrap_or_else(|| Err(stopped()))
    }

    fn changed(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::poll_fn(|task| {
            let mut inside = lock(&self.room.0);
            // What changed is down once it is looked at; who is there once it is said.
            if inside.is_changed || std::mem::take(&mut inside.is_live_changed) {
                return Poll::Ready(Ok(()));
            }
            inside.wakers.push(task.waker().clone());
            Poll::Pending
        }))
    }

    fn now_ms(&self) -> u64 {
        lock(&self.room.0).now_ms
    }

    fn at_end(&self, call: Call) -> Result<(), Error> {
        let at_end = &mut lock(&self.room.0).at_end;
        if at_end.len() >= AT_END_MAX {
            let message = format!("a stream wants at most {AT_END_MAX} calls made at its end");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        at_end.push(call);
        Ok(())
    }
}

/// Between a function and its caller, who each have one end.
#[derive(Debug)]
pub(super) struct Tie {
    number: u64,
    bells: Bells,
    state: Mutex<Tied>,
}

#[derive(Debug, Default)]
struct Tied {
    /// Whether the function has something to do.
    is_woken: bool,
    /// Whether a step is to be made.
    is_planned: bool,
    /// Whether nobody waits for it any more.
    is_dropped: bool,
    ended: Option<Ended>,
    caller: Option<Waker>,
}

impl Tie {
    /// Of a function that is to begin.
    pub fn new(number: u64, bells: &Bells) -> Arc<Tie> {
        let state = Tied {
            is_woken: true,
            ..Tied::default()
        };
        Arc::new(Tie {
            number,
            bells: bells.clone(),
            state: Mutex::new(state),
        })
    }

    /// Whether a step is to be made now.
    pub fn is_planned(&self) -> bool {
        lock(&self.state).is_planned
    }

    /// Whether nobody waits for it any more.
    pub fn is_dropped(&self) -> bool {
        lock(&self.state).is_dropped
    }

    /// Makes the step.
    pub fn step(self: &Arc<Self>, future: Pin<&mut (dyn Future<Output = Ended> + Send)>) -> Poll<Ended> {
        let waker = Waker::from(Arc::new(OfFunction(Arc::clone(self))));
        let polled = future.poll(&mut TaskContext::from_waker(&waker));
        lock(&self.state).is_planned = false;
        self.wake_caller();
        polled
    }

    /// The function has ended.
    pub fn end(&self, ended: Ended) {
        lock(&self.state).ended = Some(ended);
        self.wake_caller();
    }

    fn wake_caller(&self) {
        let caller = lock(&self.state).caller.take();
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

/// A function that is woken lets its caller know, who has it go on if he waits.
struct OfFunction(Arc<Tie>);

impl Wake for OfFunction {
    fn wake(self: Arc<Self>) {
        lock(&self.0.state).is_woken = true;
        self.0.wake_caller();
    }
}

/// A function that runs elsewhere, as its caller waits for it.
pub(super) struct Aside(pub Arc<Tie>);

impl Future for Aside {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Ended> {
        let mut state = lock(&self.0.state);
        if let Some(ended) = state.ended.take() {
            return Poll::Ready(ended);
        }
        state.caller = Some(task.waker().clone());
        if state.is_woken && !state.is_planned {
            (state.is_woken, state.is_planned) = (false, true);
            self.0.bells.ring(Who::Function(self.0.number));
        }
        Poll::Pending
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.is_dropped = true;
        // A step that is planned is made, and the last.
        if !state.is_planned {
            self.0.bells.ring(Who::Function(self.0.number));
        }
    }
}
