//! What a function that keeps its own copy of the state believes, and what it must be told.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_crdt::{Mutation, NodeId, Reading, Type, Value};
use bytes::Bytes;

use crate::view::View;

/// The difference between two readings of one entity: what a function is told that has the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A counter counts so much more, or less.
    Count(i128),
    /// Elements left a set, and came to it; both bytewise ascending.
    Elements {
        /// Those that left.
        removed: Vec<Bytes>,
        /// Those that came.
        added: Vec<Bytes>,
    },
    /// What a register holds now.
    Register(Option<Bytes>),
    /// Whether a flag is enabled now.
    Flag(bool),
    /// All values that a register shows now.
    Values(Vec<Bytes>),
    /// Every ballot there is now.
    Ballots(BTreeMap<NodeId, bool>),
    /// What became of a map's children, each list by key.
    Map {
        /// Children that left.
        removed: Vec<Bytes>,
        /// Those that changed.
        updated: Vec<(Bytes, Change)>,
        /// Those that came, or came back as another type.
        added: Vec<(Bytes, Reading)>,
    },
}

/// What a value of a type reads when nothing was done to it.
pub fn empty(ty: Type) -> Reading {
    match ty {
        Type::GCounter | Type::PnCounter | Type::BoundedCounter => Reading::Count(0),
        Type::OrSet | Type::GSet => Reading::Elements(Vec::new()),
        Type::LwwRegister => Reading::Register(None),
        Type::MvRegister => Reading::Values(Vec::new()),
        Type::Flag => Reading::Flag(false),
        Type::Vote => Reading::Ballots(BTreeMap::new()),
        Type::OrMap | Type::CounterMap | Type::RegisterMap | Type::MultiMap => Reading::Map(BTreeMap::new()),
    }
}

/// What became of `before`; nothing if they are the same, or of different types.
///
/// ```
/// use anabranch::Reading;
/// use anabranch::session::{Change, diff};
///
/// assert_eq!(diff(&Reading::Count(3), &Reading::Count(1)), Some(Change::Count(-2)));
/// assert_eq!(diff(&Reading::Flag(true), &Reading::Flag(true)), None);
/// ```
pub fn diff(before: &Reading, after: &Reading) -> Option<Change> {
    if before == after {
        return None;
    }
    match (before, after) {
        (Reading::Count(before), Reading::Count(after)) => Some(Change::Count(after.saturating_sub(*before))),
        (Reading::Elements(before), Reading::Elements(after)) => Some(Change::Elements {
            removed: missing(before, after),
            added: missing(after, before),
        }),
        (Reading::Register(_), Reading::Register(after)) => Some(Change::Register(after.clone())),
        (Reading::Flag(_), Reading::Flag(after)) => Some(Change::Flag(*after)),
        (Reading::Values(_), Reading::Values(after)) => Some(Change::Values(after.clone())),
        (Reading::Ballots(_), Reading::Ballots(after)) => Some(Change::Ballots(after.clone())),
        (Reading::Map(before), Reading::Map(after)) => Some(diff_maps(before, after)),
        _ => None,
    }
}

/// What a function did by itself to what it had seen it knows, but for which of two writes stands. Mends what is believed of
/// an entity that was left so, by a look at these children if it is a map; returns what the function is to be told.
pub(super) fn mend(believes: &mut Reading, left: &View, keys: &BTreeSet<Bytes>) -> Option<Change> {
    let children = match believes {
        Reading::Elements(_) => return None,
        Reading::Map(children) => children,
        believes => {
            let change = left.read().and_then(|is| Some((diff(believes, &is)?, is)));
            let (change, is) = change?;
            *believes = is;
            return Some(change);
        }
    };
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    for key in keys {
        let is = left.value().and_then(|value| value.child(key));
        let is = is.map(|child| child.read(left.replicas()));
        if children.get(key) != is.as_ref() {
            before.extend(children.remove(key).map(|child| (key.clone(), child)));
            after.extend(is.map(|is| (key.clone(), is)));
        }
    }
    children.extend(after.iter().map(|(key, child)| (key.clone(), child.clone())));
    (before != after).then(|| diff_maps(&before, &after))
}

/// Whether an update of a map votes somewhere in it: how many there are to vote its function does not know, where it made that vote.
pub(super) fn votes_within(mutations: &[Mutation]) -> bool {
    fn votes(mutation: &Mutation) -> bool {
        match mutation {
            Mutation::Update { mutation, .. } => votes(mutation),
            mutation => matches!(mutation, Mutation::Vote(_)),
        }
    }
    let mut within = mutations.iter();
    within.any(|mutation| matches!(mutation, Mutation::Update { .. }) && votes(mutation))
}

/// Whether a function that is shown one of this type is told how many may vote, on it or on a child.
pub fn counts_votes(ty: Type) -> bool {
    matches!(ty, Type::Vote | Type::OrMap)
}

/// The children that an update of a map is about.
pub(super) fn touched(mutations: &[Mutation]) -> BTreeSet<Bytes> {
    let keys = mutations.iter().flat_map(|mutation| match mutation {
        Mutation::Update { key, .. } => std::slice::from_ref(key),
        Mutation::Remove(keys) => keys,
        _ => &[],
    });
    keys.cloned().collect()
}

/// Whether types that only grow have only grown: for anything else of them there is no telling but as a whole.
pub(super) fn grows(value: &Value, change: &Change) -> bool {
    match (value.ty(), change) {
        (Type::GCounter, Change::Count(by)) => *by >= 0,
        (Type::GSet, Change::Elements { removed, .. }) => removed.is_empty(),
        (Type::Flag, Change::Flag(flag)) => *flag,
        (_, Change::Map { updated, .. }) => updated
            .iter()
            .all(|(key, change)| value.child(key).is_none_or(|child| grows(child, change))),
        _ => true,
    }
}

