//! A bounded counter is the sum of its increments, and each replica takes away what it added or was given. A transfer
//! takes away here and adds there.

use anabranch_crdt::{Mutation, ReplicaId};

use super::{Atom, Seen};

pub(super) fn read(seen: Seen<'_>) -> i128 {
    let sum = seen.each().map(|(_, atom)| match atom.mutation {
        Mutation::Increment(by) => i128::from(by),
        Mutation::Transfer { amount, .. } => i128::from(amount),
        _ => 0,
    });
    sum.sum()
}

/// What a replica may take away.
fn rights(seen: Seen<'_>, of: ReplicaId) -> i128 {
    let all = seen.each().map(|(_, atom)| match atom.mutation {
        Mutation::Increment(by) if atom.by == of => i128::from(by),
        Mutation::Transfer { to, amount } if to == of => i128::from(amount),
        _ => 0,
    });
    all.sum()
}

pub(super) fn is_refused(seen: Seen<'_>, new: &Atom) -> bool {
    let takes = match new.mutation {
        Mutation::Increment(by) => -i128::from(by),
        Mutation::Transfer { to, amount } if to != new.by => i128::from(amount),
        _ => 0,
    };
    takes > 0 && takes > rights(seen, new.by)
}

/// A transfer is two: what is taken away, and what is handed over.
pub(super) fn atoms(new: &Atom) -> Vec<Mutation> {
    match new.mutation {
        Mutation::Transfer { to, amount } if to == new.by || amount == 0 => Vec::new(),
        Mutation::Transfer { amount, .. } => {
            vec![Mutation::Increment(-(amount as i64)), new.mutation.clone()]
        }
        _ => vec![new.mutation.clone()],
    }
}

/// What its holder has not replaced yet.
pub(super) fn is_live(seen: Seen<'_>, i: usize, atom: &Atom) -> bool {
    let holder = match atom.mutation {
        Mutation::Transfer { to, .. } => to,
        _ => atom.by,
    };
    // What a replica hands over stands beside what it keeps: one operation, whose second atom saw the first.
    let replaces = |other: &Atom| other.by == holder && !matches!(other.mutation, Mutation::Transfer { .. });
    !seen.after(i).any(replaces)
}
