//! Who the members are: for each node what was said of it last, and as of which of its epochs.
//!
//! Contract: of two words of a node the one of the later epoch holds, and of one epoch that it left. So it does not matter who says
//! what first, and whoever was away hears it from anybody who was not. Only a link knows better than a word of its own epoch.
//! Gossip's words are hints: that a node is up counts where nothing was said of it, and that it left where it has no link.

use std::collections::BTreeMap;

use anabranch_crdt::{Epoch, NodeId};

use crate::engine::limits::MEMBERS_MAX;
use crate::engine::peers::is_nobodys;
use crate::engine::translate::Refused;
use crate::engine::{Engine, EngineConfig};
use crate::wire::{Frame, Lane, Record, Standing};

/// Words of other nodes: of so many members at most, and of as many that left.
const STANDINGS_MAX: usize = 2 * MEMBERS_MAX;

/// What was said last of each other node. Those that left are kept as members are: no configuration and no hint makes them members.
#[derive(Debug, Default)]
pub(crate) struct Standings(BTreeMap<NodeId, Word>);

/// The later one is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    epoch: Epoch,
    has_left: bool,
}

impl Word {
    /// That a node is a member.
    fn member(epoch: Epoch) -> Word {
        Word {
            epoch,
            has_left: false,
        }
    }

    /// That it left, in the same epoch.
    fn left(self) -> Word {
        Word {
            has_left: true,
            ..self
        }
    }
}

impl Standings {
    /// Of the configured members, of whose epochs nothing is known.
    pub fn configured(config: &EngineConfig) -> Standings {
        let others = config.members.iter().filter(|node| **node != config.node);
        Standings(others.map(|node| (*node, Word::member(Epoch(0)))).collect())
    }

    /// Those that are members.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        let members = self.0.iter().filter(|(_, word)| !word.has_left);
        members.map(|(node, _)| *node)
    }

    /// Whether others were members, or are.
    pub fn has_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// All of it, as it is told and recorded.
    pub fn all(&self) -> impl Iterator<Item = Standing> {
        self.0.iter().map(|(node, word)| said(*node, *word))
    }

    /// Takes a word in. Whether it is news.
    fn take(&mut self, node: NodeId, word: Word) -> bool {
        if self.0.get(&node).is_some_and(|known| *known >= word) {
            return false;
        }
        self.0.insert(node, word);
        true
    }

    /// One that left and is forgotten, where there are too many of them; not one that is configured, which would be a member again.
    fn forget_one(&mut self, configured: &[NodeId]) {
        let left = || self.0.iter().filter(|(_, word)| word.has_left);
        if left().count() > MEMBERS_MAX {
            let forgotten = left().find(|(node, _)| !configured.contains(node));
            if let Some(node) = forgotten.map(|(node, _)| *node) {
                self.0.remove(&node);
            }
        }
    }
}

fn said(node: NodeId, word: Word) -> Standing {
    Standing {
        node: node.0,
        epoch: word.epoch.0,
        has_left: word.has_left,
    }
}

impl Engine {
    /// All that was said of members, this node's own word with it.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let own = said(self.config.node, Word::member(self.started.epoch));
        let all = self.standing.all().chain([own]);
        all.collect()
    }

    /// A link is up: whatever was said of this epoch, the node is there.
    pub(crate) fn on_member_linked(&mut self, node: NodeId, epoch: Epoch) {
        let word = Word::member(epoch);
        if self.standing.0.get(&node) == Some(&word.left()) {
            self.standing.0.remove(&node);
        }
        self.hear_standings(None, vec![said(node, word)]);
    }

    /// Membership's hint that a node is up: it counts where nothing was said of it.
    pub(crate) fn on_member_seen(&mut self, node: NodeId) {
        if !self.standing.0.contains_key(&node) {
            self.hear_standings(None, vec![said(node, Word::member(Epoch(0)))]);
        }
    }

    /// Nothing waits for this node any more. A link to it would know better.
    pub(crate) fn on_member_left(&mut self, node: NodeId) {
        if let Some(word) = self.standing.0.get(&node).filter(|word| !word.has_left) {
            self.hear_standings(None, vec![said(node, word.left())]);
        }
    }

    /// What a peer knows of members.
    pub(crate) fn on_members(&mut self, peer: NodeId, said: Vec<Standing>) -> Result<(), Refused> {
        if said.len() > STANDINGS_MAX + 1 {
            return Err(format!(
                "words of {} nodes, at most {STANDINGS_MAX} are",
                said.len()
            ));
        }
        if let Some(said) = said.iter().find(|said| is_nobodys(said.epoch)) {
            return Err(format!(
                "epoch {} of node {} is nobody's",
                said.epoch,
                NodeId(said.node)
            ));
        }
        self.hear_standings(Some(peer), said);
        Ok(())
    }

    /// Takes in what is news of it. Others may have met this node before it knew that: they hear it from here.
    fn hear_standings(&mut self, from: Option<NodeId>, mut said: Vec<Standing>) {
        // A node's new epoch alone is known to whoever is linked with it.
        let mut moved = Vec::new();
        said.retain(|said| {
            let moves = self.members.contains(&NodeId(said.node)) == said.has_left;
            let is_news = self.hear_standing(said);
            if is_news && moves {
                moved.push(said.clone());
            }
            is_news
        });
        if said.is_empty() {
            return;
        }
        self.record(Record::Standings(said), &[]);
        if moved.iter().any(|said| said.has_left) {
            self.count_anew();
            for id in self.shard_ids() {
                self.trim(id);
                self.release_copies(id);
            }
        }
        if !moved.is_empty() {
            let others: Vec<NodeId> = self
                .peers
                .keys()
                .copied()
                .filter(|other| Some(*other) != from)
                .collect();
            let told = Frame::Members(moved);
            others
                .into_iter()
                .for_each(|other| self.send(other, Lane::Control, &told));
        }
    }

    fn hear_standing(&mut self, said: &Standing) -> bool {
        let node = NodeId(said.node);
        let is_linked = self
            .peers
            .get(&node)
            .is_some_and(|peer| peer.epoch.0 >= said.epoch);
        if said.has_left && is_linked {
            return false;
        }
        if !said.has_left && !self.members.contains(&node) && self.members.len() >= MEMBERS_MAX {
            tracing::error!(%node, "the cluster has {MEMBERS_MAX} members already, this one is ignored");
            return false;
        }
        self.remember_standing(said)
    }

    fn remember_standing(&mut self, said: &Standing) -> bool {
        let node = NodeId(said.node);
        let word = Word {
            epoch: Epoch(said.epoch),
            has_left: said.has_left,
        };
        if node == self.config.node || !self.standing.take(node, word) {
            return false;
        }
        if said.has_left {
            self.members.remove(&node);
            self.standing.forget_one(&self.config.members);
        } else {
            self.members.insert(node);
        }
        true
    }

    /// What was written: in its order each held.
    pub(crate) fn recover_standings(&mut self, said: &[Standing]) {
        for said in said {
            self.standing.0.remove(&NodeId(said.node));
            self.remember_standing(said);
        }
    }

    /// The same, written before words had epochs.
    pub(crate) fn recover_members(&mut self, nodes: Vec<u128>, has_left: bool) {
        for node in nodes {
            let known = self.standing.0.get(&NodeId(node));
            let epoch = known.map_or(0, |word| word.epoch.0);
            self.recover_standings(&[Standing {
                node,
                epoch,
                has_left,
            }]);
        }
    }
}
