//! Where a running function leaves its calls, and finds their answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use anabranch::{BoxFuture, Call, Caller, Error, NodeId, Payload};

/// A function's side of it is [`Caller`].
#[derive(Debug, Default)]
pub(super) struct Desk(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    peers: Vec<NodeId>,
    slots: u64,
    wanted: Vec<Wanted>,
    answers: BTreeMap<u64, Result<Payload, Error>>,
    dropped: Vec<u64>,
}

/// A call that is to be made.
#[derive(Debug)]
pub(super) struct Wanted {
    pub slot: u64,
    pub on: Option<NodeId>,
    pub call: Call,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom the function's node is linked with now.
    pub fn set_peers(&self, peers: Vec<NodeId>) {
        self.lock().peers = peers;
    }

    /// The calls that it began since, and those that it does not wait for any more.
    pub fn take(&self) -> (Vec<Wanted>, Vec<u64>) {
        let mut state = self.lock();
        (
            std::mem::take(&mut state.wanted),
            std::mem::take(&mut state.dropped),
        )
    }

    pub fn answer(&self, slot: u64, result: Result<Payload, Error>) {
        self.lock().answers.insert(slot, result);
    }
}

/// The same, as a function's context has it.
#[derive(Debug)]
pub(super) struct AtDesk(pub Arc<Desk>);

impl Caller for AtDesk {
    fn call(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Payload, Error>> {
        Box::pin(Asking {
            desk: &self.0,
            stage: Asked::NotYet(on, Some(call)),
        })
    }

    fn peers(&self) -> Vec<NodeId> {
        self.0.lock().peers.clone()
    }
}

struct Asking<'a> {
    desk: &'a Desk,
    stage: Asked,
}

enum Asked {
    NotYet(Option<NodeId>, Option<Call>),
    Waiting(u64),
    Over,
}

impl Future for Asking<'_> {
    type Output = Result<Payload, Error>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Payload, Error>> {
        let mut state = self.desk.lock();
        match &mut self.stage {
            Asked::NotYet(on, call) => {
                let on = *on;
                let Some(call) = call.take() else {
                    unreachable!("it is made once");
                };
                state.slots += 1;
                let slot = state.slots;
                state.wanted.push(Wanted { slot, on, call });
                self.stage = Asked::Waiting(slot);
                Poll::Pending
            }
            Asked::Waiting(slot) => match state.answers.remove(slot) {
                Some(result) => {
                    self.stage = Asked::Over;
                    Poll::Ready(result)
                }
                None => Poll::Pending,
            },
            Asked::Over => unreachable!("a future is not polled after its end"),
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Asked::Waiting(slot) = self.stage {
            self.desk.lock().dropped.push(slot);
        }
    }
}
