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
///
/// ```
/// use anabranch_crdt::{Mutation, NodeId, Tally, Value};
/// # use anabranch_crdt::{Causal, CausalError, Epoch, ReplicaId, Type};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// # let mut here = Causal::new(Type::Vote);
/// here.join_op(&here.mutate(me, 0, &Mutation::Vote(true))?)?;
/// let Value::Vote(vote) = here.value() else { unreachable!() };
/// let tally = vote.tally(here.replicas(), [NodeId(1), NodeId(2), NodeId(3)]);
/// assert_eq!(tally, Tally { votes_for: 1, voters: 3 });
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Members whose ballot says yes.
    pub votes_for: usize,
    /// All members, those without a ballot included.
    pub voters: usize,
}

impl Vote {
    /// Every node's ballot, by node.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, NodeId, Value};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, ReplicaId, Type};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// # let mut here = Causal::new(Type::Vote);
    /// here.join_op(&here.mutate(a, 0, &Mutation::Vote(true))?)?;
    /// here.join_op(&here.mutate(b, 0, &Mutation::Vote(true))?)?;
    /// here.join_op(&here.mutate(b, 0, &Mutation::Vote(false))?)?; // has changed its mind
    /// let Value::Vote(vote) = here.value() else { unreachable!() };
    /// assert_eq!(vote.ballots(here.replicas()), [(NodeId(1), true), (NodeId(2), false)].into());
    /// # Ok::<(), CausalError>(())
    /// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, NodeId, Value};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, ReplicaId, Type};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// # let mut here = Causal::new(Type::Vote);
    /// here.join_op(&here.mutate(a, 0, &Mutation::Vote(true))?)?;
    /// here.join_op(&here.mutate(b, 0, &Mutation::Vote(true))?)?;
    /// let Value::Vote(vote) = here.value() else { unreachable!() };
    /// assert_eq!(vote.tally(here.replicas(), [NodeId(1), NodeId(2)]).votes_for, 2);
    /// assert_eq!(vote.tally(here.replicas(), [NodeId(1)]).votes_for, 1); // the other is no member any more
    /// # Ok::<(), CausalError>(())
    /// ```
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
