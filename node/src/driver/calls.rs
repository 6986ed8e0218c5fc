//! Calls of other nodes: asked here and answered there (`served`), each once. Those that stream are in `streams`.
//!
//! Contract: a call that was sent is never sent again. It ends with its answer, with its caller's deadline, or with the link,
//! and then nobody knows whether it ran. Its end travels: a caller that goes away, or whose link does, is waited for by nobody
//! over there either.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::outgoing::Outgoing;
use super::shared::Shared;
use super::spans::{self, part};
use crate::engine::Time;
use crate::engine::limits::TIMEOUT_MS_MAX;
use crate::error::{Error, ErrorKind};
use crate::payload::{ENVELOPE_BYTES_MAX, PAYLOAD_BYTES_MAX, Payload};
use crate::session::{Call, strange, unanswered};
use crate::transport::STREAMS_MAX;
use crate::wire::{
    CallFrame, CallReply, EntityId, FRAME_BYTES_MAX, TOKEN_TEXT_BYTES_MAX, Token, WireError, WireValue,
};

/// Calls of others' functions that are being waited for, at most.
const ASKED_MAX: usize = 10_000;
/// Streaming calls that are open at one peer, at most: what is large and does not go on for long finds a stream of the link beside
/// them.
const STREAMS_OPEN_MAX: usize = STREAMS_MAX as usize - 16;
/// The other node says itself when a deadline has passed; after so much more nobody waits for it.
const GRACE_MS: u64 = 500;
/// And so long at most, milliseconds: all that have waited too long are looked for together.
const LOOK_MS: u64 = 1;

// The longest call and the longest reply fit into a frame, with what a session has seen and names.
const _: () = assert!(
    PAYLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX + TOKEN_TEXT_BYTES_MAX / 4 * 3 + (32 << 10) <= FRAME_BYTES_MAX
);

/// What a caller hears.
type Heard = Result<CallReply, Error>;

/// The calls of a node.
#[derive(Debug)]
pub(crate) struct Calls {
    next: AtomicU64,
    state: Mutex<State>,
    /// What waits to be written.
    pub(super) outgoing: Arc<Outgoing>,
}

#[derive(Debug, Default)]
struct State {
    asked: BTreeMap<u64, Asking>,
    /// When somebody looks which of them have waited too long: no later than that is so for the first. Few have ever, so there is one
    /// time for all.
    due: Option<Time>,
    /// Streaming calls that are open at a peer.
    streams: BTreeMap<NodeId, usize>,
    /// The node has stopped.
    has_ended: bool,
}

/// A call that is waited for.
#[derive(Debug)]
struct Asking {
    peer: NodeId,
    /// When it is given up.
    at: Time,
    sender: oneshot::Sender<Heard>,
}

impl Asking {
    fn unanswered(self, why: &str) {
        // Its caller may have gone at this very moment.
        let _ = self.sender.send(Err(unanswered(self.peer, why)));
    }
}

