//! A set that only grows.
//!
//! Not here: the store, which other sets share (`elements`).
//!
//! Contract: its elements are the union of everybody's. An element that is there needs no second dot: nothing can
//! take it away.

use crate::delta::Part;
use crate::elements::{Elements, set_of_elements};
use crate::mutation::{Issuer, Mutation};
use crate::planted;
use crate::view::view;
use alloc::vec::Vec;

/// A set that only grows.
///
/// ```
/// use anabranch_crdt::{Crdt, GSet};
///
/// let set = GSet::default();
/// assert_eq!(GSet::TYPE.name(), "gset");
/// assert!(set.is_empty() && !set.contains(b"x"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GSet {
    elements: Elements,
    digest: u64,
}

impl GSet {
    fn parts(&self, issuer: &Issuer<'_>, mutation: &Mutation) -> Vec<Part> {
        match mutation {
            Mutation::Create => self.elements.create(issuer),
            Mutation::Add(elements) => {
                let new = elements
                    .iter()
                    .filter(|element| planted!("gset_adds_again", true, !self.contains(element)));
                self.elements.add(issuer, new)
            }
            _ => Vec::new(),
        }
    }
}

set_of_elements!(GSet);
view!(GSet, elements: Elements);
