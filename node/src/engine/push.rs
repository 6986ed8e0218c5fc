//! News out: batches of this node's own stream, to whoever is connected.
//!
//! Idle, a batch leaves at once. While one is under way the next gathers, until the transport has taken the first or a
//! short delay has passed: under load batches grow by themselves. A link costs a cursor, never a queue.

use anabranch_crdt::{Dot, NodeId, ReplicaIx, VersionVector, planted};

use crate::engine::Engine;
use crate::engine::limits::TRANSFER_BYTES_MAX;
use crate::engine::ring::Slot;
use crate::engine::shard::Shard;
use crate::engine::translate::{Head, OutEntry, write_interval};
use crate::wire::{Frame, Interval, Lane, ShardId};

/// Batches of several shards that leave in one frame.
#[derive(Default)]
struct Load {
    shards: Vec<ShardId>,
    parts: Vec<Interval>,
    bytes: usize,
}

impl Engine {
    /// Something of our own is new in this shard: every peer may lack it.
    pub(crate) fn mark_dirty(&mut self, shard: ShardId) {
        for peer in self.peers.values_mut() {
            peer.dirty.insert(shard);
        }
    }

    pub(crate) fn mark_dirty_for(&mut self, peer: NodeId, shard: ShardId) {
        if let Some(p) = self.peers.get_mut(&peer) {
            p.dirty.insert(shard);
        }
    }

    /// Builds what may leave now.
    pub(crate) fn flush_pushes(&mut self) {
        let dirty: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, p)| !p.dirty.is_empty())
            .map(|(n, _)| *n)
            .collect();
        for peer in dirty {
            self.flush_peer(peer);
        }
    }

    fn flush_peer(&mut self, peer: NodeId) {
        let (window, delay) = (
            self.config.limits.push_window_bytes,
            self.config.limits.push_delay_ms,
        );
        let now = self.now.time;
        let Some(p) = self.peers.get_mut(&peer) else {
            return;
        };
        if p.in_flight >= window {
            // The transport is behind: nothing before it says so, and then at once. Time alone changes nothing.
            p.flush_at = None;
            return;
        }
        let idle = p.in_flight == 0;
        if !idle && p.flush_at.is_none_or(|at| at > now) {
            p.flush_at.get_or_insert(now.after_ms(delay));
            return;
        }
        let mut load = Load::default();
        while let Some(p) = self.peers.get_mut(&peer) {
            if p.in_flight + load.bytes as u64 >= window {
                p.flush_at = None;
                break;
            }
            let Some(shard) = p.dirty.pop_first() else {
                p.flush_at = None;
                break;
            };
            for part in self.build_batch(peer, shard) {
                self.counters.batches_sent += 1;
                if load.bytes + part.len_bytes() > self.config.limits.part_bytes {
                    self.send_load(peer, std::mem::take(&mut load));
                }
                load.bytes += part.len_bytes();
                load.shards.push(shard);
                load.parts.push(part);
            }
        }
        self.send_load(peer, load);
    }

    fn send_load(&mut self, peer: NodeId, load: Load) {
        if !load.parts.is_empty() {
            self.send_state(peer, &load.shards, Lane::Push, Frame::Intervals(load.parts));
        }
    }

    /// The next batch of this shard for this peer, in parts; none if it has everything, or if it has to pull.
    fn build_batch(&mut self, peer: NodeId, id: ShardId) -> Vec<Interval> {
        let budget = self.config.limits.part_bytes;
        let urgent = self.is_urgent(id);
        let transfer = self.next_transfer;
        self.next_transfer += 1;
        let shard = self.shard(id);
        let Some(me) = shard.me else { return Vec::new() };
        let head = shard.vv.get(me);
        let bases = shard.bases();
        let Some(view) = shard.peers.get_mut(&peer).filter(|v| v.known) else {
            return Vec::new();
        };
        let (from, applied) = (view.cursor, view.applied.clone());
        if from >= head || from < bases.get(me) || !covers_others(&applied, &bases, me) {
            // Behind a base it cannot be served from here: it hears of it in our next digest, and pulls.
            return Vec::new();
        }
        let (to, bytes) = clean_cut(shard, me, from, head, budget);
        if bytes > TRANSFER_BYTES_MAX {
            // Too much for one step, and no place to cut it: it is pulled, and comes as a snapshot.
            return Vec::new();
        }
        // What it has said it covers need not be named.
        let deps: VersionVector = deps(shard, me, from, to)
            .iter()
            .filter(|(ix, seq)| *seq > applied.get(*ix))
            .collect();
        let (from_vv, to_vv) = (
            VersionVector::from_iter([(me, from)]),
            VersionVector::from_iter([(me, to)]),
        );
        let head_of = Head {
            shard: id.0,
            id: transfer,
            from: &from_vv,
            to: &to_vv,
            deps: &deps,
            urgent,
        };
        let parts = write_interval(
            &shard.replicas,
            &head_of,
            budget,
            out_entries(shard, me, from, to),
        );
        if let Some(view) = shard.peers.get_mut(&peer) {
            view.cursor = to;
        }
        if planted!("trim_on_send", true, false)
            && let Some(ring) = shard.rings.get_mut(&me)
        {
            ring.trim(to);
        }
        if to < head {
            self.mark_dirty_for(peer, id);
        }
        parts
    }
}

