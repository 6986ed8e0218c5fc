//! Idempotency keys of this directory: a repeat of an update finds the answer of the first.
//!
//! A key is kept for at least an hour, and among the last million for longer; there is a cap above both, and an
//! update with a new key is refused while even the oldest key kept is too young to go.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;

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

/// All keys, and their order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: BTreeMap<IdempotencyKey, Known>,
    order: VecDeque<IdempotencyKey>,
    bytes: usize,
}

impl Keys {
    pub fn get(&self, key: &IdempotencyKey) -> Option<&Known> {
        self.known.get(key)
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether one more may be kept, after letting go of what is old enough.
    pub fn make_room(&mut self, limits: &Limits, wall_ms: u64) -> bool {
        while self.order.len() >= limits.keys_kept || self.bytes >= limits.keys_bytes_max {
            let Some(oldest) = self.order.front().and_then(|k| self.known.get_mut(k)) else {
                break;
            };
            // Stamped by a clock that was ahead: how old it is nobody knows, so it is as good as new.
            oldest.at_ms = oldest.at_ms.min(wall_ms);
            if oldest.at_ms.saturating_add(KEY_AGE_MS_MIN) > wall_ms {
                break;
            }
            if let Some(key) = self.order.pop_front()
                && let Some(gone) = self.known.remove(&key)
            {
                self.bytes -= gone.bytes(&key);
            }
        }
        self.order.len() < limits.keys_max && self.bytes < limits.keys_bytes_max
    }

    pub fn insert(&mut self, key: IdempotencyKey, known: Known) {
        self.bytes += known.bytes(&key);
        match self.known.insert(key.clone(), known) {
            Some(before) => self.bytes -= before.bytes(&key),
            None => self.order.push_back(key),
        }
    }

    /// All of them, oldest first, as they are written to disk.
    pub fn rows(&self) -> impl Iterator<Item = KeyRow> {
        self.order
            .iter()
            .filter_map(|key| self.known.get(key).map(|known| row(key, known)))
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
