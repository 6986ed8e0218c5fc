//! A look at every node, for oracles.

use anabranch::session::{Action, Command, CommandId, Said};
use anabranch::{Call, Encoding, EntityId, NodeId, Payload, Reading, Type};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::streams::Streams;
use super::{Apps, Functions};
use crate::app::call;
use crate::net::NodeIx;
use crate::queue::Micros;
use crate::world::World;
use anabranch::engine::Time;

/// The nodes as they are at this moment. Looking changes nothing.
pub struct Cluster<'a> {
    world: &'a World,
    functions: &'a [Functions],
    streams: &'a Streams,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(world: &'a World, functions: &'a [Functions], streams: &'a Streams) -> Cluster<'a> {
        Cluster {
            world,
            functions,
            streams,
        }
    }

    /// How many functions answer with streams at a node now, whoever waits for them and wherever: queries that are followed, too.
    pub fn streams(&self, node: NodeIx) -> usize {
        self.streams.at(node)
    }

    /// How many nodes there are, running or not.
    pub fn nodes(&self) -> usize {
        self.world.hosts.len()
    }

    /// Whether a client has a stream that has not ended.
    pub fn has_stream(&self, client: usize) -> bool {
        self.streams.taking.values().any(|taking| taking.client == client)
    }

    /// A node's id.
    pub fn node_id(&self, node: NodeIx) -> NodeId {
        self.world.hosts[node].id
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: NodeIx) -> bool {
        self.world.hosts[node].life.is_some()
    }

    /// Virtual time, microseconds.
    pub fn now(&self) -> Micros {
        self.world.now()
    }

    /// What a node's wall clock says, milliseconds since 1970.
    pub fn wall_ms(&self, node: NodeIx) -> u64 {
        self.world.hosts[node].wall_ms(self.world.now())
    }

    /// What an entity holds at a node; nothing if it does not exist there, or the node is down.
    pub fn read(&self, node: NodeIx, entity: &EntityId) -> Option<(Type, Reading)> {
        self.world.hosts[node].life.as_ref()?.engine.read(entity)
    }

    /// What a function's query answers at a node.
    ///
    /// # Errors
    /// The node is down, there is no such query, it refuses, or its reply is none of this type.
    ///
    /// # Panics
    /// The name is no entity's, or the argument cannot be written.
    pub fn query<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        node: NodeIx,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<R, String> {
        let call = call(Encoding::Cbor, kind, key, method, argument);
        let failed = |why: String| format!("node {node} does not say {call}: {why}");
        let Some(host) = self.world.hosts.get(node) else {
            return Err(failed(format!("there are {}, from 0 on", self.world.hosts.len())));
        };
        let Some(life) = &host.life else {
            return Err(failed("it is down".to_owned()));
        };
        let function = self.functions[node].get(kind);
        let function = function.ok_or_else(|| failed(format!("there is no function of {kind:?}")))?;
        if !function.is_query(method).map_err(|e| failed(e.to_string()))? {
            return Err(failed("it is no query".to_owned()));
        }
        let view = life.engine.view(&call.entity, function.ty());
        let command = Command {
            method: call.method.clone(),
            payload: call.payload.clone(),
            deadline: Time(u64::MAX),
            origin: call.origin.clone(),
        };
        let context = self.world.context(node, &call.entity, 0);
        let view = view.map_err(|e| failed(e.to_string()))?;
        match function.run(CommandId(0), &command, view, context) {
            Said::Reply(reply) => match reply.action {
                Action::Reply(payload) => payload.read().map_err(|e| failed(e.to_string())),
                Action::Refuse(error) => Err(failed(error.to_string())),
                Action::Forward(to) => Err(failed(format!("it forwards to {to}"))),
            },
            Said::Failed { error, .. } => Err(failed(error.to_string())),
            Said::Ended | Said::Streamed { .. } => unreachable!("a function in Rust answers, at once"),
        }
    }
}

/// A query is asked at another time, too, to know whether it goes by the time: so much later, milliseconds.
const LATER_MS: u64 = 3_600_000;

impl Apps {
    /// What a query answers at a node, whenever it is asked; nothing where it is none, refuses, or goes by time or chance.
    pub(super) fn answers(&self, world: &World, node: NodeIx, call: &Call) -> Option<Payload> {
        let function = self.functions[node].get(call.entity.kind())?;
        if function.is_query(&call.method) != Ok(true) {
            return None;
        }
        let command = Command {
            method: call.method.clone(),
            payload: call.payload.clone(),
            deadline: Time(u64::MAX),
            origin: call.origin.clone(),
        };
        let now_ms = world.hosts[node].wall_ms(world.now());
        let ask = |chance: u64, now_ms: u64| {
            let view = world.hosts[node]
                .life
                .as_ref()?
                .engine
                .view(&call.entity, function.ty());
            let context = world.context(node, &call.entity, chance).at(now_ms);
            match function.run(CommandId(0), &command, view.ok()?, context) {
                Said::Reply(reply) => match reply.action {
                    Action::Reply(payload) => Some(payload),
                    _ => None,
                },
                _ => None,
            }
        };
        let now = ask(0, now_ms)?;
        (ask(1, now_ms + LATER_MS)? == now).then_some(now)
    }
}
