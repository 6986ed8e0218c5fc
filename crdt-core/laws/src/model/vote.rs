//! A vote shows each node's last ballot.

use std::collections::BTreeMap;

use anabranch_crdt::{Mutation, NodeId};

use super::{Atom, Seen};

pub(super) fn read(seen: Seen<'_>) -> BTreeMap<NodeId, bool> {
    let ballots = seen.each().filter_map(|(_, atom)| match atom.mutation {
        Mutation::Vote(yes) => Some((atom.by.node, atom.seq, yes)),
        _ => None,
    });
    let mut last: BTreeMap<NodeId, (u64, bool)> = BTreeMap::new();
    for (node, seq, yes) in ballots {
        let ballot = last.entry(node).or_insert((seq, yes));
        *ballot = (seq, yes).max(*ballot);
    }
    last.into_iter().map(|(node, (_, yes))| (node, yes)).collect()
}

/// A creation until anybody votes, a ballot until its node votes again.
pub(super) fn is_live(seen: Seen<'_>, i: usize, atom: &Atom) -> bool {
    let mut after = seen.after(i);
    match atom.mutation {
        Mutation::Vote(_) => !after.any(|other| other.by.node == atom.by.node),
        _ => after.next().is_none(),
    }
}
