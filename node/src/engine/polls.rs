//! Majority reads: what more than half of the members have is gathered, taken in, and had by as many before it is shown.
//!
//! The two rounds are those of Attiya, Bar-Noy and Dolev ("Sharing memory robustly in message-passing systems", 1995): ask, then
//! see to it that what is shown stays where the next one will ask.
//!
//! Contract: what such a read shows is not older than anything that was durable at a majority when it began, nor than what an
//! earlier one showed, as long as no member has lost its disk since.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_crdt::{NodeId, planted};

use crate::engine::Engine;
use crate::engine::io::{Copies, Level, Read, RequestId, Stage, Time};
use crate::engine::levels::Pending;
use crate::engine::said::Tone;
use crate::engine::translate::Refused;
use crate::error::{Error, ErrorKind};
use crate::wire::{Ask, Frame, Lane, Said, ShardId, Tell, Token};

/// What a majority must have done with what is shown.
const MAJORITY: Level = Level {
    copies: Copies::Majority,
    stage: Stage::Durable,
};

/// A read whose majority has not been heard yet.
#[derive(Debug)]
struct Poll {
    request: RequestId,
    read: Read,
    shards: BTreeSet<ShardId>,
    deadline: Time,
    told: BTreeSet<NodeId>,
    /// What the session has seen.
    seen: Token,
}

/// Reads that ask others.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    next: u64,
    waiting: BTreeMap<u64, Poll>,
    /// Others count than did when those who told were counted.
    counts_anew: bool,
}

impl Polls {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn wakeup(&self) -> Option<Time> {
        self.waiting.values().map(|poll| poll.deadline).min()
    }

    pub fn requests(&self) -> impl Iterator<Item = RequestId> {
        self.waiting.values().map(|poll| poll.request)
    }
}

