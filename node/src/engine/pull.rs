//! Catching up: what a shard lacks is asked for as a vector interval, from any one holder, and comes in one answer.
//!
//! Links that do not reach everybody heal through third nodes this way. A holder that no longer has the operations
//! answers with a snapshot instead (see `snapshot`).

use std::collections::BTreeMap;

use anabranch_crdt::{Epoch, NodeId, ReplicaId, Replicas, VersionVector, planted};

use crate::engine::Engine;
use crate::engine::io::Time;
use crate::engine::limits::{IN_FLIGHT_BYTES_MAX, TRANSFER_BYTES_MAX};
use crate::engine::push::out_entries;
use crate::engine::said::Tone;
use crate::engine::snapshot::Arriving;
use crate::engine::translate::{Head, Refused, TableWriter, write_interval};
use crate::wire::{Busy, Frame, Interval, Lane, PULL_ID_BIT, Pull, ShardId};

/// What is lacking, and what has been asked for.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    wants: BTreeMap<ShardId, Want>,
    under_way: BTreeMap<ShardId, UnderWay>,
}

#[derive(Debug)]
struct Want {
    due: Time,
    /// Whom to ask first.
    prefer: Option<NodeId>,
}

/// A pull that is not answered yet.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub peer: NodeId,
    pub id: u64,
    pub expires: Time,
    /// The snapshot it is being answered with.
    pub arriving: Option<Arriving>,
}

impl Pulls {
    /// When something is due. While all places are taken nothing that is wanted can start: a place that becomes free
    /// starts the next.
    pub fn wakeup(&self, places: usize) -> Option<Time> {
        let full = self.under_way.len() >= places;
        let wants = self.wants.values().map(|w| w.due).filter(|_| !full);
        wants.chain(self.under_way.values().map(|u| u.expires)).min()
    }

    pub fn under_way(&mut self, shard: ShardId) -> Option<&mut UnderWay> {
        self.under_way.get_mut(&shard)
    }

    /// Bytes of all snapshots that are arriving.
    pub fn arriving_bytes(&self) -> usize {
        self.under_way
            .values()
            .filter_map(|u| u.arriving.as_ref())
            .map(Arriving::bytes)
            .sum()
    }

    pub fn finish(&mut self, shard: ShardId) -> Option<UnderWay> {
        self.under_way.remove(&shard)
    }

    pub fn is_idle(&self) -> bool {
        self.wants.is_empty() && self.under_way.is_empty()
    }
}

impl Engine {
    /// Something is missing in this shard: ask somebody in so many milliseconds, unless it comes by itself.
    pub(crate) fn want(&mut self, shard: ShardId, delay_ms: u64) {
        self.want_at(shard, None, delay_ms);
    }

    pub(crate) fn want_from(&mut self, shard: ShardId, peer: NodeId, delay_ms: u64) {
        self.want_at(shard, Some(peer), delay_ms);
    }

    fn want_at(&mut self, shard: ShardId, prefer: Option<NodeId>, delay_ms: u64) {
        let due = self.now.time.after_ms(delay_ms);
        let want = self.pulls.wants.entry(shard).or_insert(Want { due, prefer });
        if due < want.due {
            *want = Want { due, prefer };
        }
    }

    /// A peer has what we lack. From an origin whose link is up it is on its way already, and gets a moment to arrive.
    pub(crate) fn want_what(&mut self, id: ShardId, peer: NodeId, theirs: &VersionVector) {
        let shard = &self.shards[id.0 as usize];
        let lacking = theirs.iter().filter(|(ix, seq)| *seq > shard.vv.get(*ix));
        let mut on_its_way = lacking.map(|(ix, _)| shard.replicas.id(ix)).map(|replica| {
            self.peers
                .get(&replica.node)
                .is_some_and(|p| p.epoch == replica.epoch)
        });
        let delay_ms = if on_its_way.all(|yes| yes) {
            self.config.limits.pull_grace_ms
        } else {
            0
        };
        self.want_from(id, peer, delay_ms);
    }

