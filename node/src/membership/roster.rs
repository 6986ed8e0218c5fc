//! Which nodes chitchat may know of, and how much of each.
//!
//! chitchat keeps whatever it hears: every (node, epoch) ever named, every key under it, for a quarter of an hour after its
//! death, and says all of their ids in each message. Beyond some hundred of them it cannot make its messages any more. So
//! what it may hear is decided here, before it hears it: of each node the newest epoch alone, and of everything a bounded
//! number. What is left out is counted; a wrong hint costs time, never data.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_crdt::{Epoch, NodeId};

use crate::membership::limits::{
    IDS_COMPACT_MIN, IDS_HEARSAY_MAX, IDS_MAX, IDS_OF_NODE_MAX, IDS_OUTDATED_MAX, IDS_WARN_MIN, KEYS_MAX,
};

/// A node in one of its lives.
pub(super) type Id = (NodeId, Epoch);

/// What chitchat knows, and may come to know.
#[derive(Debug)]
pub(super) struct Roster {
    me: Id,
    /// The keys of every id.
    known: BTreeMap<Id, BTreeSet<String>>,
    /// What the message brought that chitchat is being given now, and may not show yet.
    fresh: BTreeMap<Id, BTreeSet<String>>,
    /// Nodes with a link to this one.
    linked: BTreeSet<NodeId>,
    refused: u64,
    warned: bool,
}

impl Roster {
    pub(super) fn new(node: NodeId, epoch: Epoch) -> Roster {
        let me = (node, epoch);
        Roster {
            me,
            known: BTreeMap::from([(me, BTreeSet::new())]),
            fresh: BTreeMap::new(),
            linked: BTreeSet::new(),
            refused: 0,
            warned: false,
        }
    }

    pub(super) fn link_up(&mut self, node: NodeId) {
        self.linked.insert(node);
    }

    pub(super) fn link_down(&mut self, node: NodeId) {
        self.linked.remove(&node);
    }

    pub(super) fn linked(&self) -> &BTreeSet<NodeId> {
        &self.linked
    }

    /// What was left out so far because there was no room or it made no sense: messages, ids, changes.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// How many ids there are.
    pub(super) fn ids(&self) -> usize {
        self.known.len()
    }

    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// chitchat has taken in every message before the one that comes now.
    pub(super) fn next_message(&mut self) {
        self.fresh.clear();
    }

    /// What chitchat shows now.
    pub(super) fn seen(&mut self, known: BTreeMap<Id, BTreeSet<String>>) {
        self.known = known;
        self.known.entry(self.me).or_default();
        for (id, keys) in &self.fresh {
            self.known.entry(*id).or_default().extend(keys.iter().cloned());
        }
    }

    /// Whether so much of what there is are earlier lives of nodes that chitchat shall begin anew without them.
    pub(super) fn is_crowded_by_the_dead(&self) -> bool {
        let mut lives: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (node, _) in self.known.keys() {
            *lives.entry(*node).or_default() += 1;
        }
        let outdated = self.known.len() - lives.len();
        (self.known.len() >= IDS_COMPACT_MIN && outdated > IDS_OUTDATED_MAX)
            || lives.values().any(|count| *count >= IDS_OF_NODE_MAX)
    }

    /// chitchat begins anew and knows nobody.
    pub(super) fn forget_all(&mut self) {
        self.known = BTreeMap::from([(self.me, BTreeSet::new())]);
        self.fresh.clear();
        self.warned = false;
    }

    /// Whether this is the node itself, in this life.
    pub(super) fn is_me(&self, id: Id) -> bool {
        id == self.me
    }

    pub(super) fn is_known(&self, id: Id) -> bool {
        self.known.contains_key(&id)
    }

    /// Whether chitchat may hear of this id from this node.
    pub(super) fn admit(&mut self, id: Id, from: NodeId) -> bool {
        if self.is_known(id) {
            return true;
        }
        let (node, epoch) = id;
        let lives = || self.known.range((node, Epoch(0))..=(node, Epoch(u64::MAX)));
        let newest = lives().next_back();
        // Who has a link speaks for itself: nobody outdates it by naming an epoch it does not have.
        let is_hearsay = self.linked.contains(&node) && from != node;
        let is_old = newest.is_some_and(|((_, known), _)| *known > epoch);
        if is_old || is_hearsay {
            return false;
        }
        // Names that somebody makes up must not keep out who is there.
        let room = if from == node { IDS_MAX } else { IDS_HEARSAY_MAX };
        if self.known.len() >= room || lives().count() >= IDS_OF_NODE_MAX {
            self.refused += 1;
            return false;
        }
        self.known.insert(id, BTreeSet::new());
        self.fresh.insert(id, BTreeSet::new());
        if self.known.len() >= IDS_WARN_MIN && !self.warned {
            self.warned = true;
            tracing::warn!(
                ids = self.known.len(),
                "gossip knows almost as many nodes and earlier lives of them as it can: from {IDS_MAX} on, others are left out"
            );
        }
        true
    }

    /// Whether chitchat may hear of this key of an id it knows.
    pub(super) fn admit_key(&mut self, id: Id, key: &str) -> bool {
        let Some(keys) = self.known.get_mut(&id) else {
            return false;
        };
        if keys.contains(key) {
            return true;
        }
        if keys.len() >= KEYS_MAX {
            return false;
        }
        keys.insert(key.to_owned());
        self.fresh.entry(id).or_default().insert(key.to_owned());
        true
    }
}
