//! A multi-value register shows the writes that no other write seen had seen.

use std::collections::BTreeSet;

use anabranch_crdt::Mutation;
use bytes::Bytes;

use super::Seen;

pub(super) fn is_live(seen: Seen<'_>, i: usize) -> bool {
    seen.after(i).next().is_none()
}

pub(super) fn read(seen: Seen<'_>) -> Vec<Bytes> {
    let values = seen.each().filter(|(i, _)| is_live(seen, *i));
    let values = values.filter_map(|(_, atom)| match &atom.mutation {
        Mutation::Set { value, .. } => Some(value.clone()),
        _ => None,
    });
    values.collect::<BTreeSet<_>>().into_iter().collect()
}
