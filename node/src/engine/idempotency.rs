//! Idempotency keys of this directory: a repeat of an update finds the answer of the first.
//!
//! A key is kept for at least an hour, and among the last million for longer; there is a cap above both, and an
//! update with a new key is refused while even the oldest key kept is too young to go.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;
use std::sync::Arc;

use anabranch_crdt::{Clock, Epoch, Mutation, Type};
use bytes::Bytes;
use siphasher::sip::SipHasher13;

use crate::engine::io::{Op, RecordId};
use crate::engine::limits::{KEY_AGE_MS_MIN, Limits};
use crate::wire::{IdempotencyKey, KeyRow, ShardId};

/// What is known of one key.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub update: u64,
    pub at_ms: u64,
    pub epoch: Epoch,
    /// The record it became durable with; recovered ones are durable.
    pub record: RecordId,
    pub dots: Vec<(ShardId, u64, u64)>,
}

impl Known {
    /// About what it takes in memory with its key, which stands there twice.
    fn bytes(&self, key: &IdempotencyKey) -> usize {
        160 + 2 * key.as_bytes().len() + self.dots.len() * size_of::<(ShardId, u64, u64)>()
    }
}

/// Keys that came one after another are kept together, so many, and shared with whoever holds them still.
const RUN_KEYS: usize = 1_024;

/// One key and what is known of it.
type Kept = (IdempotencyKey, Known);

/// All keys, in their order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Where each is, counted from the first that ever came.
    places: BTreeMap<IdempotencyKey, u64>,
    /// Each but the last is full; the first may have let go of some.
    runs: VecDeque<Arc<Vec<Arc<Kept>>>>,
    /// Places that are gone.
    gone: u64,
    bytes: usize,
}

/// All keys at one moment.
#[derive(Debug)]
pub(crate) struct FrozenKeys {
    runs: Vec<Arc<Vec<Arc<Kept>>>>,
    /// So many of the first are gone.
    gone: usize,
}