    pub(crate) fn on_pulls_due(&mut self) {
        let now = self.now.time;
        let expired: Vec<ShardId> = self
            .pulls
            .under_way
            .iter()
            .filter(|(_, u)| u.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            let next = self
                .pulls
                .finish(id)
                .and_then(|failed| self.holder_after(id, failed.peer));
            self.counters.pulls_timed_out += 1;
            self.want_at(id, next, 0);
        }
        let due: Vec<ShardId> = self
            .pulls
            .wants
            .iter()
            .filter(|(_, w)| w.due <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if self.pulls.under_way.len() >= self.config.limits.pulls_max {
                return;
            }
            self.pull(id);
        }
    }

    fn pull(&mut self, id: ShardId) {
        let Some(want) = self.pulls.wants.remove(&id) else {
            return;
        };
        self.drop_held(id);
        let Some(holder) = want
            .prefer
            .filter(|p| self.holds_more(id, *p))
            .or_else(|| self.holder_after(id, self.config.node))
        else {
            // It has come meanwhile, or nobody who has it can be reached; who has it will say so again.
            return;
        };
        if self.pulls.under_way.contains_key(&id) {
            let later = self.config.limits.said_delay_ms;
            return self.want_at(id, Some(holder), later);
        }
        let pull_id = self.next_transfer | PULL_ID_BIT;
        self.next_transfer += 1;
        let expires = self.now.time.after_ms(self.config.limits.pull_timeout_ms);
        self.pulls.under_way.insert(
            id,
            UnderWay {
                peer: holder,
                id: pull_id,
                expires,
                arriving: None,
            },
        );
        self.counters.pulls_sent += 1;
        let shard = self.shard(id);
        let mut table = TableWriter::new(&shard.replicas);
        let vv = table.vector(&shard.vv);
        let frame = Frame::Pull(Pull {
            shard: id.0,
            id: pull_id,
            replicas: table.ids,
            vv,
        });
        self.send(holder, Lane::Control, &frame);
    }

    /// Whether a connected peer is known to have operations that this shard lacks.
    fn holds_more(&self, id: ShardId, peer: NodeId) -> bool {
        let shard = &self.shards[id.0 as usize];
        self.peers.contains_key(&peer)
            && shard
                .peers
                .get(&peer)
                .is_some_and(|v| !shard.vv.covers(&v.applied))
    }

    /// The next such peer after this one, around the circle.
    fn holder_after(&self, id: ShardId, after: NodeId) -> Option<NodeId> {
        let holders = || self.peers.keys().copied().filter(|p| self.holds_more(id, *p));
        holders().find(|p| *p > after).or_else(|| holders().next())
    }

    /// A part of an answer has come: it is slow, not lost.
    pub(crate) fn pull_progresses(&mut self, id: ShardId, peer: NodeId, transfer: u64) {
        let expires = self.now.time.after_ms(self.config.limits.pull_timeout_ms);
        if let Some(pull) = self
            .pulls
            .under_way(id)
            .filter(|u| u.peer == peer && u.id == transfer)
        {
            pull.expires = expires;
        }
    }

    pub(crate) fn pull_answered(&mut self, id: ShardId, peer: NodeId, transfer: u64) {
        if self
            .pulls
            .under_way(id)
            .is_some_and(|u| u.peer == peer && u.id == transfer)
        {
            self.pulls.finish(id);
        }
    }

    /// The holder asked has no place for another snapshot: the next one is asked, or the same a little later.
    pub(crate) fn on_busy(&mut self, peer: NodeId, m: &Busy) -> Result<(), Refused> {
        let id = self.shard_id(m.shard)?;
        if self
            .pulls
            .under_way(id)
            .is_some_and(|u| u.peer == peer && u.id == m.id)
        {
            self.pulls.finish(id);
            let next = self.holder_after(id, peer);
            self.want_at(id, next, self.config.limits.said_delay_ms);
        }
        Ok(())
    }

