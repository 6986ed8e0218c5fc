//! A counter is the sum of its increments.

use anabranch_crdt::Mutation;

use super::{Atom, Seen};

pub(super) fn read(seen: Seen<'_>) -> i128 {
    seen.each()
        .map(|(_, atom)| match atom.mutation {
            Mutation::Increment(by) => i128::from(by),
            _ => 0,
        })
        .sum()
}

/// Each replica's last one stands for all of its.
pub(super) fn is_live(seen: Seen<'_>, i: usize, atom: &Atom) -> bool {
    !seen.after(i).any(|other| other.by == atom.by)
}
