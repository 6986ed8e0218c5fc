//! What a command has done to a set or a map so far, over what was there, and as operations: its cost follows the command, not
//! the state.

use std::collections::BTreeMap;

use anabranch_crdt::Mutation;
use bytes::Bytes;

/// Places that were touched, with what stands there now.
#[derive(Debug)]
pub(super) struct Overlay<V> {
    is_cleared: bool,
    touched: BTreeMap<Bytes, Option<V>>,
    changes: Vec<Mutation>,
}

impl<V: Clone> Overlay<V> {
    pub(super) fn new() -> Overlay<V> {
        Overlay {
            is_cleared: false,
            touched: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    /// What stands at a place; `below` is what was there.
    pub(super) fn get(&self, place: &[u8], below: impl FnOnce() -> Option<V>) -> Option<V> {
        match self.touched.get(place) {
            Some(touched) => touched.clone(),
            None if self.is_cleared => None,
            None => below(),
        }
    }

    /// This stands there now, by this operation.
    pub(super) fn put(&mut self, place: Bytes, value: V, change: Mutation) {
        self.touched.insert(place, Some(value));
        match (self.changes.last_mut(), change) {
            (Some(Mutation::Add(added)), Mutation::Add(more)) => added.extend(more),
            (_, change) => self.changes.push(change),
        }
    }

    /// Nothing stands there any more.
    pub(super) fn remove(&mut self, place: Bytes) {
        self.touched.insert(place.clone(), None);
        match self.changes.last_mut() {
            Some(Mutation::Remove(removed)) => removed.push(place),
            _ => self.changes.push(Mutation::Remove(vec![place])),
        }
    }

    /// Nothing stands anywhere any more.
    pub(super) fn clear(&mut self) {
        self.is_cleared = true;
        self.touched.clear();
        self.changes.push(Mutation::Clear);
    }

    /// What was done, in order.
    pub(super) fn into_changes(self) -> Vec<Mutation> {
        self.changes
    }

    /// Everything that stands somewhere, by place.
    pub(super) fn all<'a>(&self, below: impl Iterator<Item = (&'a [u8], V)>) -> BTreeMap<Bytes, V> {
        let below = below.filter(|_| !self.is_cleared);
        let mut all: BTreeMap<Bytes, V> = below
            .filter(|(place, _)| !self.touched.contains_key(*place))
            .map(|(place, value)| (Bytes::copy_from_slice(place), value))
            .collect();
        for (place, value) in &self.touched {
            all.extend(value.clone().map(|value| (place.clone(), value)));
        }
        all
    }
}