fn covers_others(applied: &VersionVector, bases: &VersionVector, me: ReplicaIx) -> bool {
    bases.iter().all(|(ix, base)| ix == me || applied.get(ix) >= base)
}

/// What an origin's slots in `(from, to]` look like to a peer: dead puts go without their payload.
pub(crate) fn out_entries(
    shard: &Shard,
    ix: ReplicaIx,
    from: u64,
    to: u64,
) -> impl Iterator<Item = OutEntry<'_>> {
    let ring = shard.rings.get(&ix).into_iter();
    ring.flat_map(move |ring| ring.range(from, to))
        .map(move |(seq, slot)| out_entry(shard, Dot::new(ix, seq), slot))
}

fn out_entry<'a>(shard: &Shard, dot: Dot, slot: &'a Slot) -> OutEntry<'a> {
    let put = slot
        .path
        .as_ref()
        .and_then(|path| shard.live_put(&slot.entity, path, dot));
    OutEntry {
        dot,
        entity: &slot.entity,
        put,
        kills: &slot.kills,
    }
}

/// Where a batch of about `budget` bytes may end: at the end of a commit, and so that every put in it that is dead here
/// was killed in it, or by another origin. The head always is such a place. And about how many bytes that is.
fn clean_cut(shard: &Shard, me: ReplicaIx, from: u64, head: u64, budget: usize) -> (u64, usize) {
    let Some(ring) = shard.rings.get(&me) else {
        return (head, 0);
    };
    let mut bytes = 0;
    let mut upto = from;
    for (seq, slot) in ring.range(from, head) {
        if bytes >= budget && seq > upto {
            return (seq - 1, bytes);
        }
        let own_killer = slot.killer.filter(|k| k.ix() == me).map_or(0, |k| k.seq());
        let commit_open = if slot.commit_end { 0 } else { seq + 1 };
        upto = upto.max(own_killer).max(commit_open).max(seq);
        bytes += out_entry(shard, Dot::new(me, seq), slot).len_bytes();
    }
    (head, bytes)
}

/// What a receiver of `(from, to]` must have besides: our bases; the foreign dots it kills; and for each own put in it
/// that a foreign operation killed, or took something away from, that operation.
fn deps(shard: &Shard, me: ReplicaIx, from: u64, to: u64) -> VersionVector {
    let mut deps: VersionVector = shard.bases().iter().filter(|(ix, _)| *ix != me).collect();
    let Some(ring) = shard.rings.get(&me) else {
        return deps;
    };
    for (_, slot) in ring.range(from, to) {
        let killer = slot.killer.filter(|_| slot.path.is_some());
        for dot in slot.kills.iter().map(|k| k.dot).chain(killer).chain(slot.raised) {
            if dot.ix() != me {
                deps.advance(dot.ix(), dot.seq());
            }
        }
    }
    deps
}
