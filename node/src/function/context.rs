//! What a function is given besides its entity and its argument.

use std::fmt;
use std::sync::Arc;

use anabranch_crdt::{NodeId, ReplicaId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BoxFuture, Streaming, read_reply};
use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload};
use crate::session::{Call, Command, Effect, Origin};
use crate::terms::Level;
use crate::trace::Trace;
use crate::wire::EntityId;

/// So many calls may one command want made when it is in.
pub const EFFECTS_MAX: usize = 1_000;

/// Who runs a command, where and when, and what its answer waits for.
#[derive(Clone)]
pub struct Context {
    entity: EntityId,
    replica: ReplicaId,
    now_ms: u64,
    random: u64,
    encoding: Encoding,
    origin: Origin,
    level: Option<Level>,
    is_deleted: bool,
    effects: Vec<Effect>,
    forward: Option<Call>,
    problem: Option<String>,
    /// It is for a method that waits for nobody.
    is_alone: bool,
    caller: Option<Arc<dyn Caller>>,
    nodes: Option<Arc<dyn Nodes>>,
}

/// Knows who and what is there, for functions that ask.
pub trait Nodes: Send + Sync {
    /// The runs of other nodes that are believed to be up.
    fn live(&self) -> Vec<ReplicaId>;

    /// How many entities of a kind exist at this node; nothing where nobody counts them.
    fn entities_of(&self, kind: &str) -> Option<u64> {
        let _ = kind;
        None
    }
}

/// Makes calls for a function while it runs. A host of functions has one; so has a simulation.
pub trait Caller: Send + Sync {
    /// Calls an entity's function, at a certain node or at this one, within the time that the function itself has.
    fn call(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Payload, Error>>;

    /// Makes the calls that are wanted besides: those that are waited for in order, the others meanwhile, where there is somebody to
    /// make them meanwhile. How they went nobody is told.
    fn make(&self, effects: Vec<Effect>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for effect in effects {
                // Whoever can note a failure makes them itself.
                let _ = self.call(None, effect.call).await;
            }
        })
    }

    /// The nodes that can be called, without the function's own.
    fn peers(&self) -> Vec<NodeId>;

    /// Opens a stream of an entity's function, at a certain node or at this one.
    ///
    /// # Errors
    /// [`ErrorKind::NoFunction`]: whoever makes calls here opens no streams, or there is no such function.
    fn open(&self, on: Option<NodeId>, call: Call) -> BoxFuture<'_, Result<Streaming, Error>> {
        let _ = on;
        let message = format!("nothing changed: nobody opens streams here, as {call} would be");
        Box::pin(std::future::ready(Err(Error::new(
            ErrorKind::NoFunction,
            message,
        ))))
    }
}

impl Context {
    /// For a function at a node's current run, at a moment of its wall clock, with a seed for whatever it leaves to chance.
    pub fn new(entity: EntityId, replica: ReplicaId, now_ms: u64, seed: u64) -> Context {
        Context {
            entity,
            replica,
            now_ms,
            random: seed,
            encoding: Encoding::Cbor,
            origin: Origin::default(),
            level: None,
            is_deleted: false,
            effects: Vec::new(),
            forward: None,
            problem: None,
            is_alone: false,
            caller: None,
            nodes: None,
        }
    }

    /// The same with somebody who knows which nodes there are.
    #[must_use]
    pub fn with_nodes(self, nodes: Arc<dyn Nodes>) -> Context {
        Context {
            nodes: Some(nodes),
            ..self
        }
    }

    /// The same with somebody who makes its calls.
    #[must_use]
    pub fn with_caller(self, caller: Arc<dyn Caller>) -> Context {
        Context {
            caller: Some(caller),
            ..self
        }
    }

    /// The entity that was asked.
    pub fn entity(&self) -> &EntityId {
        &self.entity
    }

    /// Its key.
    pub fn key(&self) -> &str {
        self.entity.key()
    }

    /// The node that runs the function.
    pub fn node(&self) -> NodeId {
        self.replica.node
    }

    /// The node's current run, as which this command writes, and to which units of a bounded counter are handed over.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The id of this call, if it has one: calls of a [schedule](crate::Order) or for a
    /// [change](crate::FunctionBuilder::on_change) do, and the same call made again has the same id. A function that must not run
    /// twice for one call keeps the ids it has seen. For changes keep only the last id per entity: an id stands for a state, and an
    /// earlier state can recur. Ids of schedules never recur.
    pub fn call_id(&self) -> Option<&str> {
        self.origin.id.as_deref()
    }

