//! A map is its children, each a value of its own, made of the changes to it that no removal of its key seen had seen.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_crdt::{Mutation, Reading, Type};
use bytes::Bytes;

use super::{Atom, Atoms, Seen, atoms, each, has, live, read};

fn removes(mutation: &Mutation, key: &Bytes) -> bool {
    match mutation {
        Mutation::Clear | Mutation::Delete => true,
        Mutation::Remove(keys) => keys.contains(key),
        _ => false,
    }
}

/// The history of one child: the changes to it, and what of it their authors saw.
fn child(history: &[Atom], seen: Atoms, key: &Bytes, ty: Type) -> (Vec<Atom>, Atoms) {
    let inner = |mutation: &Mutation| match mutation {
        Mutation::Update {
            key: at,
            ty: of,
            mutation,
        } if at == key && *of == Some(ty) => Some(mutation.clone()),
        _ => None,
    };
    // Of a set of operations, those on the child that none of them removed.
    let standing = |all: Atoms| {
        let is_removed =
            |i: usize| each(all).any(|r| removes(&history[r].mutation, key) && has(history[r].saw, i));
        let on_it = each(all).filter(|&i| inner(&history[i].mutation).is_some() && !is_removed(i));
        on_it.fold(0, |atoms, i| atoms | 1 << i)
    };
    let of_child = history.iter().map(|atom| match inner(&atom.mutation) {
        Some(mutation) => Atom {
            mutation: *mutation,
            saw: standing(atom.saw),
            ..atom.clone()
        },
        None => atom.clone(), // never looked at
    });
    (of_child.collect(), standing(seen))
}

fn keys(seen: Seen<'_>) -> BTreeSet<(Bytes, Type)> {
    let updated = seen.each().filter_map(|(_, atom)| match &atom.mutation {
        Mutation::Update { key, ty, .. } => Some((key.clone(), (*ty)?)),
        _ => None,
    });
    updated.collect()
}

/// Of children under one key the one with the lowest type shows.
pub(super) fn show(seen: Seen<'_>) -> BTreeMap<Bytes, Reading> {
    let mut shown = BTreeMap::new();
    for (key, ty) in keys(seen) {
        let (history, of_it) = child(seen.history, seen.seen, &key, ty);
        let reading = read(
            ty,
            Seen {
                history: &history,
                seen: of_it,
            },
        );
        if let Some(reading) = reading {
            shown.entry(key).or_insert(reading);
        }
    }
    shown
}

/// What says that the map exists lives until anything is done to it or in it; a change to a child lives in the child.
pub(super) fn in_force(seen: Seen<'_>) -> Atoms {
    let is_mark = |(i, atom): &(usize, &Atom)| {
        !matches!(atom.mutation, Mutation::Update { .. }) && seen.after(*i).next().is_none()
    };
    let marks = seen
        .each()
        .filter(is_mark)
        .fold(0, |marks, (i, _)| marks | 1 << i);
    keys(seen).iter().fold(marks, |all, (key, ty)| {
        let (history, of_it) = child(seen.history, seen.seen, key, *ty);
        let history = &history;
        all | live(*ty, Seen { history, seen: of_it })
    })
}

/// A change to a child is what the child makes of it; one removal for all the keys, unless none is there.
pub(super) fn pieces(seen: Seen<'_>, new: &Atom) -> Vec<Mutation> {
    match &new.mutation {
        Mutation::Update {
            key,
            ty: Some(ty),
            mutation,
        } => {
            let (history, of_it) = child(seen.history, seen.seen, key, *ty);
            let inner = Atom {
                mutation: (**mutation).clone(),
                saw: of_it,
                ..new.clone()
            };
            let history = &history;
            let made = atoms(*ty, Seen { history, seen: of_it }, &inner);
            let outer = |mutation| Mutation::Update {
                key: key.clone(),
                ty: Some(*ty),
                mutation: Box::new(mutation),
            };
            made.into_iter().map(outer).collect()
        }
        removal => {
            let there = keys(seen)
                .into_iter()
                .any(|(key, ty)| removes(removal, &key) && child(seen.history, seen.seen, &key, ty).1 != 0);
            if there { vec![removal.clone()] } else { Vec::new() }
        }
    }
}
