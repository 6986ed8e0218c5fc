//! A counter that only grows.
//!
//! Not here: the slots it is made of (`counts`).
//!
//! Contract: its value is the sum of all replicas' totals.

use crate::counts::Slots;
use crate::delta::Part;
use crate::mutation::{Issuer, Mutation};
use crate::view::view;
use alloc::vec::Vec;

/// A counter that only grows.
///
/// ```
/// use anabranch_crdt::{GCounter, Crdt};
///
/// assert_eq!(GCounter::TYPE.name(), "gcounter");
/// assert_eq!(GCounter::default().total(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GCounter {
    slots: Slots,
    digest: u64,
}

impl GCounter {
    /// What it counts to.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// let mut here = Causal::new(Type::GCounter);
    /// here.join_op(&here.mutate(a, 0, &Mutation::Increment(5))?)?;
    /// here.join_op(&here.mutate(b, 0, &Mutation::Increment(2))?)?;
    /// assert!(matches!(here.value(), Value::GCounter(counter) if counter.total() == 7));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn total(&self) -> i128 {
        self.slots.total()
    }

    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        self.slots.parts(issuer, mutation)
    }
}

view!(GCounter, slots: Slots);
