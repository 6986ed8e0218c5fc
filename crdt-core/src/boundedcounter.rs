//! A counter that never falls below 0, on any side of any partition.
//!
//! What is there to be taken away is divided among the replicas: each holds **rights**, and takes away only what it
//! holds. A holding is one live dot, and only the replica that holds it, or its heir, kills it, by putting what is left. So no
//! right is used twice, and the sum of all holdings is the counter. An addition gives its author rights; a transfer
//! puts a holding for somebody else, who takes it up with the next operation that needs it.
//!
//! (Escrow, as in Balegas, Serra, Duarte, Ferreira, Shapiro, Rodrigues, Preguiça: "Extending Eventually Consistent Cloud
//! Databases for Enforcing Numeric Invariants", SRDS 2015. There the state is a matrix of what each replica gave to
//! each; here it is the holdings that are left.)
//!
//! Not here: who should hold how much, and asking others for it. The store, which registers share (`writes`).
//!
//! Contract: no holding is negative, so no set of dots, in whatever order they came, reads below 0. A replica id is one
//! run of a node: what a run held when it ended is for a later run of the same node alone, and for that one only if it knows
//! everything that the earlier ones did ([`Issuer::inherits`]).

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::delta::{Kill, Part, Path, Payload, Put};
use crate::dot::Dot;
use crate::id::{Epoch, ReplicaId};
use crate::mutation::{Issuer, Mutation, MutationError, has};
use crate::planted;
use crate::replicas::Replicas;
use crate::view::{Stored, view};
use crate::writes::Writes;

/// How many transfers to one replica may wait until it takes them up.
///
/// ```
/// use anabranch_crdt::{Causal, CausalError, Mutation, MutationError, TRANSFERS_MAX, Type};
/// # use anabranch_crdt::{Epoch, NodeId, ReplicaId};
///
/// # let (me, to) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
/// let mut here = Causal::new(Type::BoundedCounter);
/// here.join_op(&here.mutate(me, 0, &Mutation::Increment(100))?)?;
/// for _ in 0..TRANSFERS_MAX {
///     here.join_op(&here.mutate(me, 0, &Mutation::Transfer { to, amount: 1 })?)?;
/// }
/// let one_more = here.mutate(me, 0, &Mutation::Transfer { to, amount: 1 });
/// assert!(matches!(one_more, Err(CausalError::Mutation(MutationError::TransfersWait { .. }))));
/// # Ok::<(), CausalError>(())
/// ```
pub const TRANSFERS_MAX: usize = 64;

/// A counter that never falls below 0.
///
/// For one that must not rise above a limit, count down what is left of the limit.
///
/// ```
/// use anabranch_crdt::{Causal, Epoch, Mutation, NodeId, Reading, ReplicaId, Type};
///
/// let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
/// let mut here = Causal::new(Type::BoundedCounter);
/// here.join_op(&here.mutate(a, 0, &Mutation::Increment(10))?)?;
/// here.join_op(&here.mutate(a, 0, &Mutation::Transfer { to: b, amount: 4 })?)?;
/// let mut there = here.clone();
///
/// // Apart from each other, neither takes away more than it holds.
/// assert!(here.mutate(a, 0, &Mutation::Increment(-7)).is_err());
/// here.join_op(&here.mutate(a, 0, &Mutation::Increment(-6))?)?;
/// there.join_op(&there.mutate(b, 0, &Mutation::Increment(-4))?)?;
/// here.join(&there)?;
/// assert_eq!(here.read(), Reading::Count(0));
/// # Ok::<(), anabranch_crdt::CausalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BoundedCounter {
    holdings: Writes,
    digest: u64,
}

/// One live dot: who holds how much of the counter.
struct Holding {
    dot: Dot,
    by: ReplicaId,
    amount: u64,
}