impl Calls {
    pub(super) fn new() -> Calls {
        Calls {
            next: AtomicU64::default(),
            state: Mutex::default(),
            outgoing: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link has ended, and what was under way on it.
    pub(super) fn on_disconnected(&self, peer: NodeId) {
        let mut state = self.lock();
        let asked: Vec<_> = state
            .asked
            .extract_if(.., |_, asking| asking.peer == peer)
            .collect();
        drop(state);
        self.outgoing.on_disconnected(peer);
        for (_, asking) in asked {
            asking.unanswered("the link ended");
        }
    }

    /// Ends the calls that were not answered so long after their deadline that they will not be. Returns when to come again.
    fn give_up(&self, now: Time) -> Option<Time> {
        let mut state = self.lock();
        let late: Vec<_> = state.asked.extract_if(.., |_, asking| asking.at <= now).collect();
        let next = state.asked.values().map(|asking| asking.at).min();
        state.due = next.map(|at| at.max(now.after_ms(LOOK_MS)));
        let again = state.due;
        drop(state);
        for (_, asking) in late {
            asking.unanswered("it did not answer in time");
        }
        again
    }

    /// The node has stopped: nobody waits any more, nor will.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        let asked = std::mem::take(&mut state.asked);
        drop(state);
        for asking in asked.into_values() {
            asking.unanswered("this node stopped");
        }
    }

    /// A place for one more streaming call at a peer, if it has one.
    pub(super) fn stream_place(&self, peer: NodeId) -> bool {
        let mut state = self.lock();
        let open = state.streams.entry(peer).or_default();
        let has_place = *open < STREAMS_OPEN_MAX;
        *open += usize::from(has_place);
        has_place
    }

    pub(super) fn give_stream_place_back(&self, peer: NodeId) {
        let mut state = self.lock();
        if let Some(open) = state.streams.get_mut(&peer) {
            *open -= 1;
            if *open == 0 {
                state.streams.remove(&peer);
            }
        }
    }
}

impl Shared {
    /// Calls the function of an entity at another node.
    pub(crate) async fn call_on(
        self: &Arc<Self>,
        peer: NodeId,
        mut call: Call,
        session: Option<&mut Token>,
        timeout_ms: u64,
    ) -> Result<Payload, Error> {
        if peer == self.about.node {
            return Box::pin(self.call(call, session, timeout_ms)).await;
        }
        let (span, trace) = part!("ask", "client", call.origin.trace, call.entity, call.method);
        call.origin.trace = trace;
        let asked = self.ask_peer(peer, call, session.as_deref(), timeout_ms);
        let result = match asked {
            Ok((asked, heard)) => read(peer, asked.answer(heard).await, session),
            Err(error) => Err(error),
        };
        spans::end(&span, &result);
        result
    }

    /// Asks, with all that has to be done for it before anybody waits.
    fn ask_peer(
        self: &Arc<Self>,
        peer: NodeId,
        call: Call,
        session: Option<&Token>,
        timeout_ms: u64,
    ) -> Result<(Asked<'_>, oneshot::Receiver<Heard>), Error> {
        call.check()?;
        let timeout_ms = timeout_ms.min(TIMEOUT_MS_MAX);
        let id = self.calls.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let at = self.clock.time().after_ms(timeout_ms.saturating_add(GRACE_MS));
        let watched_at = {
            let mut state = self.calls.lock();
            if state.has_ended {
                return Err(Error::new(
                    ErrorKind::Stopping,
                    "nothing changed: this node has stopped",
                ));
            }
            if state.asked.len() >= ASKED_MAX {
                let message =
                    format!("nothing changed: {ASKED_MAX} calls of other nodes wait already; retry later");
                return Err(Error::new(ErrorKind::Overloaded, message));
            }
            state.asked.insert(id, Asking { peer, at, sender });
            state.due
        };
        let mut asked = Asked {
            shared: self,
            peer,
            id,
            at,
            sent: None,
            is_answered: false,
        };
        let request = call.to_request(id, timeout_ms, session);
        asked.send(CallFrame::Request(request).encode())?;
        if watched_at.is_none_or(|due| at < due) {
            self.watch_calls(at);
        }
        Ok((asked, receiver))
    }

    /// Has somebody look then which calls have waited too long, in place of a later time.
    fn watch_calls(&self, at: Time) {
        let mut state = self.calls.lock();
        let later = match state.due {
            Some(due) if due <= at => return,
            due => due,
        };
        state.due = Some(at);
        drop(state);
        if let Some(later) = later {
            self.forget_due(later, Due::Calls);
        }
        self.wake_at(at, Due::Calls);
    }

    /// Calls of other nodes may have waited too long.
    pub(super) fn look_at_calls(&self) {
        if let Some(again) = self.calls.give_up(self.clock.time()) {
            self.wake_at(again, Due::Calls);
        }
    }

