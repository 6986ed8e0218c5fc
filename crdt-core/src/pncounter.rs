//! A counter that goes up and down.
//!
//! Not here: the slots it is made of (`counts`).
//!
//! Contract: its value is the sum of all replicas' totals.

use crate::counts::Slots;
use crate::delta::Part;
use crate::mutation::{Issuer, Mutation};
use crate::view::view;
use alloc::vec::Vec;

/// A counter that goes up and down.
///
/// ```
/// use anabranch_crdt::{PnCounter, Crdt};
///
/// assert_eq!(PnCounter::TYPE.name(), "pncounter");
/// assert_eq!(PnCounter::default().total(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PnCounter {
    slots: Slots,
    digest: u64,
}

impl PnCounter {
    /// What it counts to.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type, Value};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// let mut here = Causal::new(Type::PnCounter);
    /// here.join_op(&here.mutate(a, 0, &Mutation::Increment(5))?)?;
    /// here.join_op(&here.mutate(b, 0, &Mutation::Increment(-7))?)?;
    /// assert!(matches!(here.value(), Value::PnCounter(counter) if counter.total() == -2));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn total(&self) -> i128 {
        self.slots.total()
    }

    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        self.slots.parts(issuer, mutation)
    }
}

view!(PnCounter, slots: Slots);
