//! An element is in the set if an addition of it was seen that no removal seen had seen.

use std::collections::BTreeSet;

use anabranch_crdt::Mutation;
use bytes::Bytes;

use super::{Atom, Seen};

fn removes(mutation: &Mutation, element: &Bytes) -> bool {
    match mutation {
        Mutation::Clear => true,
        Mutation::Remove(elements) => elements.contains(element),
        _ => false,
    }
}

pub(super) fn read(seen: Seen<'_>) -> Vec<Bytes> {
    let mut there = BTreeSet::new();
    for (add, atom) in seen.each() {
        let Mutation::Add(elements) = &atom.mutation else {
            continue;
        };
        let is_removed = |element: &&Bytes| seen.after(add).any(|other| removes(&other.mutation, element));
        there.extend(elements.iter().filter(|element| !is_removed(element)).cloned());
    }
    there.into_iter().collect()
}

/// One addition an element, ascending; one removal for all of them, unless none is there.
pub(super) fn atoms(seen: Seen<'_>, mutation: &Mutation) -> Vec<Mutation> {
    if let Mutation::Add(elements) = mutation {
        let distinct: BTreeSet<&Bytes> = elements.iter().collect();
        return distinct
            .into_iter()
            .map(|element| Mutation::Add(vec![element.clone()]))
            .collect();
    }
    if read(seen).iter().any(|element| removes(mutation, element)) {
        vec![mutation.clone()]
    } else {
        Vec::new()
    }
}

/// An addition until its element is added again or removed; a creation or removal, which is what says that the set
/// exists, until the set is changed again.
pub(super) fn is_live(seen: Seen<'_>, i: usize, atom: &Atom) -> bool {
    let Mutation::Add(elements) = &atom.mutation else {
        return seen.after(i).next().is_none();
    };
    let ends = |other: &Atom| match &other.mutation {
        Mutation::Add(again) => again == elements,
        mutation => elements.iter().any(|element| removes(mutation, element)),
    };
    !seen.after(i).any(ends)
}

/// One addition an element that is not there yet.
pub(super) fn new_atoms(seen: Seen<'_>, elements: &[Bytes]) -> Vec<Mutation> {
    let there = read(seen);
    let new = elements
        .iter()
        .filter(|element| !there.contains(element))
        .cloned();
    atoms(seen, &Mutation::Add(new.collect()))
}