    /// A frame of a peer on the lane of calls.
    pub(super) fn on_call_frame(self: &Arc<Self>, peer: NodeId, epoch: Epoch, frame: &[u8]) {
        match CallFrame::decode(frame) {
            Ok(Some(CallFrame::Request(request))) => self.serve(peer, epoch, request),
            Ok(Some(CallFrame::Reply(reply))) => {
                let mut state = self.calls.lock();
                // Somebody else's answer to it is no answer, and where there is none nobody waits any more.
                let is_of_peer = state
                    .asked
                    .get(&reply.id)
                    .is_some_and(|asking| asking.peer == peer);
                let asked = is_of_peer.then(|| state.asked.remove(&reply.id)).flatten();
                drop(state);
                if let Some(asking) = asked {
                    let _ = asking.sender.send(Ok(reply));
                }
            }
            Ok(Some(CallFrame::Cancel { id })) => {
                self.served.cancel(peer, epoch, id);
            }
            Ok(None) => {}
            Ok(Some(CallFrame::Open(_) | CallFrame::Opened | CallFrame::Message(_))) => {
                let why = "a stream's frame outside of a stream";
                self.network().disconnect(peer, epoch, why);
            }
            Err(error) => self
                .network()
                .disconnect(peer, epoch, &format!("a call's frame: {error}")),
        }
    }
}

/// One call that is waited for. Dropped before it is answered, the other node is told.
struct Asked<'a> {
    shared: &'a Arc<Shared>,
    peer: NodeId,
    id: u64,
    /// When it is given up.
    at: Time,
    /// Over the link with this epoch.
    sent: Option<Epoch>,
    is_answered: bool,
}

impl Asked<'_> {
    /// Waits for the answer.
    async fn answer(mut self, heard: oneshot::Receiver<Heard>) -> Heard {
        let heard = heard.await;
        let heard = heard.unwrap_or_else(|_| Err(unanswered(self.peer, "this node stopped")));
        self.is_answered = heard.is_ok();
        heard
    }

    fn send(&mut self, frame: Bytes) -> Result<(), Error> {
        // Looked at after the call is among those that a link's end ends.
        let Some(epoch) = self.shared.peek(|engine| engine.linked_epoch(self.peer)) else {
            let message = format!("nothing changed: there is no link with node {}", self.peer);
            return Err(Error::new(ErrorKind::Unreachable, message));
        };
        if frame.len() > FRAME_BYTES_MAX {
            let message = format!(
                "nothing changed: a call of {} bytes is too large for another node",
                frame.len()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let Some(room) = self.shared.calls.outgoing.room(self.peer, frame.len()) else {
            let message = format!(
                "nothing changed: too much waits to be sent to node {}; retry later",
                self.peer
            );
            return Err(Error::new(ErrorKind::Overloaded, message));
        };
        self.sent = Some(epoch);
        let left = self.shared.clock.time().ms_until(self.at);
        self.shared
            .send_call(self.peer, epoch, frame, room, Duration::from_millis(left));
        Ok(())
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.shared.calls.lock().asked.remove(&self.id);
        let Some(epoch) = self.sent else { return };
        let frame = CallFrame::Cancel { id: self.id }.encode();
        if let Some(room) = self.shared.calls.outgoing.room(self.peer, frame.len()) {
            self.shared.send_at_once(self.peer, epoch, frame, room);
        }
    }
}

/// What a peer has answered, with what the caller's session has seen there.
fn read(peer: NodeId, heard: Heard, session: Option<&mut Token>) -> Result<Payload, Error> {
    let reply = heard?;
    if let (Some(token), Some(seen)) = (session, &reply.token) {
        let seen = Token::from_bytes(seen);
        token.join(&seen.map_err(|_| strange(peer, "what it has seen"))?);
    }
    match reply.result {
        Ok(value) => value.read().ok_or_else(|| strange(peer, "its reply's encoding")),
        Err(error) => Err(error.read()),
    }
}

pub(super) fn reply(id: u64, result: Result<Payload, Error>, token: Option<Token>) -> CallReply {
    CallReply {
        id,
        result: result.map(WireValue::of).map_err(|error| WireError::of(&error)),
        token: token.map(|token| token.to_bytes().into()),
    }
}

/// Who is to be looked after at some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// An entity's session.
    Session(EntityId),
    /// An entity's session with a function of another process.
    Foreign(EntityId),
    /// The calls of other nodes.
    Calls,
    /// The threads that answer calls of others.
    Workers,
    /// The thread that moves packets, and answers calls of others in between.
    Network,
}