    /// The place of this call in its trace, for a function that passes it on.
    pub fn trace(&self) -> Option<Trace> {
        self.origin.trace
    }

    /// The nodes that this one is linked with now, and that can be called. None if this method cannot wait for calls, or nobody
    /// makes calls for functions here.
    pub fn peers(&self) -> Vec<NodeId> {
        self.caller
            .as_ref()
            .map_or_else(Vec::new, |caller| caller.peers())
    }

    /// The runs of nodes that are believed to be up: this one, and those that it is linked with or hears of. This is a hint: it may
    /// be wrong for a while, and differ from node to node. A node that was restarted is another run.
    pub fn live(&self) -> Vec<ReplicaId> {
        let others = self.nodes.as_ref().map_or_else(Vec::new, |nodes| nodes.live());
        std::iter::once(self.replica).chain(others).collect()
    }

    /// How many entities of a kind exist at this node, if somebody knows.
    pub(crate) fn entities_of(&self, kind: &str) -> Option<u64> {
        self.nodes.as_ref()?.entities_of(kind)
    }

    /// The node's wall clock when the command began, milliseconds since 1970. A function that asks no other clock does the
    /// same in a simulation.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// A random number, different at each call. Not for secrets.
    pub fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Makes the reply wait until the change has reached this level. By default, it waits until it is durable at this node.
    pub fn confirm(&mut self, level: Level) {
        self.level = Some(level);
    }

    /// Deletes the entity, as far as the function sees it, once the function returns without an error. Whatever else it does to
    /// its state has no effect then.
    pub fn delete(&mut self) {
        self.is_deleted = true;
    }

