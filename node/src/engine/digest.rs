//! Digests: whether two nodes have the same. At rest they exchange one number for all their shards; where it differs they go on
//! shard by shard, and ask for statements of those that differ.
//! Not here: what such a statement says, and what becomes of it (`said`).

use std::collections::BTreeMap;

use anabranch_crdt::{NodeId, planted};

use crate::engine::Engine;
use crate::engine::translate::Refused;
use crate::wire::{Frame, Lane, Rollup, ShardId, Summaries};

impl Engine {
    /// Brings the sum of all summaries up to date.
    pub(crate) fn rollup(&mut self) -> u64 {
        for id in std::mem::take(&mut self.stale_summaries) {
            let summary = self.shards[id.0 as usize].summary(&self.key);
            let before = std::mem::replace(&mut self.summaries[id.0 as usize], summary);
            self.rollup = self.rollup.wrapping_sub(before).wrapping_add(summary);
        }
        self.rollup
    }

    pub(crate) fn on_digests_due(&mut self) {
        let (now, every) = (self.now.time, self.config.limits.digest_every_ms);
        let due: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.digest_at <= now)
            .map(|(n, _)| *n)
            .collect();
        if due.is_empty() {
            return;
        }
        for peer in due {
            if let Some(p) = self.peers.get_mut(&peer) {
                p.digest_at = planted!(
                    "one_digest",
                    crate::engine::io::Time(u64::MAX),
                    now.after_ms(every)
                );
            }
            self.send_rollup(peer);
            self.send(peer, Lane::Control, &Frame::Clock(self.now.wall_ms));
        }
    }

    fn send_rollup(&mut self, peer: NodeId) {
        let summary = self.rollup();
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.told_rollup = Some(summary);
        }
        let frame = Frame::Rollup(Rollup {
            summary,
            durable: self.persist.all_durable(),
            shards: self.config.shards,
        });
        self.send(peer, Lane::Control, &frame);
    }

    pub(crate) fn on_rollup(&mut self, peer: NodeId, m: &Rollup) -> Result<(), Refused> {
        if m.shards != self.config.shards {
            return Err(format!(
                "a cluster of {} shards, this one has {}",
                m.shards, self.config.shards
            ));
        }
        if self.rollup() == m.summary {
            let mut unsure = Vec::new();
            for id in (0..self.config.shards).map(ShardId) {
                self.peer_equals(peer, id, m.durable);
                if self.matters_on_disk(peer, id) {
                    unsure.push(id);
                }
            }
            self.ask_about(peer, unsure);
            // What it heard last was another sum, of before this node had all that it has: it is to know that they are equal now.
            if self
                .peers
                .get(&peer)
                .is_some_and(|of| of.told_rollup != Some(m.summary))
            {
                self.send_rollup(peer);
            }
            return Ok(());
        }
        if self.config.node < peer {
            self.send_summaries(peer, true);
        } else {
            // One of the two goes on; should ours have been lost, this one makes it.
            self.send_rollup(peer);
        }
        Ok(())
    }

    fn send_summaries(&mut self, peer: NodeId, reply: bool) {
        self.rollup();
        let shards = self
            .summaries
            .iter()
            .enumerate()
            .filter(|(_, s)| **s != 0)
            .map(|(i, s)| (i as u32, *s))
            .collect();
        self.send(
            peer,
            Lane::Control,
            &Frame::Summaries(Summaries { shards, reply }),
        );
    }

    pub(crate) fn on_summaries(&mut self, peer: NodeId, m: &Summaries) -> Result<(), Refused> {
        self.rollup();
        let mut theirs: BTreeMap<u32, u64> = BTreeMap::new();
        for &(shard, summary) in &m.shards {
            self.shard_id(shard)?;
            theirs.insert(shard, summary);
        }
        let (mut differing, mut unsure) = (Vec::new(), Vec::new());
        for i in 0..self.config.shards {
            let id = ShardId(i);
            if self.summaries[i as usize] == theirs.get(&i).copied().unwrap_or(0) {
                self.peer_equals(peer, id, false);
                if self.matters_on_disk(peer, id) {
                    unsure.push(id);
                }
            } else {
                differing.push(id);
            }
        }
        if m.reply {
            self.send_summaries(peer, false);
            unsure.extend(differing);
        }
        self.ask_about(peer, unsure);
        Ok(())
    }

    /// Whether somebody waits for word of what a peer has of a shard on its disk, or slots are kept for want of it. A summary does not
    /// say that, and while others write somewhere all the time no rollup may be equal to one of ours.
    fn matters_on_disk(&self, peer: NodeId, id: ShardId) -> bool {
        let shard = &self.shards[id.0 as usize];
        let matters = shard.rings.values().any(|ring| ring.len() > 0) || self.is_urgent(id);
        let view = shard.peers.get(&peer);
        matters && view.is_none_or(|view| !view.durable.covers(&shard.vv))
    }

    /// A peer's shard is exactly as ours.
    fn peer_equals(&mut self, peer: NodeId, id: ShardId, durable: bool) {
        let Some(p) = self.peers.get_mut(&peer) else {
            return;
        };
        p.staging.drop_shard(id);
        let shard = self.shard(id);
        let applied = shard.vv.clone();
        let view = shard.peers.entry(peer).or_default();
        if durable {
            view.durable.join(&applied);
        }
        view.applied.join(&applied);
        // Being as we are, it covers our base: it has caught up.
        let counts_anew = !(view.voting && view.known);
        view.voting = true;
        view.is_known(shard.me);
        let counts_now = !std::mem::replace(&mut shard.caught_up, true);
        shard.outdated = false;
        if counts_anew {
            self.count_anew();
        }
        if counts_now {
            self.on_caught_up(id);
        }
        if durable && !applied.is_empty() {
            self.trim(id);
        }
        self.release_copies(id);
    }

    /// This node counts for majorities in a shard from now on. There need be no other news, so others would hear of it with the next
    /// digest only.
    pub(crate) fn on_caught_up(&mut self, id: ShardId) {
        self.said.news(id, self.now.time);
        self.count_anew();
    }
}
