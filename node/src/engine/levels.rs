//! Write levels: which updates wait for how many copies, and how they are answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch_crdt::{Epoch, ReplicaId, VersionVector};

use crate::engine::Engine;
use crate::engine::io::{Answer, Copies, Level, Output, RecordId, RequestId, Stage, Time};
use crate::engine::shard::PeerView;
use crate::error::{Error, ErrorKind};
use crate::wire::{ShardId, Token};

/// One update that is not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub answer: Answer,
    /// What an update that changed nothing has seen, or one that took something away.
    pub observed: Vec<(ShardId, VersionVector)>,
    /// Whether it carries an idempotency key.
    pub keyed: bool,
    /// Whether it is a read, and nothing was done.
    pub reads: bool,
    pub level: Level,
    pub record: RecordId,
    pub deadline: Time,
    pub timeout_ms: u64,
}

impl Pending {
    /// The shards that it waits for.
    fn shards(&self) -> impl Iterator<Item = ShardId> {
        let observed = self.observed.iter().map(|(shard, _)| *shard);
        self.answer
            .dots
            .iter()
            .map(|(shard, _, _)| *shard)
            .chain(observed)
    }
}

/// All updates that are not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    /// Boxed: a tree moves what is in it.
    pending: BTreeMap<RequestId, Box<Pending>>,
    deadlines: BTreeSet<(Time, RequestId)>,
    /// In the order their records become durable: ascending.
    by_record: VecDeque<(RecordId, RequestId)>,
    /// Those that wait for other nodes' copies, by shard.
    by_shard: BTreeSet<(ShardId, RequestId)>,
}

impl Levels {
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn wakeup(&self) -> Option<Time> {
        self.deadlines.first().map(|(t, _)| *t)
    }

    /// Those that only read.
    pub fn reads(&self) -> impl Iterator<Item = RequestId> {
        let reads = self.pending.iter().filter(|(_, pending)| pending.reads);
        reads.map(|(request, _)| *request)
    }

    fn remove(&mut self, request: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&request)?;
        self.deadlines.remove(&(pending.deadline, request));
        if let Ok(at) = self.by_record.binary_search(&(pending.record, request)) {
            self.by_record.remove(at);
        }
        for shard in pending.shards() {
            self.by_shard.remove(&(shard, request));
        }
        Some(*pending)
    }

    fn insert(&mut self, request: RequestId, pending: Pending) {
        self.deadlines.insert((pending.deadline, request));
        let due = (pending.record, request);
        // Mostly it is the last: only a repeat waits for an earlier record.
        match self.by_record.back() {
            Some(last) if *last > due => {
                let at = self.by_record.partition_point(|other| *other < due);
                self.by_record.insert(at, due);
            }
            _ => self.by_record.push_back(due),
        }
        if pending.level.copies != Copies::Local {
            self.by_shard
                .extend(pending.shards().map(|shard| (shard, request)));
        }
        self.pending.insert(request, Box::new(pending));
    }

    /// Those that wait for other nodes' copies of this shard.
    fn waiting_for_copies(&self, shard: ShardId) -> impl Iterator<Item = RequestId> {
        self.by_shard
            .range((shard, RequestId(0))..=(shard, RequestId(u64::MAX)))
            .map(|(_, request)| *request)
    }
}

/// What a peer is known to have, so far.
fn said(view: &PeerView, stage: Stage) -> &VersionVector {
    match stage {
        Stage::Applied => &view.applied,
        Stage::Durable => &view.durable,
    }
}