impl Keys {
    pub fn get(&self, key: &IdempotencyKey) -> Option<&Known> {
        let (run, at) = self.spot(*self.places.get(key)?);
        Some(&self.runs[run][at].1)
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether one more may be kept, after letting go of what is old enough.
    pub fn make_room(&mut self, limits: &Limits, wall_ms: u64) -> bool {
        while self.len() >= limits.keys_kept || self.bytes >= limits.keys_bytes_max {
            if self.places.is_empty() {
                break;
            }
            let (run, at) = self.spot(self.gone);
            let (key, oldest) = &*self.runs[run][at];
            if oldest.at_ms > wall_ms {
                // Stamped by a clock that was ahead: how old it is nobody knows, so it is as good as new.
                let (key, mut known) = (key.clone(), oldest.clone());
                known.at_ms = wall_ms;
                self.insert(key, known);
                break;
            }
            if oldest.at_ms.saturating_add(KEY_AGE_MS_MIN) > wall_ms {
                break;
            }
            self.bytes -= oldest.bytes(key);
            self.places.remove(key);
            self.gone += 1;
            if self.gone.is_multiple_of(RUN_KEYS as u64) {
                self.runs.pop_front();
            }
        }
        self.len() < limits.keys_max && self.bytes < limits.keys_bytes_max
    }

    pub fn insert(&mut self, key: IdempotencyKey, known: Known) {
        self.bytes += known.bytes(&key);
        let next = self.gone + self.places.len() as u64;
        let kept = Arc::new((key.clone(), known));
        if let Some(place) = self.places.get(&key) {
            let (run, at) = self.spot(*place);
            let before = std::mem::replace(&mut Arc::make_mut(&mut self.runs[run])[at], kept);
            self.bytes -= before.1.bytes(&key);
            return;
        }
        self.places.insert(key, next);
        match self.runs.back_mut() {
            Some(last) if last.len() < RUN_KEYS => Arc::make_mut(last).push(kept),
            _ => self.runs.push_back(Arc::new(vec![kept])),
        }
    }

    /// Which run has this place, and where in it.
    fn spot(&self, place: u64) -> (usize, usize) {
        let first = self.gone / RUN_KEYS as u64;
        let (run, at) = (place / RUN_KEYS as u64, place % RUN_KEYS as u64);
        ((run - first) as usize, at as usize)
    }

    /// All of them, held still.
    pub fn freeze(&self) -> FrozenKeys {
        FrozenKeys {
            runs: self.runs.iter().cloned().collect(),
            gone: (self.gone % RUN_KEYS as u64) as usize,
        }
    }
}

impl FrozenKeys {
    /// They, oldest first, as they are written to disk.
    pub fn rows(self) -> impl Iterator<Item = KeyRow> {
        let kept = self
            .runs
            .into_iter()
            .flat_map(|run| (0..run.len()).map(move |at| Arc::clone(&run[at])));
        kept.skip(self.gone).map(|kept| row(&kept.0, &kept.1))
    }
}

/// A key as it is written to disk.
pub(crate) fn row(key: &IdempotencyKey, known: &Known) -> KeyRow {
    KeyRow {
        key: Bytes::copy_from_slice(key.as_bytes()),
        update: known.update,
        at_ms: known.at_ms,
        epoch: known.epoch.0,
        dots: known
            .dots
            .iter()
            .map(|(s, first, last)| (s.0, *first, *last))
            .collect(),
    }
}

/// A key as it was read from disk.
pub(crate) fn read_row(row: KeyRow) -> Result<(IdempotencyKey, Known), String> {
    let key = IdempotencyKey::new(&row.key).map_err(|e| e.to_string())?;
    let known = Known {
        update: row.update,
        at_ms: row.at_ms,
        epoch: Epoch(row.epoch),
        record: RecordId(0),
        dots: row
            .dots
            .into_iter()
            .map(|(s, first, last)| (ShardId(s), first, last))
            .collect(),
    };
    Ok((key, known))
}

/// How many bits of an update's hash are about types.
const TYPE_BITS: u32 = 16;

/// Tells one update from another under the same key: by what it does, and by the types its entities have, whether the
/// caller named them or not.
pub(crate) fn update_hash(ops: &[Op], types: &[Option<Type>]) -> u64 {
    let mut h = SipHasher13::new_with_key(b"anabranch update");
    let mut of_types = SipHasher13::new_with_key(b"anabranch utypes");
    for (op, ty) in ops.iter().zip(types) {
        hash_bytes(&mut h, op.entity.kind().as_bytes());
        hash_bytes(&mut h, op.entity.key().as_bytes());
        hash_mutation(&mut h, &op.mutation);
        of_types.write_u8(ty.map_or(0, Type::id));
    }
    (h.finish() << TYPE_BITS) | (of_types.finish() >> (u64::BITS - TYPE_BITS))
}

/// Whether an update is the one that has this hash. A type that is not known any more, since all entities of the kind
/// were deleted, is not held against it.
pub(crate) fn is_repeat(ops: &[Op], types: &[Option<Type>], known: u64) -> bool {
    let hash = update_hash(ops, types);
    let named = |(op, ty): (&Op, &Option<Type>)| ty.is_some() || op.mutation == Mutation::Delete;
    if ops.iter().zip(types).all(named) {
        hash == known
    } else {
        hash >> TYPE_BITS == known >> TYPE_BITS
    }
}

fn hash_bytes(h: &mut SipHasher13, bytes: &[u8]) {
    h.write_u64(bytes.len() as u64);
    h.write(bytes);
}

fn hash_mutation(h: &mut SipHasher13, mutation: &Mutation) {
    match mutation {
        Mutation::Create => h.write_u8(1),
        Mutation::Increment(n) => {
            h.write_u8(2);
            h.write_i64(*n);
        }
        Mutation::Add(elements) | Mutation::Remove(elements) => {
            h.write_u8(if matches!(mutation, Mutation::Add(_)) {
                3
            } else {
                4
            });
            h.write_u64(elements.len() as u64);
            for e in elements {
                hash_bytes(h, e);
            }
        }
        Mutation::Clear => h.write_u8(5),
        Mutation::Set { value, clock } => {
            let (tag, clock) = match clock {
                Clock::Default => (6, 0),
                Clock::Custom(clock) => (7, *clock),
                Clock::Reverse => (8, 0),
                Clock::AutoIncrement(clock) => (9, *clock),
            };
            h.write_u8(tag);
            h.write_u64(clock);
            hash_bytes(h, value);
        }
        Mutation::Enable => h.write_u8(10),
        Mutation::Disable => h.write_u8(11),
        Mutation::Vote(yes) => h.write_u8(12 + u8::from(*yes)),
        // A repeat may find the other node under its next epoch.
        Mutation::Transfer { to, amount } => {
            h.write_u8(15);
            h.write_u128(to.node.0);
            h.write_u64(*amount);
        }
        Mutation::Delete => h.write_u8(16),
        Mutation::Update { key, ty, mutation } => {
            h.write_u8(14);
            hash_bytes(h, key);
            h.write_u8(ty.map_or(0, Type::id));
            // As deep as maps are nested, which was checked.
            hash_mutation(h, mutation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            keys_kept: 2_500,
            keys_max: 3_000,
            ..Limits::default()
        }
    }

    fn key(n: u64) -> IdempotencyKey {
        IdempotencyKey::new(&n.to_le_bytes()).unwrap()
    }

    fn known(update: u64, at_ms: u64) -> Known {
        Known {
            update,
            at_ms,
            epoch: Epoch(1),
            record: RecordId(0),
            dots: Vec::new(),
        }
    }

    fn updates(frozen: FrozenKeys) -> Vec<u64> {
        frozen.rows().map(|row| row.update).collect()
    }

    #[test]
    fn keys_come_and_go_in_order_and_what_is_held_still_keeps_them() {
        let hour = KEY_AGE_MS_MIN;
        let mut keys = Keys::default();
        for n in 0..10_000_u64 {
            assert!(keys.make_room(&limits(), n * hour));
            keys.insert(key(n), known(n, n * hour));
            let oldest = (n + 1).saturating_sub(2_500);
            assert_eq!(keys.len() as u64, n + 1 - oldest);
            let found = |n| keys.get(&key(n)).map(|known| known.update);
            assert_eq!(
                (found(oldest), found(n), found(n + 1)),
                (Some(oldest), Some(n), None)
            );
            assert_eq!(found(oldest.wrapping_sub(1)), None);
        }
        let frozen = keys.freeze();
        // One key again, with another update; the oldest of 2,500 go.
        keys.insert(key(9_000), known(77, 9_000 * hour));
        for n in 10_000..12_000 {
            assert!(keys.make_room(&limits(), n * hour));
            keys.insert(key(n), known(n, n * hour));
        }
        assert!(updates(frozen).into_iter().eq(7_500..10_000));
        let now = updates(keys.freeze());
        let expected = (9_500..12_000).collect::<Vec<_>>();
        assert_eq!(now, expected);
        keys.insert(key(11_000), known(78, 11_000 * hour));
        assert_eq!(updates(keys.freeze())[1_500], 78);
        assert_eq!(keys.get(&key(11_000)).unwrap().update, 78);
    }

    #[test]
    fn keys_that_are_too_young_to_go_leave_no_room() {
        let mut keys = Keys::default();
        for n in 0..3_000 {
            assert!(keys.make_room(&limits(), 1_000));
            keys.insert(key(n), known(n, 2_000));
        }
        assert!(!keys.make_room(&limits(), 1_000));
        // Whoever looked at it when it was from the future took it for new.
        assert!(!keys.make_room(&limits(), 1_000 + KEY_AGE_MS_MIN - 1));
        assert!(keys.make_room(&limits(), 1_000 + KEY_AGE_MS_MIN));
        assert_eq!(keys.len(), 2_999);
    }

    #[test]
    fn all_keys_were_copied_while_the_engine_was_locked() {
        let mut keys = Keys::default();
        (0..5_000).for_each(|n| keys.insert(key(n), known(n, 0)));
        let frozen = keys.freeze();
        let shared = keys.runs.iter().zip(&frozen.runs);
        assert_eq!(shared.filter(|(here, there)| Arc::ptr_eq(here, there)).count(), 5);
    }
}