impl Engine {
    /// Asks every member that is linked what it has, now.
    pub(crate) fn poll(&mut self, request: RequestId, read: Read, shards: BTreeSet<ShardId>, deadline: Time) {
        self.polls.next += 1;
        let id = self.polls.next;
        let poll = Poll {
            request,
            seen: read.after.clone(),
            read,
            shards,
            deadline,
            told: BTreeSet::new(),
        };
        self.polls.waiting.insert(id, poll);
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.ask(peer, id);
        }
        self.settle_poll(id);
    }

    fn ask(&mut self, peer: NodeId, id: u64) {
        if let Some(poll) = self.polls.waiting.get(&id) {
            let shards = poll.shards.iter().map(|shard| shard.0).collect();
            self.send(peer, Lane::Control, &Frame::Ask(Ask { id, shards }));
        }
    }

    /// A link is up: whoever still waits asks over it, too.
    pub(crate) fn ask_new_peer(&mut self, peer: NodeId) {
        let ids: Vec<u64> = self.polls.waiting.keys().copied().collect();
        ids.into_iter().for_each(|id| self.ask(peer, id));
    }

    /// A peer asks what is here: it is told, and then that it has been.
    pub(crate) fn on_ask(&mut self, peer: NodeId, ask: &Ask) -> Result<(), Refused> {
        let shards = ask.shards.iter().map(|shard| self.shard_id(*shard));
        let shards = shards.collect::<Result<BTreeSet<ShardId>, Refused>>()?;
        if shards.len() < ask.shards.len() {
            return Err("asks for a shard twice".into());
        }
        let shards: Vec<ShardId> = shards.into_iter().collect();
        let mut said = self.statements(peer, &shards, Tone::Answer);
        let last = said.pop().unwrap_or_else(|| Said::of(Tone::Answer));
        for earlier in said {
            self.send(peer, Lane::Control, &Frame::Said(earlier));
        }
        for shard in &shards {
            self.owe_on_disk(*shard, peer);
        }
        let (id, said) = (ask.id, last);
        self.send(peer, Lane::Control, &Frame::Tell(Tell { id, said }));
        Ok(())
    }

    /// What a peer had when it was asked is known.
    pub(crate) fn on_tell(&mut self, peer: NodeId, tell: Tell) -> Result<(), Refused> {
        self.on_said(peer, tell.said)?;
        self.on_told(peer, tell.id);
        Ok(())
    }

    fn on_told(&mut self, peer: NodeId, id: u64) {
        if let Some(poll) = self.polls.waiting.get_mut(&id) {
            poll.told.insert(peer);
            self.settle_poll(id);
        }
    }

    /// This node or a peer counts for majorities that did not, or a member does no more. Who told may have done so before it counted:
    /// a node that has just started is asked as soon as it is linked.
    pub(crate) fn count_anew(&mut self) {
        self.polls.counts_anew = true;
    }

    pub(crate) fn settle_polls(&mut self) {
        if std::mem::take(&mut self.polls.counts_anew) {
            let ids: Vec<u64> = self.polls.waiting.keys().copied().collect();
            ids.into_iter().for_each(|id| self.settle_poll(id));
        }
    }

    /// Those who told and count.
    fn heard<'a>(&'a self, poll: &'a Poll) -> impl Iterator<Item = &'a NodeId> {
        let votes = |peer: &NodeId, shard: &ShardId| {
            let view = self.shards[shard.0 as usize].peers.get(peer);
            view.is_some_and(|view| view.known && view.voting)
        };
        let told = poll.told.iter().filter(|peer| self.members.contains(*peer));
        told.filter(move |peer| poll.shards.iter().all(|shard| votes(peer, shard)))
    }

    /// Goes on once a majority has been heard: with all that it has.
    fn settle_poll(&mut self, id: u64) {
        let Some(poll) = self.polls.waiting.get(&id) else {
            return;
        };
        let own = poll.shards.iter().all(|shard| self.votes(*shard));
        let heard: Vec<NodeId> = self.heard(poll).copied().collect();
        // More copies than there are members no majority is.
        let needed = self.copies_needed(MAJORITY).unwrap_or(usize::MAX);
        if usize::from(own) + heard.len() < planted!("majority_of_one", 1, needed) {
            return;
        }
        if let Some(mut poll) = self.polls.waiting.remove(&id) {
            for shard in poll.shards.iter().map(|shard| &self.shards[shard.0 as usize]) {
                for view in heard.iter().filter_map(|peer| shard.peers.get(peer)) {
                    shard.add_to(&mut poll.seen, &view.applied);
                }
            }
            self.take_in(poll.request, poll.read, poll.seen, poll.deadline);
        }
    }

    /// What the majority has is here: it is shown once a majority has this.
    pub(crate) fn show_once_kept(&mut self, request: RequestId, read: &Read, deadline: Time) {
        let shards: BTreeSet<ShardId> = read.entities.iter().map(|id| self.shard_of(id)).collect();
        let token: Token = self.token(&read.after, &read.entities);
        let answer = self.answer_of(self.started.epoch, Vec::new(), false);
        // What is here by the time that a majority is seen to have this may be more, which none has yet.
        let shown = read.entities.iter().map(|id| self.view_as_it_is(id)).collect();
        let observed = shards.into_iter();
        let pending = Pending {
            answer: crate::engine::Answer {
                token,
                shown,
                ..answer
            },
            observed: observed
                .map(|id| (id, self.shards[id.0 as usize].vv.clone()))
                .collect(),
            keyed: false,
            reads: true,
            level: MAJORITY,
            record: self.last_record(),
            deadline,
            timeout_ms: read.timeout_ms,
        };
        self.await_level(request, pending);
    }

    pub(crate) fn on_polls_due(&mut self) {
        let now = self.now.time;
        let due = self.polls.waiting.extract_if(.., |_, poll| poll.deadline <= now);
        let due: Vec<Poll> = due.map(|(_, poll)| poll).collect();
        let members = self.members.len();
        for poll in due {
            let message = format!(
                "nothing is shown: {} other nodes of {members} members have said what they have within {} ms, and a majority is \
                 asked for; retry later",
                self.heard(&poll).count(),
                poll.read.timeout_ms
            );
            self.decline(poll.request, Error::new(ErrorKind::Stale, message));
        }
    }
}