impl BoundedCounter {
    /// What it counts to.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let (me, to) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// let mut here = Causal::new(Type::BoundedCounter);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Increment(10))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Transfer { to, amount: 4 })?)?; // moves, takes nothing away
    /// assert!(matches!(here.value(), Value::BoundedCounter(counter) if counter.total() == 10));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn total(&self) -> i128 {
        let amounts = self.holdings.as_slice().iter().map(|(_, payload)| match payload {
            Payload::Rights { amount, .. } => i128::from(*amount),
            _ => 0,
        });
        amounts.fold(0, i128::saturating_add)
    }

    /// How much each replica may take away. The sum is the counter.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let (me, to) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// let mut here = Causal::new(Type::BoundedCounter);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Increment(10))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Transfer { to, amount: 4 })?)?;
    /// let Value::BoundedCounter(counter) = here.value() else { unreachable!() };
    /// assert_eq!(counter.rights(here.replicas()), [(me, 6), (to, 4)].into());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn rights(&self, replicas: &Replicas) -> BTreeMap<ReplicaId, u128> {
        let mut rights = BTreeMap::new();
        for holding in self.all(replicas) {
            let all: &mut u128 = rights.entry(holding.by).or_default();
            *all = all.saturating_add(holding.amount.into());
        }
        rights
    }

    /// How much `me` may take away, with what it [inherits](Issuer::inherits).
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let [first, second] = [1, 2].map(|run| ReplicaId::new(NodeId(1), Epoch(run)));
    /// let mut here = Causal::new(Type::BoundedCounter);
    /// here.join_op(&here.mutate(first, 0, &Mutation::Increment(10))?)?;
    /// let Value::BoundedCounter(counter) = here.value() else { unreachable!() };
    /// assert_eq!(counter.held(here.replicas(), second, None), 0);
    /// assert_eq!(counter.held(here.replicas(), second, Some(Epoch(1))), 10);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn held(&self, replicas: &Replicas, me: ReplicaId, inherits: Option<Epoch>) -> u128 {
        let own = self.all(replicas).filter(|held| has(me, inherits, held.by));
        own.map(|held| u128::from(held.amount)).sum()
    }

    /// Whether the issuer holds what this takes.
    fn check(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Result<(), MutationError> {
        let (replicas, me) = (issuer.replicas, issuer.replicas.id(issuer.me));
        let change = mutation.gain(me);
        let held = self.held(replicas, me, issuer.inherits);
        let after = i128::try_from(held).unwrap_or(i128::MAX).saturating_add(change);
        if change < 0 && planted!("rights_of_all", self.total() + change, after) < 0 {
            let (others, over) = elsewhere(issuer, &self.rights(replicas));
            return Err(MutationError::NotHeld {
                asked: change.unsigned_abs(),
                held,
                others,
                over,
            });
        }
        if change > 0 && after > i128::from(u64::MAX) {
            return Err(MutationError::HoldsTooMuch);
        }
        match mutation {
            Mutation::Transfer { to, .. }
                if change < 0 && self.waiting_for(replicas, me, *to) >= TRANSFERS_MAX =>
            {
                Err(MutationError::TransfersWait { to: *to })
            }
            _ => Ok(()),
        }
    }

    /// How many transfers from one to the other were not taken up.
    fn waiting_for(&self, replicas: &Replicas, from: ReplicaId, to: ReplicaId) -> usize {
        self.all(replicas)
            .filter(|holding| holding.by == to && replicas.id(holding.dot.ix()) == from)
            .count()
    }

    fn all<'a>(&'a self, replicas: &'a Replicas) -> impl Iterator<Item = Holding> + 'a {
        self.holdings
            .as_slice()
            .iter()
            .filter_map(|(dot, payload)| match payload {
                Payload::Rights { amount, to } => Some(Holding {
                    dot: *dot,
                    by: to.unwrap_or_else(|| replicas.id(dot.ix())),
                    amount: *amount,
                }),
                _ => None,
            })
    }

    /// What a mutation does, if its author holds what it takes.
    pub(crate) fn try_parts(
        &self,
        issuer: &Issuer<'_>,
        mutation: &Mutation,
    ) -> Result<Vec<Part>, MutationError> {
        self.check(issuer, mutation)?;
        Ok(self.parts(issuer, mutation))
    }

    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        let me = issuer.replicas.id(issuer.me);
        let change = mutation.gain(me);
        match mutation {
            Mutation::Create | Mutation::Increment(0) if !self.holdings.is_empty() => Vec::new(),
            Mutation::Create | Mutation::Increment(_) => vec![self.settle(issuer, change)],
            Mutation::Transfer { to, .. } if change < 0 => {
                let rest = self.settle(issuer, change);
                // The rest first: who has seen only that sees too little, never too much.
                let amount = u64::try_from(change.unsigned_abs()).unwrap_or(u64::MAX);
                vec![rest, holding(issuer.dot(1), amount, Some(*to), Vec::new())]
            }
            _ => Vec::new(),
        }
    }

    /// One holding of the issuer in place of all it has, and so much more or less. What would not fit in one stays as it is.
    fn settle(&self, issuer: &Issuer<'_>, change: i128) -> Part {
        let own = self.all(issuer.replicas).filter(|held| issuer.has(held.by));
        let mut own: Vec<Holding> = own.collect();
        // The largest first: then what is taken away is covered before the rest could be too much.
        own.sort_unstable_by_key(|held| core::cmp::Reverse((held.amount, held.dot)));
        let (mut amount, mut kills) = (change, Vec::new());
        for held in own {
            let with = amount.saturating_add(held.amount.into());
            if with <= i128::from(u64::MAX) {
                amount = with;
                kills.push(Kill::of(Path::Root, held.dot));
            }
        }
        let amount = u64::try_from(amount.max(0)).unwrap_or(u64::MAX);
        let kills = planted!("transfer_stays", keep_transfers(kills, issuer.me), kills);
        holding(issuer.dot(0), amount, None, kills)
    }
}

