//! What nodes say of themselves: digests, news and acknowledgements are one kind of statement, "of this shard I have
//! this, this much of it durable".
//! Not here: between whom and of which shards they are asked for (`digest`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use anabranch_crdt::{NodeId, ReplicaId, Replicas, VersionVector};

use crate::engine::Engine;
use crate::engine::io::Time;
use crate::engine::limits::{ASKED_SHARDS_MAX, SAID_PARTS_MAX};
use crate::engine::translate::{Refused, TableReader};
use crate::wire::{Frame, Lane, Said, SaidShard, ShardId, WireReplica, WireVector};

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

    fn about(&self) -> impl Iterator<Item = ShardId> {
        self.shards.iter().map(|statement| ShardId(statement.shard))
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
    /// Says to a peer what is so in these shards: news only as far as it is news to that peer.
    pub(crate) fn say(&mut self, peer: NodeId, shards: &[ShardId], tone: Tone) {
        let all = self.statements(peer, shards, tone);
        self.send_statements(peer, all);
    }

    fn send_statements(&mut self, peer: NodeId, all: Vec<Said>) {
        for said in all {
            self.send(peer, Lane::Control, &Frame::Said(said));
        }
    }

    /// Asks a peer to say what it has of these shards, and of no others that it was to be asked for before. It is asked for more as it
    /// answers: who has much to say of many shards must not have said all of it before any was taken.
    pub(crate) fn ask_about(&mut self, peer: NodeId, shards: Vec<ShardId>) {
        if let Some(p) = self.peers.get_mut(&peer) {
            // Those first that were to be next: where shards change faster than they are asked about, each has its turn.
            let wanted: BTreeSet<ShardId> = shards.into_iter().collect();
            p.to_ask.retain(|id| wanted.contains(id));
            let next: BTreeSet<ShardId> = p.to_ask.iter().copied().collect();
            p.to_ask.extend(wanted.difference(&next));
            p.asked.clear();
            self.ask_about_more(peer);
        }
    }

    fn ask_about_more(&mut self, peer: NodeId) {
        let Some(p) = self.peers.get_mut(&peer).filter(|p| p.asked.is_empty()) else {
            return;
        };
        let now = p.to_ask.len().min(ASKED_SHARDS_MAX);
        let mut shards: VecDeque<ShardId> = p.to_ask.drain(..now).collect();
        let all = self.some_statements(peer, &mut shards, Tone::Ask);
        if let Some(p) = self.peers.get_mut(&peer) {
            shards.extend(p.to_ask.drain(..));
            p.to_ask = shards;
            p.asked = all.iter().flat_map(Said::about).collect();
        }
        self.send_statements(peer, all);
    }

    /// The same, for who sends it himself.
    pub(crate) fn statements(&mut self, peer: NodeId, shards: &[ShardId], tone: Tone) -> Vec<Said> {
        let mut shards: VecDeque<ShardId> = shards.iter().copied().collect();
        let mut all = Vec::new();
        while !shards.is_empty() {
            all.append(&mut self.some_statements(peer, &mut shards, tone));
        }
        all
    }

    /// Statements of the first of these shards, as many as go out at a time; takes those shards away.
    fn some_statements(&mut self, peer: NodeId, shards: &mut VecDeque<ShardId>, tone: Tone) -> Vec<Said> {
        let mut all: Vec<Said> = Vec::new();
        if !self.peers.contains_key(&peer) {
            shards.clear();
        }
        let mut said = Said::of(tone);
        let mut index: BTreeMap<WireReplica, u16> = BTreeMap::new();
        let mut bytes = 0;
        while all.len() < SAID_PARTS_MAX
            && let Some(id) = shards.pop_front()
        {
            let voting = self.votes(id);
            let Some(statement) = self.statement(peer, id, tone, voting, &mut index, &mut said.replicas)
            else {
                continue;
            };
            bytes += statement.len_bytes();
            said.shards.push(statement);
            if bytes > self.config.limits.part_bytes {
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

    /// Whether this node counts for majorities in a shard: it has caught up once since it started. One whose others had left when it
    /// was started may not know of who has come since.
    pub(crate) fn votes(&self, shard: ShardId) -> bool {
        self.never_had_others() || self.shards[shard.0 as usize].caught_up
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
        let shards: VecDeque<ShardId> = std::mem::take(&mut self.said.news).into_iter().collect();
        for peer in self.connected() {
            let mut rest = shards.clone();
            let news = self.some_statements(peer, &mut rest, Tone::News);
            self.send_statements(peer, news);
            self.said.news.extend(rest);
        }
        if !self.said.news.is_empty() {
            self.said.due = Some(self.now.time.after_ms(self.config.limits.said_delay_ms.max(1)));
        }
    }

    pub(crate) fn on_said(&mut self, peer: NodeId, m: Said) -> Result<(), Refused> {
        // All of it is read before any of it is believed.
        let mut all = Vec::with_capacity(m.shards.len());
        for statement in m.shards {
            let id = self.shard_id(statement.shard)?;
            let heard = self.read_statement(id, &m.replicas, statement)?;
            self.check_own_dots(peer, id, &heard.applied)?;
            all.push((id, heard));
        }
        let mut spoken_of = Vec::with_capacity(all.len());
        for (id, heard) in all {
            if let Some(p) = self.peers.get_mut(&peer).filter(|_| heard.fingerprint.is_some()) {
                p.asked.remove(&id);
            }
            self.hear(peer, id, heard);
            spoken_of.push(id);
        }
        self.ask_about_more(peer);
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

    fn hear(&mut self, peer: NodeId, id: ShardId, heard: Heard) {
        if !self.peers.contains_key(&peer) {
            return;
        }
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
        // Of earlier runs of this node: the peer has more than is here.
        let lacking_of_own = shard.replicas.iter().filter(|(ix, replica)| {
            replica.node == node && Some(*ix) != me && heard.applied.get(*ix) > shard.vv.get(*ix)
        });
        let last_run = lacking_of_own.map(|(_, replica)| replica.epoch).max();
        if last_run.is_some() && !shard.caught_up {
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
        if let Some(run) = last_run {
            self.on_run_remembered(peer, run);
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
    }

    /// What a peer sends it has.
    pub(crate) fn peer_covers(&mut self, peer: NodeId, id: ShardId, vv: &VersionVector) {
        if self.peers.contains_key(&peer) {
            self.shard(id).peers.entry(peer).or_default().applied.join(vv);
            self.release_copies(id);
        }
    }

    /// Operations of this node's current epoch exist nowhere unless they were made here. Whoever says otherwise would be counted as a
    /// copy of what is written next.
    pub(crate) fn check_own_dots(
        &self,
        peer: NodeId,
        id: ShardId,
        covers: &VersionVector,
    ) -> Result<(), Refused> {
        let shard = &self.shards[id.0 as usize];
        match shard.replicas.get(self.me()) {
            Some(me) if covers.get(me) > shard.vv.get(me) => Err(format!(
                "{peer} covers operation {} of this node's epoch in shard {id}, which has made {}",
                covers.get(me),
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
