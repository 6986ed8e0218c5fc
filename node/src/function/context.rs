//! What a function is given besides its entity and its argument.

use anabranch_crdt::NodeId;

use crate::terms::Level;
use crate::wire::EntityId;

/// Who runs a command, where and when, and what its answer waits for.
#[derive(Clone, Debug)]
pub struct Context {
    entity: EntityId,
    node: NodeId,
    now_ms: u64,
    random: u64,
    level: Option<Level>,
    is_deleted: bool,
}

impl Context {
    /// For a function at a node, at a moment of its wall clock, with a seed for whatever it leaves to chance.
    pub fn new(entity: EntityId, node: NodeId, now_ms: u64, seed: u64) -> Context {
        Context {
            entity,
            node,
            now_ms,
            random: seed,
            level: None,
            is_deleted: false,
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

    pub(crate) fn level(&self) -> Option<Level> {
        self.level
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.is_deleted
    }
}
