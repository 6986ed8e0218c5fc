//! What earlier runs of this node held of bounded counters, and when it is this run's.
//!
//! A right is used once. What a run that is over held may be used by the node's current run, and by nobody else, as soon as
//! nothing can have been done with it that is not known here. Two things see to that. What a run does to a bounded counter leaves
//! the node only once it is on its disk, so a directory knows all that the runs it began have done to them. And should the directory
//! be an old copy, or its disk have lost something, then others have more of this node's than it has: so each member must have
//! said over the link with this run what it has, and all of that must be here.
//!
//! Contract: nothing is inherited of a run that this directory did not begin, or that began before it kept to the above.

use anabranch_crdt::{Epoch, NodeId, ReplicaId, Type, planted};

use crate::engine::Engine;
use crate::engine::shard::Shard;
use crate::wire::{Record, ShardId};

impl Engine {
    /// From which run on what runs of this node held of a shard's bounded counters is this run's; none while it has only what it
    /// came by itself.
    pub fn inherits(&self, shard: ShardId) -> Option<Epoch> {
        let first = self.keeps_since.filter(|first| *first < self.started.epoch)?;
        let shard = &self.shards[shard.0 as usize];
        let mut others = self.members.iter().filter(|node| **node != self.config.node);
        let has_others = self.members.len() > 1;
        // One that left has handed over what it had; or it said that it had more of this node's, and it is not all here.
        let is_alone = self.is_alone() && !shard.outdated;
        let is_known = is_alone || has_others && others.all(|member| self.has_all_of_own(shard, *member));
        planted!("heir_too_soon", true, is_known).then_some(first)
    }

    /// The same for an entity of a type: of no other is anything inherited.
    pub(crate) fn inherited(&self, shard: ShardId, ty: Type) -> Option<Epoch> {
        (ty == Type::BoundedCounter)
            .then(|| self.inherits(shard))
            .flatten()
    }

    /// The same for those who look, with this node's run.
    pub(crate) fn heir(&self, shard: ShardId, ty: Type) -> Option<Box<(ReplicaId, Epoch)>> {
        self.inherited(shard, ty)
            .map(|first| Box::new((self.me(), first)))
    }

    /// Whether a member has said over its link what it has of this node's earlier runs, and all of it is here.
    fn has_all_of_own(&self, shard: &Shard, member: NodeId) -> bool {
        let mut earlier = shard
            .replicas
            .iter()
            .filter(|(_, replica)| replica.node == self.config.node && replica.epoch != self.started.epoch);
        let said = shard.peers.get(&member).filter(|said| said.known);
        let is_linked = self.peers.contains_key(&member);
        said.is_some_and(|said| is_linked && earlier.all(|(ix, _)| said.applied.get(ix) <= shard.vv.get(ix)))
    }

    /// From this run on what is done to bounded counters leaves this node only once it is on its disk, and what runs hold of them is
    /// for later ones: also what was handed to a run that did nothing to any, or that never came to know of it.
    pub(crate) fn keep_for_heirs(&mut self) {
        if self.keeps_since.is_none() {
            self.keep_anew();
        }
    }

    /// Others know a later run than this directory: it may be a copy, and what it says of its earlier runs not be all.
    pub(crate) fn keep_anew(&mut self) {
        let epoch = self.started.epoch;
        self.keeps_since = Some(epoch);
        self.record(Record::KeepsSince(epoch.0), &[]);
    }
}
