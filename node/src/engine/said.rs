//! What nodes say of themselves: digests, news and acknowledgements are one kind of statement, "of this shard I have
//! this, this much of it durable".
//!
//! At rest two nodes exchange one number for all their shards. Where it differs they go on shard by shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch_crdt::{NodeId, ReplicaId, Replicas, VersionVector, planted};

use crate::engine::Engine;
use crate::engine::io::Time;
use crate::engine::limits::PART_BYTES_MAX;
use crate::engine::translate::{Refused, TableReader};
use crate::wire::{Frame, Lane, Rollup, Said, SaidShard, ShardId, Summaries, WireReplica, WireVector};

/// What is to be said, and when.
#[derive(Debug, Default)]
pub(crate) struct SaidQueue {
    news: BTreeSet<ShardId>,
    due: Option<Time>,
    /// Who waits for word on which shard becoming durable.
    owed: BTreeSet<(ShardId, NodeId)>,
}

impl SaidQueue {
    /// Something changed in this shard; everybody hears of it by then.
    pub fn news(&mut self, shard: ShardId, by: Time) {
        self.news.insert(shard);
        self.due = Some(self.due.map_or(by, |due| due.min(by)));
    }

    pub fn wakeup(&self) -> Option<Time> {
        self.due
    }
}

/// Why something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It is new.
    News,
    /// It differs from the peer's, who shall say the same.
    Ask,
    /// The peer asked.
    Answer,
}

impl Said {
    /// Nothing yet.
    pub(crate) fn of(tone: Tone) -> Said {
        Said {
            replicas: Vec::new(),
            shards: Vec::new(),
            reply: tone == Tone::Ask,
        }
    }
}

