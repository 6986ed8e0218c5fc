//! News in: frames are decoded and handed to who knows them; intervals are put together, checked whole, and applied in
//! one step or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_crdt::{ClockMode, Epoch, NodeId, Payload, Put, ReplicaIx, VersionVector, planted};

use crate::engine::Engine;
use crate::engine::applied::write_record_interval;
use crate::engine::io::Output;
use crate::engine::limits::HELD_BYTES_MAX;
use crate::engine::shard::{Entry, Held, Incoming};
use crate::engine::translate::{Refused, read_intervals};
use crate::wire::{Frame, Interval, PULL_ID_BIT, Record, ShardId};

/// Transfers in parts from one peer, bounded in number and bytes; the oldest gives way.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    transfers: BTreeMap<u64, Transfer>,
    bytes: usize,
}

/// The parts that have come, by number.
#[derive(Debug, Default)]
struct Transfer {
    parts: BTreeMap<u32, Interval>,
    bytes: usize,
    /// How many there are, once the last has come.
    count: Option<usize>,
}

/// What a part made of its transfer.
enum Taken {
    /// It is whole.
    Whole(Vec<Interval>),
    /// There is more to come.
    More,
    /// It cannot become whole.
    Broken,
}

impl Staging {
    /// Takes a part; the whole transfer once all its parts are there.
    fn take(&mut self, part: Interval, bytes_max: usize, transfers_max: usize) -> Taken {
        if part.part == 0 && part.last {
            return Taken::Whole(vec![part]);
        }
        let (id, bytes) = (part.id, part.len_bytes() + size_of::<Interval>());
        if !self.transfers.contains_key(&id) {
            while self.transfers.len() >= transfers_max {
                let Some(&oldest) = self.transfers.keys().next() else {
                    break;
                };
                self.drop_transfer(oldest);
            }
        }
        let transfer = self.transfers.entry(id).or_default();
        let same_shard = |(_, first): (&u32, &Interval)| first.shard == part.shard;
        if self.bytes + bytes > bytes_max || !transfer.parts.first_key_value().is_none_or(same_shard) {
            self.drop_transfer(id);
            return Taken::Broken;
        }
        if part.last {
            transfer.count = Some(part.part as usize + 1);
        }
        if transfer.parts.insert(part.part, part).is_none() {
            transfer.bytes += bytes;
            self.bytes += bytes;
        }
        if transfer.count.is_none_or(|count| transfer.parts.len() < count) {
            return Taken::More;
        }
        let whole = self.drop_transfer(id).unwrap_or_default();
        Taken::Whole(whole.parts.into_values().collect())
    }

    /// Nothing of this shard is lacking: what has begun to come is of no more use.
    pub fn drop_shard(&mut self, shard: ShardId) {
        let of_shard = |t: &Transfer| t.parts.values().next().is_some_and(|p| p.shard == shard.0);
        let begun = self.transfers.iter().filter(|(_, t)| of_shard(t));
        let begun: Vec<u64> = begun.map(|(id, _)| *id).collect();
        for id in begun {
            self.drop_transfer(id);
        }
    }

    /// Forgets a transfer.
    pub fn drop_pull(&mut self, id: u64) {
        self.drop_transfer(id);
    }

    fn drop_transfer(&mut self, id: u64) -> Option<Transfer> {
        let transfer = self.transfers.remove(&id)?;
        self.bytes -= transfer.bytes;
        Some(transfer)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What became of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Applied,
    Duplicate,
    /// Something between what is here and where it begins is missing.
    Gap,
    /// It begins here, but needs operations of other origins that are not here.
    Depends,
    /// Too much waits for the disk.
    NoRoom,
}

impl Engine {
    pub(crate) fn on_received(&mut self, peer: NodeId, epoch: Epoch, frame: &[u8]) {
        if self.peers.get(&peer).is_none_or(|p| p.epoch != epoch) {
            // A link that is over, or an epoch that is: unread.
            self.counters.stale_frames += 1;
            return;
        }
        let handled = match Frame::decode(frame) {
            Err(e) => Err(e.to_string()),
            Ok(None) => Ok(()),
            Ok(Some(frame)) => self.on_frame(peer, frame),
        };
        if let Err(why) = handled {
            self.refuse(peer, why);
        }
    }

    /// What a peer sent breaks the protocol: the interval, the statements or the snapshot that does so was not used, and its link is
    /// closed.
    fn refuse(&mut self, peer: NodeId, why: Refused) {
        let Some(epoch) = self.peers.get(&peer).map(|p| p.epoch) else {
            return;
        };
        self.counters.refused_frames += 1;
        tracing::warn!(%peer, %why, "a frame was refused; the link is closed");
        self.disconnect(peer, epoch, why);
    }

