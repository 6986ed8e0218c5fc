//! What a function is given besides its entity and its argument.

use anabranch_crdt::NodeId;
use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, Payload};
use crate::session::{Call, Command, Effect};
use crate::terms::Level;
use crate::wire::EntityId;

/// So many calls may one command want made when it is in.
pub const EFFECTS_MAX: usize = 1_000;

/// Who runs a command, where and when, and what its answer waits for.
#[derive(Clone, Debug)]
pub struct Context {
    entity: EntityId,
    node: NodeId,
    now_ms: u64,
    random: u64,
    encoding: Encoding,
    depth: u8,
    level: Option<Level>,
    is_deleted: bool,
    effects: Vec<Effect>,
    forward: Option<Call>,
    problem: Option<String>,
}

impl Context {
    /// For a function at a node, at a moment of its wall clock, with a seed for whatever it leaves to chance.
    pub fn new(entity: EntityId, node: NodeId, now_ms: u64, seed: u64) -> Context {
        Context {
            entity,
            node,
            now_ms,
            random: seed,
            encoding: Encoding::Postcard,
            depth: 0,
            level: None,
            is_deleted: false,
            effects: Vec::new(),
            forward: None,
            problem: None,
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
        self.node
    }

    /// The node's wall clock when the command began, milliseconds since 1970. A function that asks no other clock does the
    /// same in a simulation.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// A random number, another one each time. Not for secrets.
    pub fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The reply is to wait until what this command did is where this level says. Without it: durable at this node.
    pub fn confirm(&mut self, level: Level) {
        self.level = Some(level);
    }

    /// Deletes the entity, as far as the function sees it, once it returns well. Whatever else it does to its state is nothing
    /// then.
    pub fn delete(&mut self) {
        self.is_deleted = true;
    }

    /// Calls another entity's function once what this command did is in, where its level says, and before its reply is heard; in
    /// the order in which they were asked for. How it goes nobody is told: a function that fails leaves a line in the log.
    ///
    /// A node runs it at most once, and not at all if it stops before.
    pub fn effect<A: Serialize + ?Sized>(&mut self, kind: &str, key: &str, method: &str, argument: &A) {
        self.add_effect(kind, key, method, argument, true);
    }

    /// The same, and the reply does not wait for it.
    pub fn effect_later<A: Serialize + ?Sized>(&mut self, kind: &str, key: &str, method: &str, argument: &A) {
        self.add_effect(kind, key, method, argument, false);
    }

    /// The caller is to hear what another entity's function answers to this, in place of this one's reply. What this command did
    /// is in before.
    pub fn forward<A: Serialize + ?Sized>(&mut self, kind: &str, key: &str, method: &str, argument: &A) {
        self.forward = self.call(kind, key, method, argument);
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
        } else if let Some(call) = self.call(kind, key, method, argument) {
            self.effects.push(Effect { call, awaited });
        }
    }

    fn call<A: Serialize + ?Sized>(
        &mut self,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Option<Call> {
        let entity = EntityId::new(kind, key).map_err(|e| e.to_string());
        let payload = Payload::of(self.encoding, argument).map_err(|e| e.to_string());
        let call = entity.and_then(|entity| {
            Ok(Call {
                depth: self.depth.saturating_add(1),
                ..Call::new(entity, method, payload?)
            })
        });
        call.map_err(|why| self.problem = Some(format!("a call of {kind}/{key} cannot be made: {why}")))
            .ok()
    }

    /// The command that it is for.
    pub(crate) fn begin(&mut self, command: &Command) {
        (self.encoding, self.depth) = (command.payload.encoding, command.depth);
    }

    /// What the command wants done once it is in; refused where some of it cannot be.
    pub(crate) fn calls(&mut self) -> Result<(Vec<Effect>, Option<Call>), Error> {
        match self.problem.take() {
            None => Ok((std::mem::take(&mut self.effects), self.forward.take())),
            Some(why) => Err(Error::new(ErrorKind::Refused, format!("nothing changed: {why}"))),
        }
    }

    pub(crate) fn level(&self) -> Option<Level> {
        self.level
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.is_deleted
    }
}
