//! Calls that go to whichever node has the function, and on to the next where that is allowed.
//!
//! Not here: who is asked next, and after what (`anabranch::session::route`).

use anabranch::engine::Time;
use anabranch::session::forward_failed;
use anabranch::session::route::Route;
use anabranch::{Call, Error, NodeId, Payload, Token};

use super::calling::Stage;
use super::checks::has;
use super::{Apps, By, Delivery, Todo};
use crate::net::NodeIx;
use crate::rng::Rng;
use crate::world::World;

/// A call that is with one of several nodes.
#[derive(Debug)]
pub(super) struct Routing {
    pub node: NodeIx,
    pub by: By,
    call: Call,
    session: Option<Token>,
    route: Route,
}

impl Apps {
    /// Calls the function of an entity, here if it is here. Returns the call's number, by which it can be cancelled.
    pub(super) fn call_anywhere(
        &mut self,
        world: &World,
        node: NodeIx,
        by: By,
        call: Call,
        session: Option<Token>,
        timeout_ms: u64,
    ) -> u64 {
        let is_here = has(&self.functions[node], &call);
        if is_here && !call.is_idempotent {
            return self.open(world, node, by, call, session, timeout_ms);
        }
        let deadline = Time(world.kernel.now()).after_ms(timeout_ms);
        let number = self.number();
        let mut nodes = world.nearest(node, number);
        if is_here {
            nodes.insert(0, world.hosts[node].id);
        }
        let routing = Routing {
            node,
            by,
            route: Route::new(nodes, &call, deadline),
            call,
            session,
        };
        self.routes.insert(number, routing);
        self.agenda.push_back(Todo::Ask(number));
        number
    }

    /// Asks the next node, or says how it went.
    pub(super) fn ask_next(&mut self, world: &mut World, number: u64) {
        let Some(routing) = self.routes.get_mut(&number) else {
            return;
        };
        let (node, by) = (routing.node, By::Routed { number });
        let next = routing.route.next(Time(world.kernel.now()));
        let (call, session) = (routing.call.clone(), routing.session.clone());
        match next {
            Some((peer, own_ms)) if peer == world.hosts[node].id => {
                self.open(world, node, by, call, session, own_ms);
            }
            Some((peer, own_ms)) => {
                self.ask_peer(world, node, (peer, by), call, session, own_ms);
            }
            None => {
                let function = self.functions[node].get(call.entity.kind());
                let here = function.map(|function| function.methods().map(str::to_owned).collect());
                let Some(routing) = self.routes.remove(&number) else {
                    return;
                };
                let error = routing.route.over(&call, here);
                self.deliver_routed(node, routing.by, Err(error), routing.session);
            }
        }
    }

    /// Who was asked has answered.
    pub(super) fn on_routed(&mut self, number: u64, result: Result<Payload, Error>, session: Option<&Token>) {
        let Some(routing) = self.routes.get_mut(&number) else {
            return;
        };
        if let (Some(token), Some(seen)) = (&mut routing.session, session) {
            token.join(seen);
        }
        match routing.route.heard(result) {
            None => self.agenda.push_back(Todo::Ask(number)),
            Some(ended) => {
                if let Some(Routing {
                    node, by, session, ..
                }) = self.routes.remove(&number)
                {
                    self.deliver_routed(node, by, ended, session);
                }
            }
        }
    }

    /// What a call was forwarded to is not here.
    pub(super) fn forward_elsewhere(&mut self, world: &World, ix: u64, next: Call) {
        let Some(calling) = self.callings.get_mut(&ix) else {
            return;
        };
        (calling.call, calling.did, calling.stage) = (next.clone(), false, Stage::Elsewhere);
        let (node, session) = (calling.node, calling.session.clone());
        let left_ms = Time(world.kernel.now()).ms_until(calling.deadline);
        self.call_anywhere(world, node, By::Forward { of: ix }, next, session, left_ms);
    }

    /// And has answered there.
    pub(super) fn on_forwarded(&mut self, ix: u64, result: Result<Payload, Error>, seen: Option<&Token>) {
        let Some(mut calling) = self.callings.remove(&ix) else {
            return;
        };
        if let Some(seen) = seen {
            calling.learn(seen);
        }
        let result = match result {
            Err(error) if calling.changed => Err(forward_failed(&calling.call.entity, &error)),
            result => result,
        };
        self.answer(calling, result);
    }

    fn deliver_routed(
        &mut self,
        node: NodeIx,
        to: By,
        result: Result<Payload, Error>,
        session: Option<Token>,
    ) {
        self.agenda.push_back(Todo::Deliver(Delivery {
            node,
            to,
            result,
            session,
            witness: Default::default(),
        }));
    }
}

impl World {
    /// The nodes that one is linked with, the nearest first: any may be, at any time.
    pub(super) fn nearest(&self, node: NodeIx, number: u64) -> Vec<NodeId> {
        let mut peers = self.peers(node);
        if !peers.is_empty() {
            let mut rng = Rng::stream(self.plan.seed, "nearest", node as u64, number);
            let first = rng.below(peers.len() as u64) as usize;
            peers.rotate_left(first);
        }
        peers
    }
}