impl Engine {
    /// How many copies a level asks for here; refused where it asks for none, or there are not so many members.
    pub(crate) fn copies_needed(&self, level: Level) -> Result<usize, Error> {
        let members = self.members.len();
        let needed = match level.copies {
            Copies::Local => 1,
            Copies::N(n) => usize::from(n),
            Copies::Majority => members / 2 + 1,
            Copies::All => members,
        };
        if needed == 0 {
            let message = "nothing changed: a level of 0 copies; `local` is this node's alone";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if needed <= members {
            return Ok(needed);
        }
        Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "nothing changed: level {level} asks for {needed} copies, the cluster has {members} members"
            ),
        ))
    }

    /// Answers at once if the level is reached, otherwise keeps the update until it is.
    pub(crate) fn await_level(&mut self, request: RequestId, pending: Pending) {
        if self.is_confirmed(&pending) {
            self.answer(request, pending);
            return;
        }
        self.levels.insert(request, pending);
    }

    /// Whether a batch of this shard shall be acknowledged at once.
    pub(crate) fn is_urgent(&self, shard: ShardId) -> bool {
        self.levels.waiting_for_copies(shard).next().is_some()
    }

    fn confirmed(&self, pending: &Pending) -> usize {
        let own = match pending.level.stage {
            Stage::Applied => true,
            Stage::Durable => self.persist.is_durable(pending.record),
        };
        // Who has not caught up counts for no majority, this node neither.
        let own = own
            && (pending.level.copies != Copies::Majority || pending.shards().all(|shard| self.votes(shard)));
        let others = self.members.iter().filter(|m| **m != self.config.node);
        usize::from(own) + others.filter(|m| self.covers(**m, pending)).count()
    }

    /// What is to be said where this node's own copy does not count.
    fn why_not_own(&self, pending: &Pending) -> &'static str {
        if pending.level.copies == Copies::Majority && !pending.shards().all(|shard| self.votes(shard)) {
            " (this node's own copy counts for a majority once it has compared with another node since its start)"
        } else {
            ""
        }
    }

    fn covers(&self, member: anabranch_crdt::NodeId, pending: &Pending) -> bool {
        let replica = ReplicaId::new(self.config.node, pending.answer.epoch);
        let counts = |view: &PeerView| view.voting || pending.level.copies != Copies::Majority;
        let has_seen = pending.observed.iter().all(|(shard, vv)| {
            let view = self.shards[shard.0 as usize].peers.get(&member);
            view.is_some_and(|view| counts(view) && said(view, pending.level.stage).covers(vv))
        });
        has_seen
            && pending.answer.dots.iter().all(|&(shard, _, last)| {
                let shard = &self.shards[shard.0 as usize];
                let (Some(view), Some(ix)) = (shard.peers.get(&member), shard.replicas.get(replica)) else {
                    return false;
                };
                counts(view) && said(view, pending.level.stage).get(ix) >= last
            })
    }

    fn is_confirmed(&self, pending: &Pending) -> bool {
        // A level that needs more than the local copy needs that one too: what is not here cannot be answered for. What is read is
        // here, and safe where enough others keep it, whatever becomes of this disk.
        let own =
            pending.reads || pending.level.stage == Stage::Applied || self.persist.is_durable(pending.record);
        match pending.level.copies {
            Copies::Local => own,
            _ => {
                own && self
                    .copies_needed(pending.level)
                    .is_ok_and(|n| self.confirmed(pending) >= n)
            }
        }
    }

    fn answer(&mut self, request: RequestId, pending: Pending) {
        let confirmed = if pending.level.copies == Copies::Local {
            1
        } else {
            self.confirmed(&pending) as u32
        };
        let mut answer = Answer {
            confirmed,
            ..pending.answer
        };
        if pending.reads {
            // What is read is what is here now.
            let shards = pending.observed.iter().map(|(shard, _)| *shard);
            self.add_shards(&mut answer.token, shards);
        }
        self.outputs.push_back(Output::Done {
            request,
            result: Ok(answer),
        });
    }

    fn answer_if_confirmed(&mut self, request: RequestId) {
        if self
            .levels
            .pending
            .get(&request)
            .is_some_and(|p| self.is_confirmed(p))
            && let Some(pending) = self.levels.remove(request)
        {
            self.answer(request, pending);
        }
    }

    /// Records became durable: answers whoever waited for no more than that.
    pub(crate) fn release_levels(&mut self) {
        // Who still waits then, waits for copies, and need not be looked at with every commit.
        while let Some((_, request)) = self
            .levels
            .by_record
            .pop_front_if(|(record, _)| self.persist.is_durable(*record))
        {
            self.answer_if_confirmed(request);
        }
    }

    /// A peer has said something of a shard: answers whoever waited for its copy.
    pub(crate) fn release_copies(&mut self, shard: ShardId) {
        let waiting: Vec<RequestId> = self.levels.waiting_for_copies(shard).collect();
        for request in waiting {
            self.answer_if_confirmed(request);
        }
    }

    /// The store failed: whoever waits for durability here gets this error.
    pub(crate) fn fail_undurable(&mut self, error: &Error) {
        let waiting: Vec<RequestId> = self
            .levels
            .pending
            .iter()
            .filter(|(_, p)| {
                !p.reads && p.level.stage == Stage::Durable && !self.persist.is_durable(p.record)
            })
            .map(|(request, _)| *request)
            .collect();
        for request in waiting {
            // What was made is here, and goes on replicating.
            let error = match self.levels.remove(request) {
                Some(pending) => pending.answer.token.within(error.clone()),
                None => error.clone(),
            };
            self.decline(request, error);
        }
    }

    pub(crate) fn on_levels_due(&mut self) {
        while let Some(&(deadline, request)) = self.levels.deadlines.first() {
            if deadline > self.now.time {
                return;
            }
            let Some(pending) = self.levels.remove(request) else {
                continue;
            };
            let needed = self.copies_needed(pending.level).unwrap_or(self.members.len());
            if pending.reads {
                let message = format!(
                    "nothing is shown: {} of {needed} nodes are known to keep it within {} ms; retry later",
                    self.confirmed(&pending),
                    pending.timeout_ms
                );
                self.decline(request, Error::new(ErrorKind::Stale, message));
                continue;
            }
            let error = Error::new(
                ErrorKind::Unconfirmed,
                format!(
                    "accepted here, {} of {needed} copies ({}) confirmed within {} ms{}; it is not rolled back and goes on \
                     replicating. {}",
                    self.confirmed(&pending),
                    pending.level,
                    pending.timeout_ms,
                    self.why_not_own(&pending),
                    if pending.keyed {
                        "Retry with the same key to wait again"
                    } else {
                        "Do not repeat it: it had no idempotency key, and would be made again"
                    }
                ),
            );
            // It is here: whoever goes on elsewhere must find it there, or be told that it is not there yet.
            self.decline(request, pending.answer.token.within(error));
        }
    }

    /// An update's epoch and dots as an answer.
    pub(crate) fn answer_of(&self, epoch: Epoch, dots: Vec<(ShardId, u64, u64)>, repeated: bool) -> Answer {
        Answer {
            directory: self.started.directory,
            epoch,
            repeated,
            confirmed: 0,
            dots,
            token: Token::default(),
            shown: Vec::new(),
        }
    }
}
