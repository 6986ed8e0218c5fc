//! What has been handed to the log and is not durable yet, and what waits for it.
//!
//! Contract: nothing that speaks of durability leaves before [`Input::Persisted`](super::Input::Persisted) covers it.

use std::collections::{BTreeSet, VecDeque};

use anabranch_crdt::{Epoch, NodeId, ReplicaIx, planted};
use bytes::Bytes;

use crate::engine::Engine;
use crate::engine::io::{Output, PersistFailure, RecordId};
use crate::engine::limits::RECORD_BYTES_MAX;
use crate::error::{Changed, Error, ErrorKind};
use crate::wire::{Frame, Lane, Record, ShardId};

/// Records on their way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Persist {
    last: RecordId,
    durable: RecordId,
    waiting: VecDeque<Waiting>,
    /// How far they lead, in their order.
    reached: VecDeque<(RecordId, Reached)>,
    bytes: usize,
    failed: Option<(PersistFailure, String)>,
    /// Frames that show what a keyed update did, until its record is durable: were they to leave before, and the record
    /// to be lost in a crash, its operations would come back from a peer and the key would not, and a repeat would
    /// count twice. And those that show what was done to a bounded counter: see `heir`.
    held: VecDeque<HeldFrame>,
}

#[derive(Debug)]
struct HeldFrame {
    until: RecordId,
    peer: NodeId,
    epoch: Epoch,
    lane: Lane,
    frame: Bytes,
}

#[derive(Debug)]
struct Waiting {
    id: RecordId,
    bytes: usize,
}

/// How far a record brings a shard in the stream of a replica.
pub(crate) type Reached = (ShardId, ReplicaIx, u64);

impl Persist {
    pub fn is_durable(&self, id: RecordId) -> bool {
        id <= self.durable
    }

    pub fn all_durable(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn failure(&self) -> Option<&(PersistFailure, String)> {
        self.failed.as_ref()
    }
}

impl Engine {
    /// Hands a record to the log, in pieces where it is large; says which record is the last of it. `reached`: all that it
    /// adds to the vectors of shards.
    pub(crate) fn record(&mut self, record: Record, reached: &[Reached]) -> RecordId {
        self.record_bytes(record.into_bytes(), reached)
    }

    /// The same for a record that is written already.
    pub(crate) fn record_bytes(&mut self, whole: Bytes, reached: &[Reached]) -> RecordId {
        let pieces = whole.len().div_ceil(RECORD_BYTES_MAX);
        for i in (0..pieces).filter(|_| pieces > 1) {
            let (from, to) = (i * RECORD_BYTES_MAX, (i + 1) * RECORD_BYTES_MAX);
            let (first, last) = (i == 0, i + 1 == pieces);
            let bytes = whole.slice(from..to.min(whole.len()));
            let piece = Record::Piece { first, last, bytes }.into_bytes();
            if last {
                return self.hand_out(piece, reached);
            }
            self.hand_out(piece, &[]);
        }
        self.hand_out(whole, reached)
    }

    /// All that a shard covers: what a record of whatever came from others may have added.
    pub(crate) fn reached(&self, id: ShardId) -> Vec<Reached> {
        let vv = self.shards[id.0 as usize].vv.iter();
        vv.map(|(ix, seq)| (id, ix, seq)).collect()
    }

    fn hand_out(&mut self, payload: Bytes, reached: &[Reached]) -> RecordId {
        let id = RecordId(self.persist.last.0 + 1);
        self.persist.last = id;
        self.persist.bytes += payload.len();
        let bytes = payload.len();
        self.persist.waiting.push_back(Waiting { id, bytes });
        let reached = reached.iter().map(|reached| (id, *reached));
        self.persist.reached.extend(reached);
        self.outputs.push_back(Output::Persist { id, payload });
        if planted!("ack_before_sync", true, false) {
            self.on_persisted(id);
        }
        id
    }

    /// The record handed out last: once it is durable, all there is here now is.
    pub(crate) fn last_record(&self) -> RecordId {
        self.persist.last
    }

