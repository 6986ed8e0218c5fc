//! What a command has done to a set or a map so far, over what was there: its cost follows the command, not the state.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Places that were touched, with what stands there now.
#[derive(Debug)]
pub(super) struct Overlay<V> {
    is_cleared: bool,
    touched: BTreeMap<Bytes, Option<V>>,
}

impl<V: Clone> Overlay<V> {
    pub(super) fn new() -> Overlay<V> {
        Overlay {
            is_cleared: false,
            touched: BTreeMap::new(),
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

    pub(super) fn put(&mut self, place: Bytes, value: Option<V>) {
        self.touched.insert(place, value);
    }

    pub(super) fn clear(&mut self) {
        self.is_cleared = true;
        self.touched.clear();
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