/// What others hold, and what runs of nodes hold that a later one has followed.
fn elsewhere(issuer: &Issuer<'_>, rights: &BTreeMap<ReplicaId, u128>) -> (u128, u128) {
    let (replicas, me) = (issuer.replicas, issuer.replicas.id(issuer.me));
    let mut last: BTreeMap<_, _> = [(me.node, me.epoch)].into();
    for id in replicas.iter().map(|(_, id)| id).chain(rights.keys().copied()) {
        let epoch = last.entry(id.node).or_insert(id.epoch);
        *epoch = id.epoch.max(*epoch);
    }
    let others = rights.iter().filter(|(by, _)| !issuer.has(**by));
    others.fold((0, 0), |(others, over), (by, held)| {
        if last.get(&by.node) == Some(&by.epoch) {
            (others + held, over)
        } else {
            (others, over + held)
        }
    })
}

/// The mistake of `transfer_stays`: what was taken up is still there.
#[cfg(planted)]
fn keep_transfers(mut kills: Vec<Kill>, me: crate::ReplicaIx) -> Vec<Kill> {
    kills.retain(|kill| kill.dot.ix() == me);
    kills
}

fn holding(dot: Dot, amount: u64, to: Option<ReplicaId>, kills: Vec<Kill>) -> Part {
    let put = Put {
        path: Path::Root,
        payload: Payload::Rights { amount, to },
    };
    Part {
        dot,
        put: Some(put),
        kills,
    }
}

