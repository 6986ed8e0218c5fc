//! A set in which an addition wins over a concurrent removal: a removal removes what it saw, and no more.
//!
//! Not here: what an element means; it is bytes. The store, which other sets share (`elements`).
//!
//! Contract: an added element gets a dot also if it is there already, so that a concurrent removal does not take it.
//! A set without elements still exists: every removal leaves its own dot as a mark, until the next mutation that sees
//! it. So every mutation puts something, and only a delete, which is no mutation of the set, makes it absent.

use crate::delta::Part;
use crate::elements::{Elements, set_of_elements};
use crate::mutation::{Issuer, Mutation};
use crate::view::view;
use alloc::vec::Vec;

/// A set in which an addition wins over a concurrent removal (the OR-set without tombstones of Bieniusa, Zawirski,
/// Preguiça, Shapiro, Baquero, Balegas, Duarte: "An Optimized Conflict-free Replicated Set", 2012).
///
/// ```
/// use anabranch_crdt::{Crdt, OrSet};
///
/// let set = OrSet::default();
/// assert_eq!(OrSet::TYPE.name(), "orset");
/// assert!(set.is_empty() && !set.contains(b"x"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OrSet {
    elements: Elements,
    digest: u64,
}

impl OrSet {
    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        match mutation {
            Mutation::Create => self.elements.create(issuer),
            Mutation::Add(elements) => self.elements.add(issuer, elements),
            Mutation::Remove(elements) => self.elements.remove_elements(issuer, elements),
            Mutation::Clear => self.elements.clear(issuer),
            _ => Vec::new(),
        }
    }
}

set_of_elements!(OrSet);
view!(OrSet, elements: Elements);
