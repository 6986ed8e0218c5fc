//! Clients: whom they ask, and what they hear.

use anabranch::{Error, ErrorKind, Payload, Token};

use super::calling::Witness;
use super::cluster::Cluster;
use super::streams::has_left;
use super::{Apps, By, CallIx, Delivery, Event, Step};
use crate::app::{Answered, Ask, Client as Asking, Replied, What};
use crate::net::NodeIx;
use crate::oracle::{Rule, broken};
use crate::plan::Plan;
use crate::queue::Micros;
use crate::rng::Rng;
use crate::world::World;

/// Somebody who asks, one thing at a time.
#[derive(Debug)]
pub(super) struct Client {
    ix: usize,
    home: NodeIx,
    /// Calls so far: names their chances.
    asked: u64,
    session: Token,
    /// What it asks next, once it is time.
    pub(super) wants: Option<Ask>,
    waits: Option<Open>,
}

/// What it waits for.
#[derive(Debug)]
struct Open {
    ask: Ask,
    node: NodeIx,
    at: Micros,
    /// Nothing where there was nobody to ask.
    call: Option<CallIx>,
}

impl Client {
    pub fn new(plan: &Plan, ix: usize) -> Client {
        let home = Rng::stream(plan.seed, "home", ix as u64, 0).below(plan.nodes as u64) as NodeIx;
        Client {
            ix,
            home,
            asked: 0,
            session: Token::default(),
            wants: None,
            waits: None,
        }
    }
}

impl Apps {
    /// A client asks.
    pub(super) fn on_client(&mut self, world: &mut World, ix: usize) -> Step {
        if !world.is_chaos() || self.clients[ix].waits.is_some() {
            return Ok(());
        }
        let Some(ask) = self.clients[ix].wants.take() else {
            let next = self.invent(world, ix);
            if let Some(ask) = next {
                let wait = ask.waits_us().unwrap_or(0);
                self.clients[ix].wants = Some(ask);
                world.plan_event(wait, Event::Client { client: ix });
            }
            return Ok(());
        };
        let client = &mut self.clients[ix];
        if ask.begins_session() {
            client.session = Token::default();
        }
        let node = ask.node().unwrap_or(client.home);
        let nodes = world.hosts.len();
        if let Some(node) = ask.names().filter(|named| *named >= nodes) {
            let why = format!("client {ix} asks node {node} for {ask}: there are {nodes}, from 0 on");
            return Err(broken(Rule::Application, client.home, why));
        }
        let session = ask.is_in_session().then(|| client.session.clone());
        let number = client.asked;
        world.tell(|| format!("client {ix} asks n{node} for {ask}"));
        self.counts.asked += 1;
        let is_there = world.hosts[node].life.is_some();
        let opened = is_there.then(|| self.open_of(world, node, ix, &ask, session));
        self.clients[ix].waits = Some(Open {
            ask,
            node,
            at: world.kernel.now(),
            call: opened,
        });
        let mut rng = Rng::stream(world.plan.seed, "leaves", ix as u64, number);
        match opened {
            Some(call) if rng.chance(self.pace.leaves) => {
                let wait = rng.log_uniform(100.0, 2e6) as u64;
                world.plan_event(wait, Event::Leaves { client: ix, call });
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                let error = Error::new(ErrorKind::Unreachable, "nothing changed: the node is down");
                self.conclude(world, ix, Err(error), None, Witness::default())
            }
        }
    }

    /// A client's question comes to a node.
    fn open_of(
        &mut self,
        world: &mut World,
        node: NodeIx,
        ix: usize,
        ask: &Ask,
        session: Option<Token>,
    ) -> CallIx {
        let (by, timeout_ms) = (By::Client(ix), ask.timeout_ms());
        match ask.is_for() {
            What::Call { call, on: None } => {
                self.call_anywhere(world, node, by, call.clone(), session, timeout_ms)
            }
            What::Call { call, on: Some(on) } if *on == node => {
                self.open(world, node, by, call.clone(), session, timeout_ms)
            }
            What::Call { call, on: Some(on) } => {
                let peer = world.hosts[*on].id;
                self.ask_peer(world, node, (peer, by), call.clone(), session, timeout_ms)
            }
            What::Stream(streamed) => self.stream_of_client(world, (node, ix), ask, streamed, session),
            What::Direct(wants) => self.open_direct(world, (node, ix), wants.clone(), session, timeout_ms),
        }
    }

