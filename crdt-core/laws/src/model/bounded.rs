//! A bounded counter is the sum of its increments, and each replica takes away what it added or was given. A transfer
//! takes away here and adds there. A deletion takes the holdings it saw, whole; one that was changed meanwhile stays,
//! with all that it stands for.

use std::collections::BTreeSet;

use anabranch_crdt::{Mutation, ReplicaId};

use super::{Atom, Seen, has};

pub(super) fn read(seen: Seen<'_>) -> i128 {
    if seen.history.iter().any(|atom| atom.mutation == Mutation::Delete) {
        let holders: BTreeSet<ReplicaId> = seen.each().map(|(_, atom)| holder(atom)).collect();
        return holders.into_iter().map(|of| held(seen, of)).sum();
    }
    let sum = seen.each().map(|(_, atom)| match atom.mutation {
        Mutation::Increment(by) => i128::from(by),
        Mutation::Transfer { amount, .. } => i128::from(amount),
        _ => 0,
    });
    sum.sum()
}

/// What a replica may take away.
fn rights(seen: Seen<'_>, of: ReplicaId) -> i128 {
    if seen.history.iter().any(|atom| atom.mutation == Mutation::Delete) {
        return held(seen, of);
    }
    let all = seen.each().map(|(_, atom)| match atom.mutation {
        Mutation::Increment(by) if atom.by == of => i128::from(by),
        Mutation::Transfer { to, amount } if to == of => i128::from(amount),
        _ => 0,
    });
    all.sum()
}

/// What a replica holds where a deletion may have taken some: its last operation, which stands for all that it
/// replaced, and what it was handed and has not taken up.
fn held(seen: Seen<'_>, of: ReplicaId) -> i128 {
    let seen = seen.standing();
    let own = |(_, atom): &(usize, &Atom)| atom.by == of && !is_transfer(atom);
    let last = seen.each().filter(own).last();
    let taken_up = last.map_or(0, |(_, atom)| atom.saw);
    let handed = seen.each().filter(|(i, _)| !has(taken_up, *i));
    let handed = handed.map(|(_, atom)| match atom.mutation {
        Mutation::Transfer { to, amount } if to == of => i128::from(amount),
        _ => 0,
    });
    let before = |atom: &Atom| Seen {
        history: seen.history,
        seen: atom.saw,
    };
    let own = last.map_or(0, |(_, atom)| held(before(atom), of) + gain(atom));
    own + handed.sum::<i128>()
}

fn gain(atom: &Atom) -> i128 {
    match atom.mutation {
        Mutation::Increment(by) => i128::from(by),
        _ => 0,
    }
}

fn is_transfer(atom: &Atom) -> bool {
    matches!(atom.mutation, Mutation::Transfer { .. })
}

fn holder(atom: &Atom) -> ReplicaId {
    match atom.mutation {
        Mutation::Transfer { to, .. } => to,
        _ => atom.by,
    }
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
    // What a replica hands over stands beside what it keeps: one operation, whose second atom saw the first.
    let holder = holder(atom);
    let replaces = |other: &Atom| other.by == holder && !is_transfer(other);
    !seen.after(i).any(replaces)
}
