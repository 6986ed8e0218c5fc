//! Calls of other nodes, answered here: by the thread that moves packets where that takes next to no time, else by the workers'.
//!
//! Not here: what is asked of others (`calls`). Contract: a call is begun with once, and not at all if its caller has gone before;
//! its place is taken until its thread is free.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_crdt::{Epoch, NodeId};
use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::calls::{Due, reply};
use super::outgoing::ROOM_TIMEOUT;
use super::shared::Shared;
use super::spans::{self, part};
use super::workers::{Job, STALL_MS, Workers};
use crate::engine::limits::TIMEOUT_MS_MAX;
use crate::error::{Error, ErrorKind};
use crate::payload::Payload;
use crate::session::Call;
use crate::transport::AWAY_MS;
use crate::wire::{CallFrame, CallReply, CallRequest, FRAME_BYTES_MAX, Token};

/// Calls of others that are being answered, at most.
const SERVED_MAX: usize = 256;
/// And of one peer.
const SERVED_OF_PEER_MAX: usize = 128;

/// A call's name: whose, in which epoch of it, and which.
type Name = (NodeId, Epoch, u64);

/// The calls of others that are being answered.
#[derive(Debug)]
pub(super) struct Served {
    state: Mutex<State>,
    workers: Arc<Workers>,
}

#[derive(Debug, Default)]
struct State {
    calls: BTreeMap<Name, Place>,
    /// How many of them are of each peer.
    of_peers: BTreeMap<NodeId, usize>,
}

