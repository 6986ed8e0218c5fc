//! The engine under its lock, and what performing its outputs needs there.
//!
//! Contract: every input goes through [`Cell::step`], which drains the outputs before the lock is released. Sends,
//! records and disconnections are handed on at once, in order; what concerns waiting callers is gathered in [`After`]
//! and done without the lock, since waking a task costs more than the whole step.

use std::collections::BTreeMap;

use anabranch_crdt::Type;
use tokio::sync::oneshot;

use crate::engine::{Answer, Engine, Holdings, Input, Output, RequestId, Time};
use crate::error::Error;
use crate::view::View;
use crate::wire::{EntityId, Token};

use super::queue::Job;
use super::shared::Shared;

/// How an update went, for its caller.
pub(super) type Outcome = Result<Answer, Error>;

/// What its session has seen with it, also where it came back with an error and is in all the same.
pub(super) fn seen_with(outcome: &Outcome) -> Token {
    match outcome {
        Ok(answer) => answer.token.clone(),
        Err(error) => Token::of_error(error).unwrap_or_default(),
    }
}

/// What the engine's lock guards.
pub(super) struct Cell {
    pub(super) engine: Engine,
    /// Callers whose update is not answered yet. The engine bounds how many it keeps.
    pub(super) waiting: BTreeMap<RequestId, oneshot::Sender<Outcome>>,
    /// Set once the node stops: what new updates are told.
    pub(super) refusing: Option<Error>,
    /// The timer thread has nothing more to do.
    pub(super) stopped: bool,
    /// When the timer thread wakes by itself; 0 while it is awake.
    pub(super) timer_at: Time,
    /// The writer waits until the peers have all that this node has written.
    pub(super) handing_over: bool,
    /// What that is: all that there was when it began to wait.
    pub(super) held: Option<Holdings>,
    /// When a session of a function is to be woken.
    pub(super) functions_at: Option<Time>,
    next_request: u64,
    was_ready: bool,
}

/// What is left to do after the lock is released.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct After {
    pub(super) done: Vec<(oneshot::Sender<Outcome>, Outcome)>,
    pub(super) changed: Vec<EntityId>,
    pub(super) wake_timer: bool,
    pub(super) wake_writer: bool,
    pub(super) became_ready: bool,
    pub(super) handed_over: bool,
    /// The answer to the very update that this step submitted: its caller needs no channel.
    own: Option<Outcome>,
}

/// What [`Cell::submit`] gave.
#[derive(Debug)]
pub(super) enum Submitted {
    /// Answered at once.
    Done(Outcome),
    /// The answer comes.
    Waiting(oneshot::Receiver<Outcome>),
}

impl Cell {
    pub(super) fn new(engine: Engine) -> Cell {
        Cell {
            engine,
            waiting: BTreeMap::new(),
            refusing: None,
            stopped: false,
            timer_at: Time(0),
            handing_over: false,
            held: None,
            functions_at: None,
            next_request: 1,
            was_ready: false,
        }
    }

    /// One input, and everything it leads to.
    pub(super) fn step(&mut self, shared: &Shared, input: Input) -> After {
        self.engine.handle(shared.clock.now(), input);
        self.drain(shared, None)
    }

    /// Whether writes are taken in every shard.
    pub(super) fn is_ready(&self) -> bool {
        self.engine.is_ready()
    }

    /// An entity for a function that is about to change it: nothing where that would be refused whatever it does, so that it does
    /// not begin.
    pub(super) fn view_to_change(&self, entity: &EntityId, ty: Type) -> Result<View, Error> {
        match &self.refusing {
            Some(refused) => Err(refused.clone()),
            None => self.engine.view_to_change(entity, ty),
        }
    }

    /// An update or a read of a local caller.
    pub(super) fn submit(
        &mut self,
        shared: &Shared,
        input: impl FnOnce(RequestId, Time) -> Input,
    ) -> (Submitted, After) {
        if let Some(refused) = &self.refusing {
            return (Submitted::Done(Err(refused.clone())), After::default());
        }
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let now = shared.clock.now();
        self.engine.handle(now, input(request, now.time));
        let mut after = self.drain(shared, Some(request));
        if let Some(outcome) = after.own.take() {
            return (Submitted::Done(outcome), after);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(request, sender);
        (Submitted::Waiting(receiver), after)
    }

    /// The timer's thread is to look after the sessions of functions then; whether it has to be woken to know that.
    pub(super) fn want_functions_woken(&mut self, at: Time) -> bool {
        self.functions_at = Some(self.functions_at.map_or(at, |earlier| earlier.min(at)));
        let is_earlier = at < self.timer_at;
        if is_earlier {
            self.timer_at = Time(0);
        }
        is_earlier
    }

    /// Performs every output there is.
    pub(super) fn drain(&mut self, shared: &Shared, own: Option<RequestId>) -> After {
        let mut after = After::default();
        while let Some(output) = self.engine.poll_output() {
            self.perform(shared, output, own, &mut after);
        }
        if !self.was_ready && self.is_ready() {
            self.was_ready = true;
            after.became_ready = true;
        }
        if let Some(held) = self.held.as_ref().filter(|_| self.handing_over)
            && self.engine.is_handed_over(held)
        {
            self.handing_over = false;
            after.handed_over = true;
        }
        if self.engine.next_wakeup().is_some_and(|at| at < self.timer_at) {
            self.timer_at = Time(0);
            after.wake_timer = true;
        }
        after
    }

    fn perform(&mut self, shared: &Shared, output: Output, own: Option<RequestId>, after: &mut After) {
        match output {
            Output::Send {
                peer,
                epoch,
                lane,
                frame,
            } => {
                shared.network().send(peer, epoch, lane, frame);
            }
            Output::Persist { id, payload } => {
                after.wake_writer |= shared.queue.push(&Job::Record {
                    id,
                    payload: &payload,
                });
            }
            Output::AdoptEpoch { above } => after.wake_writer |= shared.queue.push(&Job::Epoch { above }),
            Output::Done { request, result } if own == Some(request) => after.own = Some(result),
            Output::Done { request, result } => {
                // A caller that went away has taken its receiver with it; its entry is still here.
                if let Some(sender) = self.waiting.remove(&request) {
                    after.done.push((sender, result));
                }
            }
            Output::Changed { entity } => {
                shared.triggers.note(&entity);
                if shared.watchers.any() {
                    after.changed.push(entity);
                }
            }
            Output::Fence { peer, epoch, newest } => shared.network().fence(peer, epoch, newest),
            Output::Disconnect { peer, epoch, reason } => shared.network().disconnect(peer, epoch, &reason),
        }
    }
}
