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
    pub fn total(&self) -> i128 {
        self.slots.total()
    }

    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        self.slots.parts(issuer, mutation)
    }
}

view!(PnCounter, slots: Slots);
