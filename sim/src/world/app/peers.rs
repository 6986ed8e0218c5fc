//! Calls between nodes, as frames on the lane of that name.

use anabranch::engine::limits::TIMEOUT_MS_MAX;
use anabranch::wire::{CallFrame, CallReply, CallRequest, FRAME_BYTES_MAX, Lane, WireError, WireValue};
use anabranch::{Call, Epoch, Error, ErrorKind, NodeId, Payload, Token};
use bytes::Bytes;

use super::calling::Witness;
use super::{Apps, By, Delivery, Event, Step, Todo, WorldEvent};
use crate::net::{NodeIx, Outgoing, STREAMS};
use crate::world::World;

/// As in production: calls of one peer that are being answered, at most.
const SERVED_OF_PEER_MAX: usize = 128;
/// The other node says itself when a deadline has passed; after so much more nobody waits for it.
const GRACE_MS: u64 = 500;

/// A call of another node that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub node: NodeIx,
    pub by: By,
    pub peer: NodeIx,
    /// What is called.
    pub name: String,
    /// Over the link with this epoch.
    epoch: Epoch,
}

impl Apps {
    /// Calls the function of an entity at another node. Returns the name under which it waits, if it does.
    pub(super) fn ask_peer(
        &mut self,
        world: &mut World,
        node: NodeIx,
        (peer, by): (NodeId, By),
        call: Call,
        session: Option<Token>,
        timeout_ms: u64,
    ) -> u64 {
        let (id, name) = (self.number(), call.to_string());
        match self.send_request(
            world,
            node,
            peer,
            id,
            call,
            session,
            timeout_ms.min(TIMEOUT_MS_MAX),
        ) {
            Ok((peer, epoch)) => {
                self.counts.remote += 1;
                let asked = Asked {
                    node,
                    by,
                    peer,
                    name,
                    epoch,
                };
                self.asked.insert(id, asked);
                let wait_ms = timeout_ms.min(TIMEOUT_MS_MAX) + GRACE_MS;
                world.plan_event(wait_ms * 1_000, Event::Overdue { node, id });
            }
            Err(error) => self.fail(node, by, error),
        }
        id
    }

