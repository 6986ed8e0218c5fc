//! Links to peers: who is connected under which epoch, and how much is under way to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch_crdt::{Epoch, NodeId, ReplicaId, VersionVector, planted};
use bytes::Bytes;

use crate::engine::Engine;
use crate::engine::io::{Output, Time};
use crate::engine::limits::EPOCH_MAX;
use crate::engine::receive::Staging;
use crate::engine::shard::Told;
use crate::wire::{Frame, Lane, ShardId};

/// A peer whose link is up. Its cost does not depend on how far it is behind.
#[derive(Debug)]
pub(crate) struct Peer {
    pub epoch: Epoch,
    /// Bytes sent that the transport has not taken yet.
    pub in_flight: u64,
    /// Shards in which it may lack operations of ours.
    pub dirty: BTreeSet<ShardId>,
    /// When a push goes out although the one before is still under way.
    pub flush_at: Option<Time>,
    /// When to compare everything again.
    pub digest_at: Time,
    /// The sum of all shards that it was told last.
    pub told_rollup: Option<u64>,
    /// Shards of which it has been asked what it has, and has not said; and those of which it is to be asked next.
    pub asked: BTreeSet<ShardId>,
    pub to_ask: VecDeque<ShardId>,
    /// Transfers in parts that are not complete.
    pub staging: Staging,
    /// The last pull it made of each shard: their numbers rise.
    pub pulled: BTreeMap<ShardId, u64>,
}

/// Whether a node may be told to take an epoch above this one. None below has been anybody's before the year 4000, and what a
/// node takes then is below twice as much: whoever claims more would shut it out for ever.
pub(crate) fn may_fence(epoch: Epoch) -> bool {
    epoch.0 < EPOCH_MAX
}

/// Whether no node can be in this epoch. There is room above what a fence may ask for, or a fenced node could not come back.
pub(crate) fn is_nobodys(epoch: u64) -> bool {
    epoch >= EPOCH_MAX * 2
}

impl Engine {
    pub(crate) fn on_connected(&mut self, peer: NodeId, epoch: Epoch, wall_ms: u64) {
        if peer == self.config.node {
            return self.disconnect(peer, epoch, "a node does not link to itself".into());
        }
        if is_nobodys(epoch.0) {
            return self.disconnect(peer, epoch, format!("epoch {epoch} is nobody's"));
        }
        let known = self.known_epochs.get(&peer).copied();
        let is_newer = |known: &Epoch| planted!("backup_keeps_epoch", false, *known > epoch);
        if let Some(known) = known.filter(is_newer) {
            // Its epoch is below one we have seen: the clock went back, or an image was restored. It takes a higher
            // one; nothing of the link under this epoch is read.
            return self.fence(peer, epoch, known);
        }
        self.known_epochs.insert(peer, epoch);
        self.on_member_linked(peer, epoch);
        let before = self.heard_epochs.insert(peer, epoch);
        if before != Some(epoch) {
            self.forget_views(peer);
            // Whoever looked it up a moment ago may still hand something to it.
            self.former_epochs.extend(before.map(|before| (peer, before)));
        }
        for shard in &mut self.shards {
            if let Some(view) = shard.peers.get_mut(&peer) {
                view.known = false;
                view.told = Told::default();
            }
        }
        self.on_first_clock(peer, wall_ms);
        self.peers.insert(
            peer,
            Peer {
                epoch,
                in_flight: 0,
                dirty: BTreeSet::new(),
                flush_at: None,
                digest_at: self.now.time,
                told_rollup: None,
                asked: BTreeSet::new(),
                to_ask: VecDeque::new(),
                staging: Staging::default(),
                pulled: BTreeMap::new(),
            },
        );
        // First: who catches up with this node is to know by then whom a majority is of.
        let all = Frame::Members(planted!("members_not_told", Vec::new(), self.standings()));
        self.send(peer, Lane::Control, &all);
        self.ask_new_peer(peer);
    }

    /// Operations of these replicas are here: the epochs they were made in have been. A node whose link is under an
    /// earlier one is fenced, this node too: as far as it can get past them.
    pub(crate) fn learn_epochs(&mut self, id: ShardId, made: &VersionVector) {
        let replicas = &self.shards[id.0 as usize].replicas;
        let mut news = Vec::new();
        for replica in made.iter().map(|(ix, _)| replicas.id(ix)) {
            if !may_fence(replica.epoch) {
                continue;
            }
            let known = self.known_epochs.entry(replica.node).or_default();
            if *known < replica.epoch {
                *known = replica.epoch;
                news.push(replica);
            }
        }
        for ReplicaId { node, epoch } in news {
            if planted!("backup_keeps_epoch", true, false) {
                continue;
            }
            if node == self.config.node {
                // What is read back was made by this node's earlier runs, and it has no epoch yet.
                if self.started.epoch > Epoch(0) {
                    self.on_fenced(node, epoch);
                }
            } else if let Some(linked) = self.peers.get(&node).map(|p| p.epoch).filter(|e| *e < epoch) {
                self.fence(node, linked, epoch);
            }
        }
    }

    /// Whether a run is one that was heard of: a node's newest, the one that had a link before that, or one that wrote in the shard.
    pub(crate) fn is_known_run(&self, id: ShardId, run: ReplicaId) -> bool {
        let is = |known: &BTreeMap<NodeId, Epoch>| known.get(&run.node) == Some(&run.epoch);
        let replicas = &self.shards[id.0 as usize].replicas;
        is(&self.known_epochs) || is(&self.former_epochs) || replicas.get(run).is_some()
    }

    fn fence(&mut self, peer: NodeId, epoch: Epoch, newest: Epoch) {
        self.counters.fenced += 1;
        self.on_disconnected(peer, epoch);
        self.outputs.push_back(Output::Fence { peer, epoch, newest });
    }

