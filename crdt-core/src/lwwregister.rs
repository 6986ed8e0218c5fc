//! A register: of all writes that are alive, the one with the largest clock is its value.
//!
//! Not here: the hybrid clock ([`crate::HybridClock`]); a write's stamp is an argument.
//!
//! Contract: the winner is a function of the live writes, by (clock, replica id, sequence). Concurrent losers stay
//! alive until a write that saw them removes them: to drop one on arrival would make its fate depend on the order
//! of delivery, should a third node remove the winner alone.

use alloc::vec::Vec;
use bytes::Bytes;

use crate::delta::{ClockMode, Part, Payload};
use crate::dot::Dot;
use crate::id::ReplicaId;
use crate::mutation::{Clock, Issuer, Mutation};
use crate::planted;
use crate::replicas::Replicas;
use crate::view::view;
use crate::writes::Writes;

/// A register: the last writer wins.
///
/// ```
/// use anabranch_crdt::{Crdt, LwwRegister, Replicas};
///
/// assert_eq!(LwwRegister::TYPE.name(), "lwwregister");
/// assert_eq!(LwwRegister::default().get(&Replicas::new()), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LwwRegister {
    /// Each carries `Present` (created, never set) or `Stamped`.
    writes: Writes,
    digest: u64,
}

/// What decides between two writes; a write without a clock (the presence mark) is below all others.
type Rank = (Option<u64>, ReplicaId, u64);

fn rank(replicas: &Replicas, dot: Dot, payload: &Payload) -> Rank {
    let clock = match payload {
        Payload::Stamped { clock, .. } => Some(*clock),
        _ => None,
    };
    let (replica, seq) = dot.full(replicas);
    planted!(
        "tie_by_arrival",
        (clock, ReplicaId::default(), 0),
        (clock, replica, seq)
    )
}

impl LwwRegister {
    /// The value: nothing if it was never set.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Clock, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// let (mut here, mut there) = (Causal::new(Type::LwwRegister), Causal::new(Type::LwwRegister));
    /// let set = |value: &'static str| Mutation::Set { value: value.into(), clock: Clock::Default };
    /// here.join_op(&here.mutate(a, 20, &set("later"))?)?;
    /// there.join_op(&there.mutate(b, 10, &set("earlier"))?)?;
    /// here.join(&there)?;
    /// let Value::LwwRegister(register) = here.value() else { unreachable!() };
    /// assert_eq!(register.get(here.replicas()), Some(&"later".into()));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn get(&self, replicas: &Replicas) -> Option<&Bytes> {
        match self.winner(replicas)? {
            (_, Payload::Stamped { value, .. }) => Some(value),
            _ => None,
        }
    }

    fn winner(&self, replicas: &Replicas) -> Option<&(Dot, Payload)> {
        self.writes
            .as_slice()
            .iter()
            .max_by_key(|(dot, payload)| rank(replicas, *dot, payload))
    }

    fn set(&self, issuer: &Issuer<'_>, value: &Bytes, clock: Clock) -> Vec<Part> {
        let winner = match self.winner(issuer.replicas) {
            Some((_, Payload::Stamped { clock, .. })) => Some(*clock),
            _ => None,
        };
        let above = winner.map_or(0, |clock| clock.saturating_add(1));
        let (mode, clock) = match clock {
            Clock::Default => {
                let clock = planted!("raw_wall_clock", issuer.stamp, issuer.stamp.max(above));
                (ClockMode::Default, clock)
            }
            Clock::Reverse => (ClockMode::Custom, u64::MAX - issuer.stamp),
            Clock::Custom(clock) => (ClockMode::Custom, clock),
            Clock::AutoIncrement(clock) => (ClockMode::Custom, clock.max(above)),
        };
        let value = value.clone();
        let payload = Payload::Stamped { clock, mode, value };
        let mine = rank(issuer.replicas, issuer.dot(0), &payload);
        // A clock of the caller's own may lose against writes the caller saw. It kills only what is below it: a replica
        // that has not yet got the winner must never go from a higher clock to this one. Below two of those it saw, it
        // could become the value nowhere but after removals of both, and is not made: so losers do not pile up.
        let lost = |dot: Dot, payload: &Payload| {
            mode == ClockMode::Custom && rank(issuer.replicas, dot, payload) > mine
        };
        let seen = self.writes.as_slice().iter();
        if seen.filter(|(dot, payload)| lost(*dot, payload)).count() > 1 {
            return Vec::new();
        }
        self.writes.write(issuer, payload, |dot, payload| {
            planted!("own_clock_kills_all", true, !lost(dot, payload))
        })
    }

    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        match mutation {
            Mutation::Create => self.writes.create(issuer),
            Mutation::Set { value, clock } => self.set(issuer, value, *clock),
            _ => Vec::new(),
        }
    }
}

view!(LwwRegister, writes: Writes);