view!(BoundedCounter, holdings: Writes);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::{Causal, CausalError};
    use crate::id::{Epoch, NodeId};
    use crate::kind::Type;
    use crate::value::Value;

    fn replica(node: u128) -> ReplicaId {
        ReplicaId::new(NodeId(node), Epoch(1))
    }

    fn with(counter: &mut Causal, me: u128, mutation: Mutation) -> Result<(), MutationError> {
        match counter.mutate(replica(me), 0, &mutation) {
            Ok(op) => counter.join_op(&op).map(drop).map_err(|e| panic!("{e}")),
            Err(CausalError::Mutation(e)) => Err(e),
            Err(e) => panic!("{e}"),
        }
    }

    fn give(to: u128, amount: u64) -> Mutation {
        Mutation::Transfer {
            to: replica(to),
            amount,
        }
    }

    #[test]
    fn a_refusal_says_who_holds_what() {
        let mut counter = Causal::new(Type::BoundedCounter);
        with(&mut counter, 1, Mutation::Increment(5)).unwrap();
        with(&mut counter, 2, Mutation::Increment(3)).unwrap();
        let refused = with(&mut counter, 2, Mutation::Increment(-4));
        let why = MutationError::NotHeld {
            asked: 4,
            held: 3,
            others: 5,
            over: 0,
        };
        assert_eq!(refused, Err(why.clone()));
        assert_eq!(with(&mut counter, 2, give(1, 4)), Err(why));
        assert!(with(&mut counter, 3, Mutation::Increment(i64::MIN)).is_err());
        assert_eq!(counter.read(), crate::Reading::Count(8));
    }

    #[test]
    fn a_transfer_of_nothing_or_to_oneself_is_nothing() {
        let mut counter = Causal::new(Type::BoundedCounter);
        for nothing in [give(2, 0), give(1, 7)] {
            with(&mut counter, 1, nothing).unwrap();
            assert!(!counter.value().exists());
        }
    }

    #[test]
    fn transfers_that_nobody_takes_up_are_bounded() {
        let mut counter = Causal::new(Type::BoundedCounter);
        with(&mut counter, 1, Mutation::Increment(1_000)).unwrap();
        for _ in 0..TRANSFERS_MAX {
            with(&mut counter, 1, give(2, 1)).unwrap();
        }
        let refused = with(&mut counter, 1, give(2, 1));
        assert_eq!(refused, Err(MutationError::TransfersWait { to: replica(2) }));
        with(&mut counter, 1, give(3, 1)).unwrap();
        with(&mut counter, 2, Mutation::Increment(-64)).unwrap();
        assert_eq!(counter.value().puts().count(), 3, "one holding each");
        with(&mut counter, 1, give(2, 1)).unwrap();
    }

    #[test]
    fn a_holding_that_would_not_fit_is_refused_and_not_cut() {
        let mut counter = Causal::new(Type::BoundedCounter);
        for _ in 0..2 {
            with(&mut counter, 1, Mutation::Increment(i64::MAX)).unwrap();
        }
        with(&mut counter, 1, Mutation::Increment(1)).unwrap();
        let refused = with(&mut counter, 1, Mutation::Increment(1));
        assert_eq!(refused, Err(MutationError::HoldsTooMuch));
        with(&mut counter, 2, Mutation::Increment(1)).unwrap();
        assert_eq!(counter.read(), crate::Reading::Count(1 << 64));
    }

    /// A mutation by a run of a node that has inherited what runs from one on held.
    fn as_heir(
        counter: &mut Causal,
        run: (u128, u64),
        from: u64,
        mutation: Mutation,
    ) -> Result<(), MutationError> {
        let mut replicas = counter.replicas().clone();
        let me = replicas
            .intern(ReplicaId::new(NodeId(run.0), Epoch(run.1)))
            .unwrap();
        let issuer = Issuer {
            replicas: &replicas,
            me,
            next_seq: 1,
            stamp: 0,
            inherits: Some(Epoch(from)),
        };
        let delta = counter.value().mutate(&issuer, &mutation)?;
        counter.join_op(&crate::causal::Op::new(replicas, delta)).unwrap();
        Ok(())
    }

    #[test]
    fn an_heir_uses_what_runs_of_its_node_held_and_were_handed_over() {
        let mut counter = Causal::new(Type::BoundedCounter);
        with(&mut counter, 1, Mutation::Increment(5)).unwrap();
        with(&mut counter, 2, Mutation::Increment(20)).unwrap();
        with(&mut counter, 2, give(1, 7)).unwrap();
        let mut early = counter.clone();
        // Not of a run before those it knows of, nor of another node's.
        let why = MutationError::NotHeld {
            asked: 1,
            held: 0,
            others: 13,
            over: 12,
        };
        assert_eq!(as_heir(&mut early, (1, 3), 2, Mutation::Increment(-1)), Err(why));
        let too_much = as_heir(&mut counter, (1, 2), 1, Mutation::Increment(-13));
        let why = MutationError::NotHeld {
            asked: 13,
            held: 12,
            others: 13,
            over: 0,
        };
        assert_eq!(too_much, Err(why));
        as_heir(&mut counter, (1, 2), 1, Mutation::Increment(-4)).unwrap();
        let next = ReplicaId::new(NodeId(1), Epoch(2));
        let Value::BoundedCounter(now) = counter.value() else {
            unreachable!("it was made as one");
        };
        let rights = now.rights(counter.replicas());
        assert_eq!(rights, [(next, 8), (replica(2), 13)].into());
    }

    #[test]
    fn the_next_run_of_a_node_may_not_use_what_the_last_one_held() {
        let mut counter = Causal::new(Type::BoundedCounter);
        with(&mut counter, 1, Mutation::Increment(5)).unwrap();
        let next = ReplicaId::new(NodeId(1), Epoch(2));
        let why = MutationError::NotHeld {
            asked: 1,
            held: 0,
            others: 0,
            over: 5,
        };
        let refused = counter.mutate(next, 0, &Mutation::Increment(-1));
        assert_eq!(refused.err(), Some(CausalError::Mutation(why)));
    }

    #[test]
    fn who_was_handed_more_than_fits_in_one_holding_can_take_all_of_it_away() {
        let mut counter = Causal::new(Type::BoundedCounter);
        for _ in 0..2 {
            for _ in 0..2 {
                with(&mut counter, 1, Mutation::Increment(i64::MAX)).unwrap();
            }
            with(&mut counter, 1, give(2, u64::MAX - 1)).unwrap();
        }
        with(&mut counter, 2, Mutation::Increment(-1)).unwrap();
        with(&mut counter, 2, give(3, 5)).unwrap();
        with(&mut counter, 2, give(3, u64::MAX)).unwrap();
        let rest = i128::from(u64::MAX - 1) * 2 - 1;
        assert_eq!(counter.read(), crate::Reading::Count(rest));
        with(&mut counter, 2, Mutation::Increment(-i64::MAX)).unwrap();
    }

    #[test]
    fn no_map_holds_one() {
        let within = Mutation::Update {
            key: "k".into(),
            ty: Some(Type::BoundedCounter),
            mutation: alloc::boxed::Box::new(Mutation::Increment(1)),
        };
        let why = MutationError::ChildType {
            map: Type::OrMap,
            ty: Type::BoundedCounter,
        };
        assert_eq!(within.check(Type::OrMap), Err(why));
        let put = Put {
            path: Path::Root.within("k".into(), Type::BoundedCounter),
            payload: Payload::Rights { amount: 1, to: None },
        };
        assert!(!Type::OrMap.admits(&put));
    }
}