/// What becomes of a call if its caller goes.
#[derive(Debug)]
enum Place {
    /// It is not begun with; if it is already, it is at its end before anybody could know.
    Waiting,
    /// It is told.
    Told(#[expect(dead_code, reason = "it is told by dropping this")] oneshot::Sender<()>),
    /// Its caller has gone.
    Ended,
}

/// Why a call has no place.
enum Refused {
    /// Another has its name.
    Named,
    /// There are as many as may be.
    Full,
}

impl Served {
    pub(super) fn new() -> Served {
        Served {
            state: Mutex::default(),
            workers: Arc::new(Workers::new(SERVED_MAX)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, name: Name) -> Result<(), Refused> {
        let mut state = self.lock();
        let State { calls, of_peers } = &mut *state;
        if calls.contains_key(&name) {
            return Err(Refused::Named);
        }
        let of_peer = of_peers.entry(name.0).or_default();
        if calls.len() >= SERVED_MAX || *of_peer >= SERVED_OF_PEER_MAX {
            return Err(Refused::Full);
        }
        *of_peer += 1;
        calls.insert(name, Place::Waiting);
        Ok(())
    }

    /// Its thread is free.
    fn leave(&self, name: Name) {
        let mut state = self.lock();
        state.calls.remove(&name);
        if let Some(of_peer) = state.of_peers.get_mut(&name.0) {
            *of_peer -= 1;
            if *of_peer == 0 {
                state.of_peers.remove(&name.0);
            }
        }
    }

    /// Whether its caller still waits.
    fn is_wanted(&self, name: Name) -> bool {
        !matches!(self.lock().calls.get(&name), None | Some(Place::Ended))
    }

    /// Resolves when its caller has gone.
    fn gone(&self, name: Name) -> oneshot::Receiver<()> {
        let (tell, gone) = oneshot::channel();
        if let Some(place @ Place::Waiting) = self.lock().calls.get_mut(&name) {
            *place = Place::Told(tell);
        }
        gone
    }

    /// Its caller has gone.
    pub(super) fn cancel(&self, peer: NodeId, epoch: Epoch, id: u64) {
        if let Some(place) = self.lock().calls.get_mut(&(peer, epoch, id)) {
            *place = Place::Ended;
        }
    }

    /// All callers there have gone.
    pub(super) fn on_disconnected(&self, peer: NodeId) {
        let mut state = self.lock();
        let served = state.calls.iter_mut().filter(|((of, ..), _)| *of == peer);
        served.for_each(|(_, place)| *place = Place::Ended);
    }
}

impl Shared {
    /// Answers a call of another node.
    pub(super) fn serve(self: &Arc<Self>, peer: NodeId, epoch: Epoch, request: CallRequest) {
        let (id, timeout_ms) = (request.id, request.timeout_ms.min(TIMEOUT_MS_MAX));
        let name = (peer, epoch, id);
        // Whoever floods this node, or says what it does not understand, is not waited for.
        let refuse = |error: Error| {
            let frame = CallFrame::Reply(reply(id, Err(error), None)).encode();
            if let Some(room) = self.calls.outgoing.room(peer, frame.len()) {
                self.send_at_once(peer, epoch, frame, room);
            }
        };
        match self.served.admit(name) {
            Ok(()) => {}
            Err(Refused::Named) => {
                let why = "on the lane of calls: a call under the name of another";
                return self.network().disconnect(peer, epoch, why);
            }
            Err(Refused::Full) => {
                let message =
                    "nothing changed: the node answers as many calls of others as it may; retry later";
                return refuse(Error::new(ErrorKind::Overloaded, message));
            }
        }
        match Call::from_request(request) {
            Ok((call, token)) if self.is_quick(&call, token.as_ref()) => {
                self.answer_between(name, call, token, timeout_ms);
            }
            Ok((call, token)) => self.answer_aside(name, call, token, timeout_ms),
            Err(error) => {
                refuse(error);
                self.served.leave(name);
            }
        }
    }

    /// Whether a call takes less than to hand it to another thread.
    fn is_quick(&self, call: &Call, token: Option<&Token>) -> bool {
        let found = self.functions.find(call.entity.kind(), &call.method);
        found.is_some_and(|found| found.is_at_once(call, token) && found.is_quick())
    }

    /// Answers on the thread that moves packets: its answer goes with the next of them, and no thread was woken for it.
    fn answer_between(self: &Arc<Self>, name: Name, call: Call, token: Option<Token>, timeout_ms: u64) {
        let shared = Arc::clone(self);
        let work = Box::new(move || shared.answer_quickly(name, call, token, timeout_ms));
        match self.network().between(work) {
            Ok(false) => {}
            Ok(true) => self.watch_network(),
            Err(work) => self.answer_later(Box::pin(async { work() })),
        }
    }

    fn answer_quickly(self: &Arc<Self>, name: Name, call: Call, mut token: Option<Token>, timeout_ms: u64) {
        if !self.served.is_wanted(name) {
            return self.served.leave(name);
        }
        let found = self.functions.find(call.entity.kind(), &call.method);
        // One that was quick until now may be at work on another thread, and not come back.
        let Some(found) = found.filter(|found| found.begin_quickly()) else {
            return self.answer_aside(name, call, token, timeout_ms);
        };
        let result = self.look_at_once(found, call, token.as_mut(), timeout_ms);
        let (peer, epoch, id) = name;
        let frame = fitting(reply(id, result, token));
        match self.calls.outgoing.room(peer, frame.len()) {
            Some(room) => {
                self.send_call(peer, epoch, frame, room, ROOM_TIMEOUT);
                self.served.leave(name);
            }
            None => {
                let shared = Arc::clone(self);
                self.answer_later(Box::pin(async move { shared.send_later(name, frame) }));
            }
        }
    }

    /// Answers on one of the workers' threads, since a function may take its time.
    fn answer_aside(self: &Arc<Self>, name: Name, call: Call, token: Option<Token>, timeout_ms: u64) {
        let gone = self.served.gone(name);
        let shared = Arc::clone(self);
        self.answer_later(Box::pin(async move {
            let answered = tokio::select! {
                biased;
                _ = gone => None,
                reply = shared.answer(name.2, call, token, timeout_ms) => Some(reply),
            };
            match answered {
                Some(reply) => shared.send_later(name, fitting(reply)),
                None => shared.served.leave(name),
            }
        }));
    }

    /// Sends an answer once there is room, and waits for it.
    fn send_later(&self, name: Name, frame: Bytes) {
        let (peer, epoch, _) = name;
        if let Some(room) = self.calls.outgoing.room_later(peer, frame.len()) {
            self.send_call(peer, epoch, frame, room, ROOM_TIMEOUT);
        }
        self.served.leave(name);
    }

    async fn answer(
        self: &Arc<Self>,
        id: u64,
        mut call: Call,
        mut token: Option<Token>,
        timeout_ms: u64,
    ) -> CallReply {
        let (span, trace) = part!("answer", "server", call.origin.trace, call.entity, call.method);
        call.origin.trace = trace;
        let answering = self.call(call, token.as_mut(), timeout_ms);
        let result: Result<Payload, Error> = answering.instrument(span.clone()).await;
        spans::end(&span, &result);
        reply(id, result, token)
    }

    fn answer_later(&self, job: Job) {
        if self.served.workers.submit(job) {
            self.watch_workers();
        }
    }

    fn watch_workers(&self) {
        self.wake_at(self.clock.time().after_ms(STALL_MS), Due::Workers);
    }

    /// Calls of others may have waited too long.
    pub(super) fn look_at_workers(&self) {
        if self.served.workers.look() {
            self.watch_workers();
        }
    }

    fn watch_network(&self) {
        self.wake_at(self.clock.time().after_ms(AWAY_MS), Due::Network);
    }

    /// What is answered between packets may keep them.
    pub(super) fn look_at_network(&self) {
        if self.network().look() {
            self.watch_network();
        }
    }
}

/// The frame of a reply; of one that is too large for a frame, that it is.
fn fitting(answer: CallReply) -> Bytes {
    let id = answer.id;
    let frame = CallFrame::Reply(answer).encode();
    if frame.len() <= FRAME_BYTES_MAX {
        return frame;
    }
    let message = format!(
        "the function has run, and its answer of {} bytes is too large for another node",
        frame.len()
    );
    CallFrame::Reply(reply(id, Err(Error::new(ErrorKind::Unanswered, message)), None)).encode()
}