    #[expect(clippy::too_many_arguments, reason = "all that a request is made of")]
    fn send_request(
        &self,
        world: &mut World,
        node: NodeIx,
        peer: NodeId,
        id: u64,
        call: Call,
        session: Option<Token>,
        timeout_ms: u64,
    ) -> Result<(NodeIx, Epoch), Error> {
        call.check()?;
        let to = world.find(peer);
        let life = world.hosts[node].life.as_ref();
        let linked = life.and_then(|life| life.engine.linked_epoch(peer));
        let Some((to, epoch)) = to.zip(linked) else {
            let message = format!("nothing changed: there is no link with node {peer}");
            return Err(Error::new(ErrorKind::Unreachable, message));
        };
        let frame = CallFrame::Request(call.to_request(id, timeout_ms, session.as_ref())).encode();
        if frame.len() > FRAME_BYTES_MAX {
            let message = format!(
                "nothing changed: a call of {} bytes is too large for another node",
                frame.len()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        world.send_call(node, to, epoch, frame);
        Ok((to, epoch))
    }

    fn fail(&mut self, node: NodeIx, to: By, error: Error) {
        self.agenda.push_back(Todo::Deliver(Delivery {
            node,
            to,
            result: Err(error),
            session: None,
            witness: Witness::default(),
        }));
    }

    /// Nobody waits for a call of another node any more, and that is told so.
    pub(super) fn withdraw(&mut self, world: &mut World, id: u64) {
        if let Some(asked) = self.asked.remove(&id) {
            let frame = CallFrame::Cancel { id }.encode();
            world.send_call(asked.node, asked.peer, asked.epoch, frame);
        }
    }

    /// Another node has not answered so long after its deadline that it will not.
    pub(super) fn on_overdue(&mut self, id: u64) {
        if let Some(asked) = self.asked.remove(&id) {
            self.fail(
                asked.node,
                asked.by,
                unanswered(asked.peer, "it did not answer in time"),
            );
        }
    }

    /// A link has ended, and what was under way on it.
    pub(super) fn on_unlinked(&mut self, world: &mut World, node: NodeIx, peer: Option<NodeIx>) {
        let is_of = |of: NodeIx| peer.is_none_or(|peer| peer == of);
        let lost: Vec<Asked> = self
            .asked
            .extract_if(.., |_, asked| asked.node == node && is_of(asked.peer))
            .map(|(_, asked)| asked)
            .collect();
        for asked in lost {
            self.fail(node, asked.by, unanswered(asked.peer, "the link ended"));
        }
        let served: Vec<u64> = self
            .served
            .extract_if(.., |(at, of, ..), _| *at == node && is_of(*of))
            .map(|(_, call)| call)
            .collect();
        for call in served {
            self.cancel(world, call);
        }
    }

    /// A frame of a peer on the lane of calls.
    pub(super) fn on_frame(
        &mut self,
        world: &mut World,
        node: NodeIx,
        from: NodeIx,
        epoch: u64,
        frame: &[u8],
    ) -> Step {
        let decoded = CallFrame::decode(frame);
        world.tell(|| format!("n{node} <- n{from} {decoded:?}"));
        match decoded {
            Ok(Some(CallFrame::Request(request))) => return self.serve(world, node, (from, epoch), request),
            Ok(Some(CallFrame::Reply(reply))) => self.on_reply(node, from, reply),
            Ok(Some(CallFrame::Cancel { id })) => {
                if let Some(call) = self.served.remove(&(node, from, epoch, id)) {
                    self.cancel(world, call);
                }
            }
            Ok(Some(CallFrame::Open(_) | CallFrame::Opened | CallFrame::Message(_))) => {
                let why = "a stream's frame outside of a stream";
                return world.on_disconnect(node, world.hosts[from].id, Epoch(epoch), None, why);
            }
            Ok(None) => {}
            Err(error) => {
                let why = format!("on the lane of calls: {error}");
                return world.on_disconnect(node, world.hosts[from].id, Epoch(epoch), None, &why);
            }
        }
        Ok(())
    }

    fn on_reply(&mut self, node: NodeIx, from: NodeIx, reply: CallReply) {
        let asked = self.asked.get(&reply.id);
        // Somebody else's answer to it is no answer, and where there is none nobody waits any more.
        if asked.is_none_or(|asked| (asked.node, asked.peer) != (node, from)) {
            return;
        }
        let Some(Asked { by, .. }) = self.asked.remove(&reply.id) else {
            return;
        };
        let token = reply.token.map(|bytes| Token::from_bytes(&bytes)).transpose();
        let Ok(session) = token else {
            return self.fail(node, by, unanswered(from, "what it has seen cannot be read"));
        };
        let result = match reply.result {
            Ok(value) => value
                .read()
                .ok_or_else(|| unanswered(from, "its reply cannot be read")),
            Err(error) => Err(error.read()),
        };
        self.agenda.push_back(Todo::Deliver(Delivery {
            node,
            to: by,
            result,
            session,
            witness: Witness::default(),
        }));
    }

    /// Answers a call of another node.
    fn serve(
        &mut self,
        world: &mut World,
        node: NodeIx,
        (peer, epoch): (NodeIx, u64),
        request: CallRequest,
    ) -> Step {
        let id = request.id;
        let place = (node, peer, epoch, id);
        if self.served.contains_key(&place) {
            let why = "on the lane of calls: a call under the name of another";
            return world.on_disconnect(node, world.hosts[peer].id, Epoch(epoch), None, why);
        }
        let of_peer = self
            .served
            .keys()
            .filter(|(at, of, ..)| (*at, *of) == (node, peer))
            .count();
        if of_peer >= SERVED_OF_PEER_MAX {
            let message = "nothing changed: the node answers as many calls of others as it may; retry later";
            let error = Error::new(ErrorKind::Overloaded, message);
            world.send_reply(node, (peer, epoch, id), Err(error), None);
            return Ok(());
        }
        let timeout_ms = request.timeout_ms.min(TIMEOUT_MS_MAX);
        match Call::from_request(request) {
            Ok((call, session)) => {
                let by = By::Peer { peer, epoch, id };
                let call = self.open(world, node, by, call, session, timeout_ms);
                self.served.insert(place, call);
            }
            Err(error) => world.send_reply(node, (peer, epoch, id), Err(error), None),
        }
        Ok(())
    }

    /// A call of another node is answered.
    pub(super) fn reply_to_peer(
        &mut self,
        world: &mut World,
        node: NodeIx,
        (peer, epoch, id): (NodeIx, u64, u64),
        result: Result<Payload, Error>,
        session: Option<Token>,
    ) {
        // If its link has ended meanwhile, nobody waits.
        if self.served.remove(&(node, peer, epoch, id)).is_some() {
            world.send_reply(node, (peer, epoch, id), result, session);
        }
    }
}

fn unanswered(peer: NodeIx, why: &str) -> Error {
    let message = format!(
        "node {peer} was called and its answer is lost: {why}. Whether the function ran is not known"
    );
    Error::new(ErrorKind::Unanswered, message)
}

impl World {
    /// A frame on the lane of calls.
    fn send_call(&mut self, from: NodeIx, to: NodeIx, epoch: Epoch, bytes: Bytes) {
        self.send_beside((from, to, epoch.0), Lane::Calls.index() as u8, bytes);
    }

    /// A frame on a stream beside the lanes.
    pub(super) fn send_on_stream(&mut self, over: (NodeIx, NodeIx, u64), bytes: Bytes) {
        self.send_beside(over, STREAMS, bytes);
    }

    fn send_beside(&mut self, (from, to, epoch): (NodeIx, NodeIx, u64), lane: u8, bytes: Bytes) {
        let now = self.kernel.now();
        let kernel = &mut self.kernel;
        let outgoing = Outgoing {
            from,
            to,
            epoch,
            lane,
            bytes,
        };
        self.net.send(now, outgoing, &mut |at, event| {
            kernel.at(at, WorldEvent::Net(event))
        });
    }

    fn send_reply(
        &mut self,
        node: NodeIx,
        (peer, epoch, id): (NodeIx, u64, u64),
        result: Result<Payload, Error>,
        session: Option<Token>,
    ) {
        let reply = |result: Result<Payload, Error>, token: Option<Token>| {
            CallFrame::Reply(CallReply {
                id,
                result: result.map(WireValue::of).map_err(|error| WireError::of(&error)),
                token: token.map(|token| token.to_bytes().into()),
            })
            .encode()
        };
        let mut frame = reply(result, session);
        if frame.len() > FRAME_BYTES_MAX {
            let message = format!(
                "the function has run, and its answer of {} bytes is too large for another node",
                frame.len()
            );
            frame = reply(Err(Error::new(ErrorKind::Unanswered, message)), None);
        }
        self.send_call(node, peer, Epoch(epoch), frame);
    }
}
