//! A vote: one ballot a node, counted over whoever is a member now.
//!
//! Not here: who the members are; the count asks for them. The store, which registers share (`writes`).
//!
//! Contract: a ballot supersedes those of its own node that it saw, in whichever epoch they were cast, and nobody
//! else's. Of two epochs of one node that did not see each other the later counts.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::delta::{Part, Payload};
use crate::id::{Epoch, NodeId};
use crate::mutation::{Issuer, Mutation};
use crate::planted;
use crate::replicas::Replicas;
use crate::view::view;
use crate::writes::Writes;

/// A vote: one ballot a node, counted over whoever is a member now.
///
/// ```
/// use anabranch_crdt::{Crdt, NodeId, Replicas, Vote};
///
/// assert_eq!(Vote::TYPE.name(), "vote");
/// let tally = Vote::default().tally(&Replicas::new(), [NodeId(1), NodeId(2)]);
/// assert_eq!((tally.votes_for, tally.voters), (0, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vote {
    ballots: Writes,
    digest: u64,
}

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Members whose ballot says yes.
    pub votes_for: usize,
    /// All members, those without a ballot included.
    pub voters: usize,
}

impl Vote {
    /// Every node's ballot, by node.
    pub fn ballots(&self, replicas: &Replicas) -> BTreeMap<NodeId, bool> {
        let mut latest: BTreeMap<NodeId, (Epoch, u64, bool)> = BTreeMap::new();
        for (dot, payload) in self.ballots.as_slice() {
            let Payload::Ballot { yes } = *payload else {
                continue;
            };
            let (replica, seq) = dot.full(replicas);
            let ballot = (replica.epoch, seq, yes);
            let counts = latest.entry(replica.node).or_insert(ballot);
            *counts = ballot.max(*counts);
        }
        let of_node = |(node, (_, _, yes))| (node, yes);
        latest.into_iter().map(of_node).collect()
    }

    /// The count over these members, each named once.
    pub fn tally(&self, replicas: &Replicas, members: impl IntoIterator<Item = NodeId>) -> Tally {
        let ballots = self.ballots(replicas);
        let mut tally = Tally {
            votes_for: 0,
            voters: 0,
        };
        for member in members {
            tally.voters += 1;
            tally.votes_for += usize::from(ballots.get(&member) == Some(&true));
        }
        tally
    }

    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        match mutation {
            Mutation::Create => self.ballots.create(issuer),
            Mutation::Vote(yes) => {
                let node = issuer.replicas.id(issuer.me).node;
                let ballot = Payload::Ballot { yes: *yes };
                self.ballots.write(issuer, ballot, |dot, payload| {
                    let is_mine = issuer.replicas.id(dot.ix()).node == node;
                    planted!("ballot_of_all", true, *payload == Payload::Present || is_mine)
                })
            }
            _ => Vec::new(),
        }
    }
}

view!(Vote, ballots: Writes);