    /// Calls another entity's function now, and waits for its answer, no longer than this function's own caller waits. The call is
    /// made at most once: [`ErrorKind::Unanswered`] and [`ErrorKind::Lost`] leave open what happened. What the other function did
    /// stays, even if this command fails. Only for methods made with [`command_async`](crate::FunctionBuilder::command_async).
    ///
    /// Functions that wait for one another in a circle wait until their deadline.
    ///
    /// # Errors
    /// Those of [`Node::call`](crate::Node::call); [`ErrorKind::Refused`] for a call of its own entity, which would wait for itself.
    pub async fn call<A: Serialize + ?Sized, R: DeserializeOwned>(
        &mut self,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<R, Error> {
        let (name, calling) = self.call_at(None, kind, key, method, argument)?;
        read_reply(&name, &calling.await?)
    }

    /// Like [`Context::call`], at this node.
    ///
    /// # Errors
    /// As [`Context::call`]; [`ErrorKind::Unreachable`] if there is no link with that node.
    pub async fn call_on<A: Serialize + ?Sized, R: DeserializeOwned>(
        &mut self,
        node: NodeId,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<R, Error> {
        let (name, calling) = self.call_at(Some(node), kind, key, method, argument)?;
        read_reply(&name, &calling.await?)
    }

    /// Opens a stream of another entity's function, at a certain node or wherever it is. It goes on no
    /// longer than this command.
    ///
    /// # Errors
    /// See [`Context::call`]; [`Node::stream`](crate::Node::stream).
    pub async fn open<A: Serialize + ?Sized>(
        &mut self,
        on: Option<NodeId>,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<Streaming, Error> {
        let call = self.call_of(kind, key, method, argument)?;
        let caller = self.caller_who("opens streams")?;
        caller.open(on, call).await
    }

    /// The call's name, and the call, not made yet: nothing of its argument is kept in its future.
    fn call_at<A: Serialize + ?Sized>(
        &mut self,
        on: Option<NodeId>,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<(String, BoxFuture<'static, Result<Payload, Error>>), Error> {
        let call = self.call_of(kind, key, method, argument)?;
        if call.entity == self.entity && on.is_none_or(|on| on == self.node()) {
            let message = format!(
                "nothing changed: the function of {} would wait for itself",
                self.entity
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let caller = self.caller_who("makes calls")?;
        let name = call.to_string();
        Ok((name, Box::pin(async move { caller.call(on, call).await })))
    }

    /// Whoever does this for it, if anybody does.
    fn caller_who(&self, does: &str) -> Result<Arc<dyn Caller>, Error> {
        self.caller.clone().ok_or_else(|| {
            let why = match self.is_alone {
                true => {
                    "for a method that waits for nobody: make it with `command_async`, or ask for an `effect`"
                }
                false => "for functions here",
            };
            Error::new(
                ErrorKind::NoFunction,
                format!("nothing changed: nobody {does} {why}"),
            )
        })
    }

    /// The call of these names.
    pub(super) fn call_of<A: Serialize + ?Sized>(
        &mut self,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<Call, Error> {
        let call = self.new_call(self.calls_in(), kind, key, method, argument);
        call.ok_or_else(|| {
            let why = self.problem.take().unwrap_or_default();
            Error::new(ErrorKind::Invalid, format!("nothing changed: {why}"))
        })
    }

    /// Calls another entity's function after this command's change has reached its level, and before its caller gets the reply.
    /// Several effects are called in the order in which they were asked for. A failure is logged and told to nobody.
    ///
    /// If the command is refused or fails, none of its effects is called. What must be done all the same, such as undoing an earlier
    /// call, [call](Context::call) before you refuse.
    ///
    /// An effect is called at most once, and not at all if the node stops first or the caller's time is over by then. If there are
    /// many, use [`Context::effect_later`].
    pub fn effect<A: Serialize + ?Sized>(&mut self, kind: &str, key: &str, method: &str, argument: &A) {
        self.add_effect(kind, key, method, argument, true);
    }

    /// Like [`Context::effect`], but the reply does not wait for it.
    pub fn effect_later<A: Serialize + ?Sized>(&mut self, kind: &str, key: &str, method: &str, argument: &A) {
        self.add_effect(kind, key, method, argument, false);
    }

    /// Calls another entity's function after this command's change is in, and gives the caller that function's answer instead of
    /// this one's reply.
    pub fn forward<A: Serialize + ?Sized>(&mut self, kind: &str, key: &str, method: &str, argument: &A) {
        // What it is answered its caller reads.
        self.forward = self.new_call(self.encoding, kind, key, method, argument);
    }

    fn add_effect<A: Serialize + ?Sized>(
        &mut self,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
        awaited: bool,
    ) {
        if self.effects.len() >= EFFECTS_MAX {
            self.problem = Some(format!("a command has at most {EFFECTS_MAX} effects"));
        } else if let Some(call) = self.new_call(self.calls_in(), kind, key, method, argument) {
            self.effects.push(Effect { call, awaited });
        }
    }

    /// How its own calls are written. One that was called by JSON calls by JSON, which functions in other processes take, too.
    fn calls_in(&self) -> Encoding {
        match self.encoding {
            Encoding::Json => Encoding::Json,
            Encoding::Cbor | Encoding::Postcard | Encoding::Protobuf => Encoding::Cbor,
        }
    }

    fn new_call<A: Serialize + ?Sized>(
        &mut self,
        encoding: Encoding,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Option<Call> {
        let entity = EntityId::new(kind, key).map_err(|e| e.to_string());
        let payload = Payload::of(encoding, argument).map_err(|e| e.to_string());
        let call = entity.and_then(|entity| {
            Ok(Call {
                origin: self.origin.onward(),
                ..Call::new(entity, method, payload?)
            })
        });
        call.map_err(|why| self.problem = Some(format!("a call of {kind}/{key} cannot be made: {why}")))
            .ok()
    }

    /// The same at another moment.
    pub fn at(self, now_ms: u64) -> Context {
        Context { now_ms, ..self }
    }

    /// The command that it is for.
    pub(crate) fn begin(&mut self, command: &Command) {
        self.encoding = command.payload.encoding;
        self.origin.clone_from(&command.origin);
    }

    /// What the command wants done once it is in; refused where some of it cannot be.
    pub(crate) fn calls(&mut self) -> Result<(Vec<Effect>, Option<Call>), Error> {
        match self.problem.take() {
            None => Ok((std::mem::take(&mut self.effects), self.forward.take())),
            Some(why) => Err(Error::new(ErrorKind::Refused, format!("nothing changed: {why}"))),
        }
    }

    /// Its method can wait for nobody.
    pub(super) fn waits_for_nobody(&mut self) {
        self.is_alone = true;
    }

    pub(crate) fn level(&self) -> Option<Level> {
        self.level
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.is_deleted
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("entity", &self.entity)
            .field("replica", &self.replica)
            .field("now_ms", &self.now_ms)
            .finish_non_exhaustive()
    }
}