    fn on_frame(&mut self, peer: NodeId, frame: Frame) -> Result<(), Refused> {
        match frame {
            Frame::Rollup(m) => self.on_rollup(peer, &m),
            Frame::Summaries(m) => self.on_summaries(peer, &m),
            Frame::Said(m) => self.on_said(peer, m),
            Frame::Pull(m) => self.on_pull(peer, &m),
            Frame::Intervals(m) => m
                .into_iter()
                .try_for_each(|part| self.on_interval_part(peer, part)),
            Frame::SnapshotPart(m) => self.on_snapshot_part(peer, m),
            Frame::SnapshotNext(m) => self.on_snapshot_next(peer, m),
            Frame::Busy(m) => self.on_busy(peer, &m),
            Frame::Ask(m) => self.on_ask(peer, &m),
            Frame::Tell(m) => self.on_tell(peer, m),
            Frame::Members(members) => self.on_members(peer, members),
            Frame::Clock(wall_ms) => {
                self.on_clock(peer, wall_ms);
                Ok(())
            }
        }
    }

    /// A shard number a peer used, checked.
    pub(crate) fn shard_id(&self, shard: u32) -> Result<ShardId, Refused> {
        if shard < self.config.shards {
            Ok(ShardId(shard))
        } else {
            Err(format!("shard {shard} of {}", self.config.shards))
        }
    }

    fn on_interval_part(&mut self, peer: NodeId, part: Interval) -> Result<(), Refused> {
        let id = self.shard_id(part.shard)?;
        let (bytes_max, transfers_max) = (
            self.config.limits.staged_bytes_max,
            self.config.limits.staged_transfers_max,
        );
        if part.id & PULL_ID_BIT != 0 {
            self.pulls_progress(peer);
        }
        let Some(p) = self.peers.get_mut(&peer) else {
            return Ok(());
        };
        let transfer = part.id;
        let parts = match p.staging.take(part, bytes_max, transfers_max) {
            Taken::Whole(parts) => parts,
            Taken::More => return Ok(()),
            Taken::Broken => {
                self.pull_broke(id, peer, transfer);
                return Ok(());
            }
        };
        let incoming = read_intervals(Arc::make_mut(&mut self.shard(id).replicas), parts)?;
        let answered = self.pull_answered(id, peer, transfer);
        for covers in [&incoming.to, &incoming.deps] {
            self.check_own_dots(peer, id, covers)?;
        }
        self.peer_covers(peer, id, &incoming.to);
        self.peer_covers(peer, id, &incoming.deps);
        self.on_interval(peer, id, incoming)?;
        if answered {
            self.want_the_rest(id);
        }
        Ok(())
    }

    fn on_interval(&mut self, peer: NodeId, id: ShardId, incoming: Incoming) -> Result<(), Refused> {
        match self.try_apply(id, &incoming)? {
            Fate::Applied => {
                if incoming.urgent {
                    self.owe(id, peer);
                }
                self.retry_held(id);
            }
            Fate::Duplicate => {
                if incoming.urgent {
                    self.owe(id, peer);
                }
            }
            Fate::Gap => {
                self.counters.gaps += 1;
                self.want_from(id, peer, 0);
            }
            Fate::Depends => self.hold(peer, id, incoming),
            Fate::NoRoom => {
                self.counters.no_room += 1;
                self.want(id, self.config.limits.pull_timeout_ms);
            }
        }
        Ok(())
    }

    fn hold(&mut self, peer: NodeId, id: ShardId, interval: Incoming) {
        let (held_max, hold_ms, now) = (
            self.config.limits.held_max,
            self.config.limits.hold_ms,
            self.now.time,
        );
        self.counters.held += 1;
        let held: usize = self.shards.iter().map(|s| s.held.len()).sum();
        if held < held_max && interval.bytes <= HELD_BYTES_MAX {
            self.shard(id).held.push(Held {
                from_peer: peer,
                since: now,
                interval,
            });
        }
        self.want_from(id, peer, hold_ms);
    }

    /// Something was applied: what waited for it may follow now.
    pub(crate) fn retry_held(&mut self, id: ShardId) {
        loop {
            let held = std::mem::take(&mut self.shard(id).held);
            let mut applied = false;
            for h in held {
                let fate = match self.try_apply(id, &h.interval) {
                    Ok(fate) => fate,
                    Err(why) => {
                        // What is wrong with it could only be seen now; its sender is to blame, nobody else.
                        self.refuse(h.from_peer, why);
                        continue;
                    }
                };
                match fate {
                    Fate::Applied => {
                        applied = true;
                        if h.interval.urgent {
                            self.owe(id, h.from_peer);
                        }
                    }
                    Fate::Depends => self.shard(id).held.push(h),
                    // A gap is pulled when its hold time is over; the batch itself is of no more use.
                    Fate::Duplicate | Fate::Gap | Fate::NoRoom => {}
                }
            }
            if !applied {
                return;
            }
        }
    }