    pub(crate) fn on_persisted(&mut self, upto: RecordId) {
        assert!(
            upto <= self.persist.last,
            "record {upto:?} confirmed, only {:?} was handed out",
            self.persist.last
        );
        if upto <= self.persist.durable {
            return;
        }
        self.persist.durable = upto;
        self.persist.failed = None;
        let mut shards = BTreeSet::new();
        while self.persist.waiting.front().is_some_and(|w| w.id <= upto) {
            let Some(done) = self.persist.waiting.pop_front() else {
                break;
            };
            self.persist.bytes -= done.bytes;
        }
        while let Some((_, (shard, ix, seq))) = self.persist.reached.pop_front_if(|(id, _)| *id <= upto) {
            self.shard(shard).durable.advance(ix, seq);
            shards.insert(shard);
        }
        for shard in shards {
            self.trim(shard);
            self.said
                .news(shard, self.now.time.after_ms(self.config.limits.said_delay_ms));
            self.say_owed(shard);
        }
        self.release_frames();
        self.release_levels();
    }

    /// Sends a frame that shows these shards' state: at once, or when the updates in it that are kept back are durable.
    pub(crate) fn send_state(&mut self, peer: NodeId, shards: &[ShardId], lane: Lane, frame: Frame) {
        let until = shards
            .iter()
            .map(|s| self.shards[s.0 as usize].kept_back)
            .max()
            .unwrap_or_default();
        if self.persist.is_durable(until) {
            return self.send_bytes(peer, lane, frame.into_bytes());
        }
        let frame = frame.into_bytes();
        let Some(p) = self.peers.get_mut(&peer) else {
            return;
        };
        p.in_flight += frame.len() as u64;
        let epoch = p.epoch;
        self.persist.held.push_back(HeldFrame {
            until,
            peer,
            epoch,
            lane,
            frame,
        });
    }

    fn release_frames(&mut self) {
        while self
            .persist
            .held
            .front()
            .is_some_and(|h| h.until <= self.persist.durable)
        {
            let Some(HeldFrame {
                peer,
                epoch,
                lane,
                frame,
                ..
            }) = self.persist.held.pop_front()
            else {
                return;
            };
            if self.peers.get(&peer).is_some_and(|p| p.epoch == epoch) {
                self.outputs.push_back(Output::Send {
                    peer,
                    epoch,
                    lane,
                    frame,
                });
            }
        }
    }

    /// What was held for a link that is gone is not sent over the next one.
    pub(crate) fn forget_frames(&mut self, peer: NodeId) {
        self.persist.held.retain(|h| h.peer != peer);
    }

    pub(crate) fn on_persist_failed(&mut self, failure: PersistFailure, reason: &str) {
        self.persist.failed = Some((failure, reason.to_owned()));
        let error = match failure {
            PersistFailure::Full => Error::new(
                ErrorKind::DiskFull,
                format!(
                    "accepted here but not durable: {reason}. It becomes durable once there is space; retry it only under an idempotency key, and under the one it had"
                ),
            )
            .with_changed(Changed::Unknown),
            PersistFailure::Refused => Error::new(
                ErrorKind::Io,
                format!(
                    "accepted here but not durable: {reason}. It becomes durable once the system takes it; retry it only under an idempotency key, and under the one it had"
                ),
            )
            .with_changed(Changed::Unknown),
            PersistFailure::Poisoned => Error::new(
                ErrorKind::Poisoned,
                format!(
                    "the store of this node failed: {reason}. The update may be lost with this node; restart it, then retry under the idempotency key it had, if it had one"
                ),
            ),
        };
        self.fail_undurable(&error);
    }

    /// Whether an update can be taken; otherwise nothing has changed.
    pub(crate) fn check_store(&self) -> Result<(), Error> {
        match self.persist.failure() {
            Some((PersistFailure::Full, reason)) => Err(Error::new(
                ErrorKind::DiskFull,
                format!(
                    "not accepted, nothing changed: {reason}. Free space on this node's disk, or use another node"
                ),
            )),
            Some((PersistFailure::Refused, reason)) => Err(Error::new(
                ErrorKind::Io,
                format!(
                    "not accepted, nothing changed: {reason}. This node tries again by itself; mend what its system refuses, or use another node"
                ),
            )),
            Some((PersistFailure::Poisoned, reason)) => Err(Error::new(
                ErrorKind::Poisoned,
                format!(
                    "not accepted, nothing changed: this node's store failed ({reason}) and needs a restart"
                ),
            )),
            None if self.persist.bytes > self.config.limits.unpersisted_bytes_max => Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "not accepted, nothing changed: {} bytes wait for the disk; retry later",
                    self.persist.bytes
                ),
            )),
            None => Ok(()),
        }
    }
}