/// What a peer said of one shard, in this shard's terms.
struct Heard {
    applied: VersionVector,
    durable: VersionVector,
    base: Option<VersionVector>,
    /// Told with everything else, not with news.
    fingerprint: Option<u64>,
    voting: bool,
}

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
                p.digest_at = planted!("one_digest", Time(u64::MAX), now.after_ms(every));
            }
            self.send_rollup(peer);
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
            self.say(peer, &unsure, Tone::Ask);
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
        self.say(peer, &unsure, Tone::Ask);
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

    /// Says to a peer what is so in these shards: news only as far as it is news to that peer.
    pub(crate) fn say(&mut self, peer: NodeId, shards: &[ShardId], tone: Tone) {
        for said in self.statements(peer, shards, tone) {
            self.send(peer, Lane::Control, &Frame::Said(said));
        }
    }

    /// The same, for who sends it himself.
    pub(crate) fn statements(&mut self, peer: NodeId, shards: &[ShardId], tone: Tone) -> Vec<Said> {
        let mut all = Vec::new();
        if !self.peers.contains_key(&peer) {
            return all;
        }
        let mut said = Said::of(tone);
        let mut index: BTreeMap<WireReplica, u16> = BTreeMap::new();
        let mut bytes = 0;
        for id in shards {
            let voting = self.votes(*id);
            let Some(statement) = self.statement(peer, *id, tone, voting, &mut index, &mut said.replicas)
            else {
                continue;
            };
            bytes += statement.len_bytes();
            said.shards.push(statement);
            if bytes > PART_BYTES_MAX {
                all.push(std::mem::replace(&mut said, Said::of(tone)));
                index.clear();
                bytes = 0;
            }
        }
        if !said.shards.is_empty() {
            all.push(said);
        }
        all
    }

    fn statement(
        &mut self,
        peer: NodeId,
        id: ShardId,
        tone: Tone,
        voting: bool,
        index: &mut BTreeMap<WireReplica, u16>,
        ids: &mut Vec<WireReplica>,
    ) -> Option<SaidShard> {
        let shard = self.shard(id);
        let view = shard.peers.entry(peer).or_default();
        let all = tone != Tone::News;
        let told = &view.told;
        let unsaid = |ix| {
            all || shard.vv.get(ix) > told.applied.get(ix) || shard.durable.get(ix) > told.durable.get(ix)
        };
        let mut applied: VersionVector = shard.vv.iter().filter(|(ix, _)| unsaid(*ix)).collect();
        if !all && applied.is_empty() && voting == told.voting {
            return None;
        }
        if let Some(me) = shard.me.filter(|_| !shard.own_resets.is_empty()) {
            // Who keeps what was reset of our counters lets go of it once we have seen the reset, if it has all that we had
            // done by then.
            applied.advance(me, shard.vv.get(me));
        }
        let durable: VersionVector = applied
            .iter()
            .map(|(ix, _)| (ix, shard.durable.get(ix)))
            .collect();
        view.told.applied.join(&applied);
        view.told.durable.join(&durable);
        view.told.voting = voting;
        let bases = shard.bases();
        let mut vector = |vv: &VersionVector| wire_vector(&shard.replicas, vv, index, ids);
        Some(SaidShard {
            shard: id.0,
            applied: vector(&applied),
            durable: if durable == applied {
                None
            } else {
                Some(vector(&durable))
            },
            base: if all { Some(vector(&bases)) } else { None },
            fingerprint: if all { Some(shard.fingerprint) } else { None },
            voting,
        })
    }

    /// Whether this node counts for majorities in a shard: it has caught up once since it started.
    pub(crate) fn votes(&self, shard: ShardId) -> bool {
        self.is_alone() || self.shards[shard.0 as usize].caught_up
    }

    /// Acknowledges at once, and again when it is durable.
    pub(crate) fn owe(&mut self, shard: ShardId, peer: NodeId) {
        self.say(peer, &[shard], Tone::News);
        self.owe_on_disk(shard, peer);
    }

    /// A peer hears of what is not on this node's disk yet once it is.
    pub(crate) fn owe_on_disk(&mut self, shard: ShardId, peer: NodeId) {
        if !self.shards[shard.0 as usize]
            .durable
            .covers(&self.shards[shard.0 as usize].vv)
        {
            self.said.owed.insert((shard, peer));
        }
    }

    /// More of this shard is durable: whoever waits for it hears it now.
    pub(crate) fn say_owed(&mut self, shard: ShardId) {
        let range = (shard, NodeId(0))..=(shard, NodeId(u128::MAX));
        let owed: Vec<(ShardId, NodeId)> = self.said.owed.range(range).copied().collect();
        for (shard, peer) in owed {
            if self.shards[shard.0 as usize]
                .durable
                .covers(&self.shards[shard.0 as usize].vv)
            {
                self.said.owed.remove(&(shard, peer));
            }
            self.say(peer, &[shard], Tone::News);
        }
    }

    pub(crate) fn on_said_due(&mut self) {
        if self.said.due.is_none_or(|due| due > self.now.time) {
            return;
        }
        self.said.due = None;
        let shards: Vec<ShardId> = std::mem::take(&mut self.said.news).into_iter().collect();
        for peer in self.connected() {
            self.say(peer, &shards, Tone::News);
        }
    }

    pub(crate) fn on_said(&mut self, peer: NodeId, m: Said) -> Result<(), Refused> {
        let mut spoken_of = Vec::with_capacity(m.shards.len());
        for statement in m.shards {
            let id = self.shard_id(statement.shard)?;
            let heard = self.read_statement(id, &m.replicas, statement)?;
            self.hear(peer, id, heard)?;
            spoken_of.push(id);
        }
        if m.reply {
            let mut answer: Vec<ShardId> = spoken_of;
            answer.dedup();
            for shard in &answer {
                self.owe_on_disk(*shard, peer);
            }
            self.say(peer, &answer, Tone::Answer);
        }
        Ok(())
    }

    fn read_statement(&mut self, id: ShardId, table: &[WireReplica], s: SaidShard) -> Result<Heard, Refused> {
        // The message's table serves many shards; each learns only the replicas spoken of in it.
        let mut used: BTreeMap<u16, u16> = BTreeMap::new();
        let mut ids = Vec::new();
        let mut narrow = |vector: WireVector| -> Result<WireVector, Refused> {
            vector
                .into_iter()
                .map(|(i, seq)| {
                    let replica = *table
                        .get(usize::from(i))
                        .ok_or_else(|| format!("replica index {i} of {}", table.len()))?;
                    let narrowed = *used.entry(i).or_insert_with(|| {
                        ids.push(replica);
                        (ids.len() - 1) as u16
                    });
                    Ok((narrowed, seq))
                })
                .collect()
        };
        let applied = narrow(s.applied)?;
        let durable = s.durable.map(&mut narrow).transpose()?;
        let base = s.base.map(&mut narrow).transpose()?;
        let reader = TableReader::new(Arc::make_mut(&mut self.shard(id).replicas), &ids)?;
        let applied = reader.vector(&applied)?;
        let durable = durable
            .map(|v| reader.vector(&v))
            .transpose()?
            .unwrap_or_else(|| applied.clone());
        if !applied.covers(&durable) {
            return Err("a node whose durable vector is ahead of its applied one".into());
        }
        let base = base.map(|v| reader.vector(&v)).transpose()?;
        Ok(Heard {
            applied,
            durable,
            base,
            fingerprint: s.fingerprint,
            voting: s.voting,
        })
    }

    fn hear(&mut self, peer: NodeId, id: ShardId, heard: Heard) -> Result<(), Refused> {
        if !self.peers.contains_key(&peer) {
            return Ok(());
        }
        self.check_own_dots(peer, id, &heard)?;
        let node = self.config.node;
        let owner = self.peers.get(&peer).map(|link| ReplicaId::new(peer, link.epoch));
        let shard = self.shard(id);
        let me = shard.me;
        let view = shard.peers.entry(peer).or_default();
        view.applied.join(&heard.applied);
        view.durable.join(&heard.durable);
        let counts_anew = heard.voting && !(view.voting && view.known);
        view.voting = heard.voting;
        view.is_known(me);
        let behind = me.is_some_and(|me| view.cursor < shard.vv.get(me));
        let remembers_more = shard.replicas.iter().any(|(ix, replica)| {
            replica.node == node && Some(ix) != me && heard.applied.get(ix) > shard.vv.get(ix)
        });
        if remembers_more && !shard.caught_up {
            shard.outdated = true;
        }
        if let Some(view) = shard.peers.get_mut(&peer).filter(|_| heard.base.is_some()) {
            view.base = heard.base;
        }
        let counts_now = shard.check_caught_up();
        if let Some(owner) = owner.and_then(|owner| shard.replicas.get(owner)) {
            shard.owner_said(owner, &heard.applied);
        }
        let lacking = !shard.vv.covers(&heard.applied);
        if let Some(theirs) = heard.fingerprint
            && shard.vv == heard.applied
            && shard.fingerprint != theirs
        {
            self.on_damage(peer, id, theirs);
        }
        if counts_anew {
            self.count_anew();
        }
        if counts_now {
            self.on_caught_up(id);
        }
        if behind {
            self.mark_dirty_for(peer, id);
        }
        if lacking {
            self.want_what(id, peer, &heard.applied);
        }
        self.trim(id);
        self.release_copies(id);
        Ok(())
    }

    /// What a peer sends it has.
    pub(crate) fn peer_covers(&mut self, peer: NodeId, id: ShardId, vv: &VersionVector) {
        if self.peers.contains_key(&peer) {
            self.shard(id).peers.entry(peer).or_default().applied.join(vv);
            self.release_copies(id);
        }
    }

    /// Dots of this node's current epoch exist nowhere unless they were made here.
    fn check_own_dots(&self, peer: NodeId, id: ShardId, heard: &Heard) -> Result<(), Refused> {
        let shard = &self.shards[id.0 as usize];
        match shard.replicas.get(self.me()) {
            Some(me) if heard.applied.get(me) > shard.vv.get(me) => Err(format!(
                "{peer} covers operation {} of this node's epoch in shard {id}, which has made {}",
                heard.applied.get(me),
                shard.vv.get(me)
            )),
            _ => Ok(()),
        }
    }

    /// Equal vectors, unequal state: damage, not lag. Never mended by the ordinary join, which would delete every
    /// difference.
    fn on_damage(&mut self, peer: NodeId, id: ShardId, theirs: u64) {
        self.counters.fingerprint_mismatches += 1;
        let ours = self.shards[id.0 as usize].fingerprint;
        tracing::error!(%peer, shard = %id, "damage: equal version vectors, fingerprints {ours:016x} here and {theirs:016x} there");
    }
}

fn wire_vector(
    replicas: &Replicas,
    vv: &VersionVector,
    index: &mut BTreeMap<WireReplica, u16>,
    ids: &mut Vec<WireReplica>,
) -> WireVector {
    vv.iter()
        .map(|(ix, seq)| {
            let id = replicas.id(ix);
            let wire = WireReplica {
                node: id.node.0,
                epoch: id.epoch.0,
            };
            let i = *index.entry(wire).or_insert_with(|| {
                ids.push(wire);
                (ids.len() - 1) as u16
            });
            (i, seq)
        })
        .collect()
}