    /// Drops batches that waited long enough; what they brought is being pulled.
    pub(crate) fn drop_held(&mut self, id: ShardId) {
        let (hold_ms, now) = (self.config.limits.hold_ms, self.now.time);
        self.shard(id).held.retain(|h| h.since.after_ms(hold_ms) > now);
    }

    /// Applies a whole interval in one step, or nothing of it.
    fn try_apply(&mut self, id: ShardId, incoming: &Incoming) -> Result<Fate, Refused> {
        let no_room = self.persist.bytes() > self.config.limits.unpersisted_bytes_max;
        let shard = self.shard(id);
        let vv = &shard.vv;
        if planted!(
            "duplicate_counted_twice",
            incoming.entries.is_empty(),
            vv.covers(&incoming.to)
        ) {
            return Ok(Fate::Duplicate);
        }
        let gap_free = planted!("gap_accepted", true, vv.covers(&incoming.from));
        if !gap_free {
            return Ok(Fate::Gap);
        }
        if !vv.covers(&incoming.deps) {
            return Ok(Fate::Depends);
        }
        self.check_incoming(id, incoming)?;
        if no_room {
            return Ok(Fate::NoRoom);
        }
        self.apply(id, incoming);
        Ok(Fate::Applied)
    }

    /// What only a broken or hostile peer sends: entities of other shards, kills of what nobody covers.
    fn check_incoming(&self, id: ShardId, incoming: &Incoming) -> Result<(), Refused> {
        let shard = &self.shards[id.0 as usize];
        if let Some(stray) = incoming.entries.iter().find(|e| self.shard_of(&e.entity.0) != id) {
            return Err(format!("{} does not belong to shard {id}", stray.entity.0));
        }
        let mut covered = shard.vv.clone();
        covered.join(&incoming.to);
        let uncovered = incoming
            .entries
            .iter()
            .flat_map(|e| &e.part.kills)
            .find(|k| !covered.contains(k.dot));
        match uncovered {
            Some(kill) => Err(format!(
                "an operation that kills sequence {}, which it does not cover",
                kill.dot.seq()
            )),
            None => Ok(()),
        }
    }

    fn apply(&mut self, id: ShardId, incoming: &Incoming) {
        let news: Vec<Entry> = self.news(id, incoming);
        self.observe_clocks(news.iter().filter_map(|e| e.part.put.as_ref()));
        self.learn_epochs(id, &incoming.to);
        let shard = &mut self.shards[id.0 as usize];
        // The answer to a pull may be behind in an origin that has come on since it was asked.
        let ahead = |(ix, to): &(ReplicaIx, u64)| *to > shard.vv.get(*ix);
        let to: VersionVector = incoming.to.iter().filter(ahead).collect();
        let from: VersionVector = to.iter().map(|(ix, _)| (ix, shard.vv.get(ix))).collect();
        let interval = write_record_interval(&shard.replicas, id, &from, &to, &news);
        self.counters.operations_received += news.len() as u64;
        let changed = shard.absorb(&self.key, &mut self.kinds, &news);
        shard.vv.join(&to);
        if shard.check_caught_up() {
            self.on_caught_up(id);
        }
        let reached = self.reached(id);
        self.record(Record::Applied(vec![interval], None), &reached);
        let over = self.shards[id.0 as usize]
            .rings
            .values()
            .any(|r| r.len() > self.config.limits.ring_slots_max);
        if over {
            self.trim(id);
        }
        for entity in changed {
            self.outputs.push_back(Output::Changed { entity });
        }
        self.touch(id);
        // It may have caught up with this, and counts from now on.
        self.release_copies(id);
    }

    /// The operations of an interval that are not here yet.
    fn news(&self, id: ShardId, incoming: &Incoming) -> Vec<Entry> {
        let vv = &self.shards[id.0 as usize].vv;
        let mut from = vv.clone();
        if planted!("duplicate_counted_twice", true, false) {
            from = incoming.from.clone();
        }
        incoming
            .entries
            .iter()
            .filter(|e| !from.contains(e.part.dot))
            .cloned()
            .collect()
    }

    /// A register written elsewhere drags the hybrid clock forward, within its bound.
    pub(crate) fn observe_clocks<'a>(&mut self, puts: impl IntoIterator<Item = &'a Put>) {
        for stamp in puts.into_iter().filter_map(stamp_of) {
            self.clock.observe(self.now.wall_ms, stamp);
        }
    }
}

/// The stamp of a hybrid clock that wrote it, if one did.
pub(super) fn stamp_of(put: &Put) -> Option<u64> {
    match put.payload {
        Payload::Stamped {
            clock,
            mode: ClockMode::Default,
            ..
        } => Some(clock),
        _ => None,
    }
}
