//! Where a running function leaves its calls, and finds their answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use anabranch::{BoxFuture, Call, Caller, Error, NodeId, Payload, Streaming};

/// A function's side of it is [`Caller`].
#[derive(Debug, Default)]
pub(super) struct Desk(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    peers: Vec<NodeId>,
    slots: u64,
    wanted: Vec<Wanted>,
    answers: BTreeMap<u64, Answer>,
    wakers: BTreeMap<u64, Waker>,
    dropped: Vec<u64>,
}

/// What came of a call.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Result<Payload, Error>),
    Opened(Result<Streaming, Error>),
}

/// A call that is to be made.
#[derive(Debug)]
pub(super) struct Wanted {
    pub slot: u64,
    pub on: Option<NodeId>,
    pub call: Call,
    /// Whether a stream of it is to be opened.
    pub opens: bool,
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

    /// Whoever waits for it is woken.
    pub fn answer(&self, slot: u64, answer: Answer) {
        let waker = {
            let mut state = self.lock();
            state.answers.insert(slot, answer);
            state.wakers.remove(&slot)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn ask(&self, on: Option<NodeId>, call: Call, opens: bool) -> Asking<'_> {
        Asking {
            desk: self,
            stage: Asked::NotYet(Some(Box::new((on, call, opens)))),
        }
    }
}

/// The same, as a function's context has it.
#[derive(Debug)]
pub(super) struct AtDesk(pub Arc<Desk>);

impl Caller for AtDesk {
    fn call(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Payload, Error>> {
        Box::pin(async move {
            match self.0.ask(on, call, false).await {
                Answer::Reply(reply) => reply,
                Answer::Opened(_) => unreachable!("no stream was asked for"),
            }
        })
    }

    fn peers(&self) -> Vec<NodeId> {
        self.0.lock().peers.clone()
    }

    fn open(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Streaming, Error>> {
        Box::pin(async move {
            match self.0.ask(on, call, true).await {
                Answer::Opened(opened) => opened,
                Answer::Reply(_) => unreachable!("a stream was asked for"),
            }
        })
    }
}

struct Asking<'a> {
    desk: &'a Desk,
    stage: Asked,
}

/// A certain node, where there is one; the call; whether a stream of it is to be opened.
type Wants = (Option<NodeId>, Call, bool);

enum Asked {
    NotYet(Option<Box<Wants>>),
    Waiting(u64),
    Over,
}

impl Future for Asking<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.desk.lock();
        match &mut self.stage {
            Asked::NotYet(wanted) => {
                let Some(wants) = wanted.take() else {
                    unreachable!("it is made once");
                };
                let (on, call, opens) = *wants;
                state.slots += 1;
                let slot = state.slots;
                state.wanted.push(Wanted {
                    slot,
                    on,
                    call,
                    opens,
                });
                state.wakers.insert(slot, task.waker().clone());
                self.stage = Asked::Waiting(slot);
                Poll::Pending
            }
            Asked::Waiting(slot) => match state.answers.remove(slot) {
                Some(answer) => {
                    self.stage = Asked::Over;
                    Poll::Ready(answer)
                }
                None => {
                    state.wakers.insert(*slot, task.waker().clone());
                    Poll::Pending
                }
            },
            Asked::Over => unreachable!("a future is not polled after its end"),
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Asked::Waiting(slot) = self.stage {
            let mut state = self.desk.lock();
            state.wakers.remove(&slot);
            state.dropped.push(slot);
            // A stream that has opened meanwhile ends here, and says so to others.
            let answer = state.answers.remove(&slot);
            drop(state);
            drop(answer);
        }
    }
}
