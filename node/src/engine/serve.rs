//! Snapshots of shards for peers that are below a base here: one session a peer and shard, a part at a time as it is
//! asked for.
//!
//! Not here: the parts themselves (`frozen`), the receiving end (`snapshot`).
//! Contract: a session holds a frozen view and the last part it gave; when its time is over it leaves no trace.

use std::collections::BTreeMap;

use anabranch_crdt::NodeId;

use crate::engine::Engine;
use crate::engine::frozen::Frozen;
use crate::engine::io::Time;
use crate::engine::limits::SESSIONS_PER_PEER_MAX;
use crate::engine::translate::Refused;
use crate::wire::{Busy, Frame, Lane, ShardId, ShardPart, SnapshotNext};

/// Snapshots being served.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<(NodeId, ShardId), Session>);

#[derive(Debug)]
struct Session {
    id: u64,
    frozen: Frozen,
    /// The part given last: it may be asked for again.
    given: ShardPart,
    asked_at: Time,
    expires: Time,
}

impl Sessions {
    pub fn wakeup(&self) -> Option<Time> {
        self.0.values().map(|s| s.expires).min()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn forget(&mut self, peer: NodeId) {
        self.0.retain(|(p, _), _| *p != peer);
    }

    /// Whether there is a place for one more with this peer. A session for the same shard gives its place up, and where
    /// all are taken so does the one that was not asked for longest, if that was before `quiet_since`: its asker is slow,
    /// or has what it wanted from elsewhere.
    fn make_place(&mut self, peer: NodeId, shard: ShardId, most: usize, quiet_since: Time) -> bool {
        self.0.remove(&(peer, shard));
        let mut rivals: Vec<((NodeId, ShardId), Time)> =
            self.0.iter().map(|(place, s)| (*place, s.asked_at)).collect();
        if rivals.len() < most {
            rivals.retain(|((p, _), _)| *p == peer);
            if rivals.len() < SESSIONS_PER_PEER_MAX {
                return true;
            }
        }
        let quiet = rivals.into_iter().filter(|(_, asked_at)| *asked_at < quiet_since);
        let quietest = quiet.min_by_key(|(_, asked_at)| *asked_at);
        quietest.is_some_and(|(place, _)| self.0.remove(&place).is_some())
    }
}

impl Engine {
    /// Answers a pull that cannot be answered with operations.
    pub(crate) fn open_session(&mut self, peer: NodeId, shard: ShardId, id: u64) {
        let (most, budget) = (self.config.limits.sessions_max, self.config.limits.part_bytes);
        let quiet_us = self.config.limits.pull_timeout_ms * 2_000;
        let quiet_since = Time(self.now.time.0.saturating_sub(quiet_us));
        if !self.sessions.make_place(peer, shard, most, quiet_since) {
            self.counters.snapshots_refused += 1;
            return self.say_busy(peer, shard, id);
        }
        self.counters.snapshots_served += 1;
        let mut frozen = Frozen::of(&self.shards[shard.0 as usize], id);
        let Some(given) = frozen.next_part(budget) else {
            unreachable!("a session just opened has a first part")
        };
        let session = Session {
            id,
            frozen,
            given,
            asked_at: self.now.time,
            expires: self.session_expires(),
        };
        self.sessions.0.insert((peer, shard), session);
        self.give_part(peer, shard);
    }

    pub(crate) fn on_snapshot_next(&mut self, peer: NodeId, m: SnapshotNext) -> Result<(), Refused> {
        let shard = self.shard_id(m.shard)?;
        let (budget, expires) = (self.config.limits.part_bytes, self.session_expires());
        let asked_at = self.now.time;
        let place = self.sessions.0.get_mut(&(peer, shard));
        let Some(open) = place.filter(|s| s.id == m.session) else {
            // Its time was over, or it gave its place up: the asker begins again.
            self.say_busy(peer, shard, m.session);
            return Ok(());
        };
        (open.asked_at, open.expires) = (asked_at, expires);
        if m.resume == *open.frozen.resume()
            && let Some(next) = open.frozen.next_part(budget)
        {
            open.given = next;
        } else if m.resume != open.given.after {
            // A request that came late: what it asks for was given, and asked on from, before.
            return Ok(());
        }
        self.give_part(peer, shard);
        Ok(())
    }

    fn session_expires(&self) -> Time {
        // Longer than the longest time an asker waits before it asks again.
        self.now
            .time
            .after_ms(self.config.limits.pull_wait_ms(u32::MAX) * 2)
    }

    fn give_part(&mut self, peer: NodeId, shard: ShardId) {
        let Some(open) = self.sessions.0.get(&(peer, shard)) else {
            return;
        };
        let part = open.given.clone();
        if part.last {
            // Its place is free at once; should the part be lost, the asker begins again.
            self.sessions.0.remove(&(peer, shard));
        }
        self.send_state(peer, &[shard], Lane::Bulk, Frame::SnapshotPart(part));
    }

    pub(crate) fn say_busy(&mut self, peer: NodeId, shard: ShardId, id: u64) {
        let shard = shard.0;
        self.send(peer, Lane::Control, &Frame::Busy(Busy { shard, id }));
    }

    pub(crate) fn on_sessions_due(&mut self) {
        let now = self.now.time;
        self.sessions.0.retain(|_, s| s.expires > now);
    }
}