    pub(crate) fn forget_pulls_from(&mut self, peer: NodeId) {
        let broken: Vec<ShardId> = self
            .pulls
            .under_way
            .iter()
            .filter(|(_, u)| u.peer == peer)
            .map(|(id, _)| *id)
            .collect();
        for id in broken {
            self.pulls.finish(id);
            self.want(id, 0);
        }
    }

    /// Answers with everything in `(their vector, ours]`, all origins at once; below a base with a snapshot.
    pub(crate) fn on_pull(&mut self, peer: NodeId, m: &Pull) -> Result<(), Refused> {
        let id = self.shard_id(m.shard)?;
        if m.id & PULL_ID_BIT == 0 {
            return Err("a pull without a pull's number".into());
        }
        let theirs = known_vector(&self.shard(id).replicas, m)?;
        let shard = &self.shards[id.0 as usize];
        if theirs.covers(&shard.vv) {
            self.say(peer, &[id], Tone::News);
            return Ok(());
        }
        if shard.bases().iter().any(|(ix, base)| theirs.get(ix) < base) {
            self.open_session(peer, id, m.id);
            return Ok(());
        }
        let Some((parts, bytes)) = self.answer_to(id, m.id, &theirs) else {
            // More than is applied in one step: a snapshot comes in parts as they are asked for.
            self.open_session(peer, id, m.id);
            return Ok(());
        };
        if self
            .peers
            .get(&peer)
            .is_some_and(|p| p.in_flight + bytes as u64 > IN_FLIGHT_BYTES_MAX)
        {
            self.send(
                peer,
                Lane::Control,
                &Frame::Busy(Busy {
                    shard: id.0,
                    id: m.id,
                }),
            );
            return Ok(());
        }
        self.counters.pulls_served += 1;
        for part in parts {
            self.send_state(peer, &[id], Lane::Bulk, &Frame::Intervals(vec![part]));
        }
        Ok(())
    }

    /// Everything in `(theirs, ours]` and about how many bytes that is; `None` if it is more than one step may take.
    fn answer_to(&self, id: ShardId, pull: u64, theirs: &VersionVector) -> Option<(Vec<Interval>, usize)> {
        let shard = &self.shards[id.0 as usize];
        let to: VersionVector = shard
            .vv
            .iter()
            .filter(|(ix, seq)| *seq > theirs.get(*ix))
            .filter(|(ix, _)| {
                planted!(
                    "only_own_updates_pulled",
                    shard.replicas.id(*ix).node == self.config.node,
                    ix.at() < shard.replicas.len()
                )
            })
            .collect();
        let most = TRANSFER_BYTES_MAX.min(self.config.limits.staged_bytes_max / 2);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in to
            .iter()
            .flat_map(|(ix, seq)| out_entries(shard, ix, theirs.get(ix), seq))
        {
            bytes += entry.len_bytes();
            if bytes > most {
                return None;
            }
            entries.push(entry);
        }
        let none = VersionVector::new();
        let head = Head {
            shard: id.0,
            id: pull,
            from: theirs,
            to: &to,
            deps: &none,
            urgent: false,
        };
        let parts = write_interval(
            &shard.replicas,
            &head,
            self.config.limits.part_bytes,
            entries.into_iter(),
        );
        Some((parts, bytes))
    }
}

/// The asker's vector as far as its replicas are known here: of others there is nothing to serve.
fn known_vector(replicas: &Replicas, m: &Pull) -> Result<VersionVector, Refused> {
    let mut theirs = VersionVector::new();
    for &(i, seq) in &m.vv {
        let id = m
            .replicas
            .get(usize::from(i))
            .ok_or_else(|| format!("replica index {i} of {}", m.replicas.len()))?;
        if let Some(ix) = replicas.get(ReplicaId::new(NodeId(id.node), Epoch(id.epoch))) {
            theirs.advance(ix, seq);
        }
    }
    Ok(theirs)
}
