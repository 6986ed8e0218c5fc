//! A flag is enabled if an enabling was seen that no disabling seen had seen.

use anabranch_crdt::Mutation;

use super::{Atom, Seen};

pub(super) fn read(seen: Seen<'_>) -> bool {
    seen.each().any(|(i, atom)| {
        atom.mutation == Mutation::Enable && !seen.after(i).any(|other| other.mutation == Mutation::Disable)
    })
}

/// An enabling until the next enabling or disabling; a creation or disabling, which says that the flag exists, until
/// anything is done.
pub(super) fn is_live(seen: Seen<'_>, i: usize, atom: &Atom) -> bool {
    let mut after = seen.after(i);
    match atom.mutation {
        Mutation::Enable => !after.any(|other| other.mutation != Mutation::Create),
        _ => after.next().is_none(),
    }
}