    /// A new epoch of a peer voids what its earlier ones said.
    fn forget_views(&mut self, peer: NodeId) {
        for shard in &mut self.shards {
            shard.peers.remove(&peer);
        }
    }

    pub(crate) fn on_disconnected(&mut self, peer: NodeId, epoch: Epoch) {
        if self.peers.get(&peer).is_some_and(|p| p.epoch == epoch) {
            self.peers.remove(&peer);
            self.forget_pulls_from(peer);
            self.sessions.forget(peer);
            self.forget_frames(peer);
            for shard in &mut self.shards {
                shard.held.retain(|h| h.from_peer != peer);
            }
        }
    }

    pub(crate) fn on_writable(&mut self, peer: NodeId, epoch: Epoch, bytes: u64) {
        if let Some(p) = self.peers.get_mut(&peer).filter(|p| p.epoch == epoch) {
            p.in_flight = p.in_flight.saturating_sub(bytes);
        }
    }

    /// A peer knows a higher epoch of this node, or has operations of one.
    pub(crate) fn on_fenced(&mut self, by: NodeId, newest: Epoch) {
        if !may_fence(newest) {
            self.counters.refused_frames += 1;
            tracing::warn!(peer = %by, %newest, "the peer claims an epoch of this node that is nobody's; ignored");
        } else if newest > self.started.epoch {
            self.counters.fenced += 1;
            self.outputs.push_back(Output::AdoptEpoch { above: newest });
        }
    }

    /// A peer has operations of this run of this node.
    pub(crate) fn on_run_remembered(&mut self, by: NodeId, run: Epoch) {
        let Some(before) = self.started.before else {
            return;
        };
        if run <= before.max(self.lost_run) || run >= self.started.epoch || !may_fence(run) {
            return;
        }
        self.lost_run = run;
        self.counters.lost_runs += 1;
        tracing::warn!(
            peer = %by,
            %run,
            "peers know a later run of this node than its directory does: an older copy of it was put back, or its disk has lost \
             what was durable. What peers have comes from them; what only this node had is gone"
        );
    }

    /// What was written under the old epoch stays as what it is, operations of an earlier epoch: peers take them
    /// like any stream. Nothing more is written under it.
    pub(crate) fn on_epoch_adopted(&mut self, epoch: Epoch) {
        assert!(
            epoch > self.started.epoch,
            "epoch {epoch} adopted after {}",
            self.started.epoch
        );
        self.former_epochs.insert(self.config.node, self.started.epoch);
        self.started.before = self.started.before.map(|_| self.started.epoch);
        self.started.epoch = epoch;
        self.known_epochs.insert(self.config.node, epoch);
        self.keep_anew();
        for shard in &mut self.shards {
            shard.me = None;
            shard.own_resets.clear();
        }
        let links: Vec<(NodeId, Epoch)> = self.peers.iter().map(|(n, p)| (*n, p.epoch)).collect();
        for (peer, peer_epoch) in links {
            self.disconnect(peer, peer_epoch, "this node goes on under a higher epoch".into());
        }
    }

    pub(crate) fn send(&mut self, peer: NodeId, lane: Lane, frame: &Frame) {
        if self.peers.contains_key(&peer) {
            self.send_bytes(peer, lane, frame.encode());
        }
    }

    pub(crate) fn send_bytes(&mut self, peer: NodeId, lane: Lane, frame: Bytes) {
        if let Some(p) = self.peers.get_mut(&peer) {
            p.in_flight += frame.len() as u64;
            self.outputs.push_back(Output::Send {
                peer,
                epoch: p.epoch,
                lane,
                frame,
            });
        }
    }

    pub(crate) fn disconnect(&mut self, peer: NodeId, epoch: Epoch, reason: String) {
        self.on_disconnected(peer, epoch);
        self.outputs.push_back(Output::Disconnect { peer, epoch, reason });
    }

    /// The peers whose links are up.
    pub(crate) fn connected(&self) -> Vec<NodeId> {
        self.peers.keys().copied().collect()
    }

    pub(crate) fn peers_wakeup(&self) -> Option<Time> {
        let digest = self.peers.values().map(|p| p.digest_at).min();
        let flush = self
            .peers
            .values()
            .filter(|p| !p.dirty.is_empty())
            .filter_map(|p| p.flush_at)
            .min();
        digest.into_iter().chain(flush).min()
    }

    /// A link is up, and its hello said what the peer's clock shows.
    fn on_first_clock(&mut self, peer: NodeId, wall_ms: u64) {
        let clock = self.clocks.entry(peer).or_default();
        let news = clock.starts(wall_ms, self.now.wall_ms);
        if clock.is_ahead() {
            self.counters.clock_skew_links += 1;
        }
        warn_of_clock(peer, news);
    }

    /// A peer says again what its clock shows.
    pub(crate) fn on_clock(&mut self, peer: NodeId, wall_ms: u64) {
        let ours = self.now.wall_ms;
        let clock = self.clocks.get_mut(&peer);
        warn_of_clock(peer, clock.and_then(|clock| clock.says(wall_ms, ours)));
    }

    /// How far the connected peers' wall clocks are ahead of this node's, as far as that is known, milliseconds.
    pub fn clock_skews(&self) -> BTreeMap<NodeId, i64> {
        let known = |node: &NodeId| Some((*node, self.clocks.get(node)?.known_ms()?));
        self.peers.keys().filter_map(known).collect()
    }
}

/// That ends nothing. It is said once, however often its link comes up.
fn warn_of_clock(peer: NodeId, news: Option<i64>) {
    if let Some(skew_ms) = news {
        tracing::warn!(%peer, skew_ms, "the peer's clock and this node's are far apart: set the time on both (NTP)");
    }
}