/// All that a function is told of a reading that shows more than the entity: who may vote, on it or on its children.
pub(super) fn shown(reading: &Reading) -> Option<Change> {
    match reading {
        Reading::Ballots(ballots) => Some(Change::Ballots(ballots.clone())),
        Reading::Map(children) => shown_of(children.iter()),
        _ => None,
    }
}

/// The same of some children of a map.
pub(super) fn shown_of<'a>(children: impl Iterator<Item = (&'a Bytes, &'a Reading)>) -> Option<Change> {
    let updated: Vec<_> = children
        .filter_map(|(key, child)| Some((key.clone(), shown(child)?)))
        .collect();
    (!updated.is_empty()).then(|| Change::Map {
        removed: Vec::new(),
        updated,
        added: Vec::new(),
    })
}

/// What of the first ascending list is not in the second.
fn missing(of: &[Bytes], other: &[Bytes]) -> Vec<Bytes> {
    let is_missing = |element: &&Bytes| other.binary_search(element).is_err();
    of.iter().filter(is_missing).cloned().collect()
}

fn diff_maps(before: &BTreeMap<Bytes, Reading>, after: &BTreeMap<Bytes, Reading>) -> Change {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let mut removed: Vec<Bytes> = gone.cloned().collect();
    let (mut updated, mut added) = (Vec::new(), Vec::new());
    for (key, now) in after {
        match before.get(key) {
            None => added.push((key.clone(), now.clone())),
            Some(then) if std::mem::discriminant(then) != std::mem::discriminant(now) => {
                removed.push(key.clone());
                added.push((key.clone(), now.clone()));
            }
            Some(then) => updated.extend(diff(then, now).map(|change| (key.clone(), change))),
        }
    }
    removed.sort();
    Change::Map {
        removed,
        updated,
        added,
    }
}

/// What a function at `me` believes after it did this to what it believed. What others did, and which of two writes wins, it
/// does not know. The type, where it is known, says of which its children are.
pub fn believe(reading: &mut Reading, is: Option<Type>, me: NodeId, mutation: &Mutation) {
    match (reading, mutation) {
        (reading, Mutation::Delete) => {
            if let Some(ty) = is {
                *reading = empty(ty);
            }
        }
        (Reading::Count(count), Mutation::Increment(by)) => *count = count.saturating_add(i128::from(*by)),
        (Reading::Elements(elements), Mutation::Add(added)) => add(elements, added),
        (Reading::Elements(elements), Mutation::Remove(removed)) => {
            let removed: BTreeSet<&Bytes> = removed.iter().collect();
            elements.retain(|element| !removed.contains(element));
        }
        (Reading::Elements(elements), Mutation::Clear) => elements.clear(),
        (Reading::Register(held), Mutation::Set { value, .. }) => *held = Some(value.clone()),
        (Reading::Values(values), Mutation::Set { value, .. }) => *values = vec![value.clone()],
        (Reading::Flag(flag), Mutation::Enable) => *flag = true,
        (Reading::Flag(flag), Mutation::Disable) => *flag = false,
        (Reading::Ballots(ballots), Mutation::Vote(yes)) => {
            ballots.insert(me, *yes);
        }
        (Reading::Map(children), Mutation::Remove(keys)) => {
            for key in keys {
                children.remove(key);
            }
        }
        (Reading::Map(children), Mutation::Clear) => children.clear(),
        (Reading::Map(children), Mutation::Update { key, ty, mutation }) => {
            let ty = ty.or(is.and_then(Type::child));
            let new = ty.map(empty);
            let child = match (children.get_mut(key), new) {
                (Some(child), _) => child,
                (None, Some(new)) => children.entry(key.clone()).or_insert(new),
                (None, None) => return,
            };
            believe(child, ty, me, mutation);
        }
        _ => {}
    }
}

/// Adds to what is in ascending order. Many at once are sorted in at once: one by one, each would move all that are behind it.
fn add(elements: &mut Vec<Bytes>, added: &[Bytes]) {
    if let [element] = added {
        if let Err(at) = elements.binary_search(element) {
            elements.insert(at, element.clone());
        }
        return;
    }
    elements.extend(added.iter().cloned());
    elements.sort();
    elements.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_adds_and_removes_many_at_once_believes_each() {
        let elements = |of: &[&'static str]| of.iter().map(|e| Bytes::from(*e)).collect::<Vec<_>>();
        let mut believes = empty(Type::OrSet);
        for did in [
            Mutation::Add(elements(&["m", "c", "x"])),
            Mutation::Add(elements(&["d"])),
            Mutation::Add(elements(&["b", "m", "z", "b"])),
            Mutation::Add(elements(&["d"])),
            Mutation::Remove(elements(&["x", "c", "a"])),
        ] {
            believe(&mut believes, Some(Type::OrSet), NodeId(1), &did);
        }
        assert_eq!(believes, Reading::Elements(elements(&["b", "d", "m", "z"])));
    }

    #[test]
    fn who_deletes_and_goes_on_believes_what_it_did_then() {
        let me = NodeId(1);
        let add = |key: &'static str, by| Mutation::Update {
            key: key.into(),
            ty: Some(Type::PnCounter),
            mutation: Box::new(Mutation::Increment(by)),
        };
        let mut believes = empty(Type::OrMap);
        for did in [add("a", 3), add("b", 4), Mutation::Delete, add("b", 5)] {
            believe(&mut believes, Some(Type::OrMap), me, &did);
        }
        assert_eq!(believes, Reading::Map([("b".into(), Reading::Count(5))].into()));
    }
}