    /// What a client asks next.
    fn invent(&mut self, world: &mut World, ix: usize) -> Option<Ask> {
        let client = &mut self.clients[ix];
        client.asked += 1;
        let mut rng = Rng::stream(world.plan.seed, "ask", client.ix as u64, client.asked);
        if rng.chance(self.pace.roams) {
            client.home = rng.below(world.plan.nodes as u64) as NodeIx;
        }
        self.application.next(&mut Asking {
            ix,
            home: client.home,
            nodes: world.plan.nodes,
            now: world.kernel.now(),
            rng,
        })
    }

    /// A client does not wait any longer.
    pub(super) fn on_leaves(&mut self, world: &mut World, ix: usize, call: CallIx) -> Step {
        let waits = self.clients[ix].waits.as_ref().and_then(|open| open.call);
        // An answer may be under way to it already.
        let is_open = self.callings.contains_key(&call)
            || self.streams.taking.contains_key(&call)
            || self.routes.contains_key(&call)
            || self.asked.contains_key(&call)
            || self.directs.contains_key(&call);
        if waits != Some(call) || !is_open {
            return Ok(());
        }
        let calling = self.callings.get_mut(&call);
        let witness = calling.map(|calling| std::mem::take(&mut calling.witness));
        if !self.drop_taking(call) {
            self.cancel(world, call);
        }
        self.conclude(world, ix, Err(has_left()), None, witness.unwrap_or_default())
    }

    pub(super) fn on_client_answer(&mut self, world: &mut World, ix: usize, delivery: Delivery) -> Step {
        self.conclude(world, ix, delivery.result, delivery.session, delivery.witness)
    }

    /// A client has its answer, and thinks about the next question.
    fn conclude(
        &mut self,
        world: &mut World,
        ix: usize,
        result: Result<anabranch::Payload, Error>,
        session: Option<Token>,
        Witness { saw, made, read }: Witness,
    ) -> Step {
        let client = &mut self.clients[ix];
        let Some(Open { ask, node, at, .. }) = client.waits.take() else {
            unreachable!("nobody else's answer comes to a client");
        };
        if let Some(seen) = session {
            client.session.join(&seen);
        }
        let answered = Answered {
            client: ix,
            ask,
            node,
            asked_at: at,
            answered_at: world.kernel.now(),
            result,
            saw,
            made,
            read,
        };
        world.note_answer(&answered);
        let count = match &answered.result {
            Ok(_) => &mut self.counts.answered,
            Err(error) if error.kind() == ErrorKind::Refused => &mut self.counts.refused,
            Err(error) if error.changed_state() => &mut self.counts.open,
            Err(_) => &mut self.counts.failed,
        };
        *count += 1;
        let cluster = Cluster::new(world, &self.functions, &self.streams);
        let judged = self.application.on_answer(&answered, &cluster);
        judged.map_err(|why| broken(Rule::Application, node, why))?;
        let mut rng = Rng::stream(world.plan.seed, "think", ix as u64, self.clients[ix].asked);
        let think = 1 + rng.exponential(self.pace.think_us) as Micros;
        world.plan_event(think, Event::Client { client: ix });
        Ok(())
    }
}

impl World {
    /// What clients hear is part of how a run went.
    fn note_answer(&mut self, answered: &Answered) {
        let hash = self.kernel.hash();
        match &answered.result {
            Ok(payload) => hash.absorb_bytes(&payload.bytes),
            Err(error) => hash.absorb_bytes(error.message().as_bytes()),
        }
        self.tell(|| {
            let what = match &answered.result {
                Ok(_) if answered.ask.call().is_none() => answered
                    .read
                    .as_ref()
                    .map_or_else(|| "done".to_owned(), |(ty, value)| format!("{ty} {value:?}")),
                Ok(payload) => legible(payload),
                Err(error) => format!("{:?}: {error}", error.kind()),
            };
            let Answered {
                client, node, ask, ..
            } = answered;
            format!("client {client} hears n{node} of {ask}: {what}")
        });
    }
}

impl World {
    /// What clients hear on streams is, too.
    pub(super) fn note_reply(&mut self, replied: &Replied) {
        self.kernel.hash().absorb_bytes(&replied.payload.bytes);
        self.tell(|| {
            let Replied { client, ask, nth, .. } = replied;
            let what = legible(&replied.payload);
            format!("client {client} takes reply {nth} of {ask}: {what}")
        });
    }
}

/// A reply for people, whatever it came as.
fn legible(payload: &Payload) -> String {
    match payload.read::<serde_json::Value>() {
        Ok(value) => value.to_string(),
        Err(_) => payload.bytes.escape_ascii().to_string(),
    }
}
