//! What a replica did lately in a shard: one slot per dot, so that a peer behind can be brought up to date without
//! sending it state it has.
//!
//! Not here: which peer needs what (`push`, `pull`), how far a ring may be trimmed (`Shard::trim`).
//! Contract: slots are contiguous from `base + 1` to `head`; an operation without effect has a slot too.

use std::collections::VecDeque;

use anabranch_crdt::{Dot, Kill, Path};

use crate::engine::shard::EntityKey;

/// What one dot did.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// To which entity.
    pub entity: EntityKey,
    /// Where its put stands, if it had one that was alive when it came here.
    pub path: Option<Path>,
    /// What it killed.
    pub kills: Kills,
    /// The first operation seen here that killed the put.
    pub killer: Option<Dot>,
    /// A foreign operation that took away something of what the put counts, or of what was counted in its place before.
    pub raised: Option<Dot>,
    /// Whether it is the last of its update: a cut may only be made behind such a slot.
    pub commit_end: bool,
}

/// What one operation killed: mostly one dot at most, which needs no memory of its own.
#[derive(Clone, Debug)]
pub(crate) enum Kills {
    Few(Option<Kill>),
    Many(Vec<Kill>),
}

impl From<&[Kill]> for Kills {
    fn from(kills: &[Kill]) -> Kills {
        match kills {
            [_, _, ..] => Kills::Many(kills.to_vec()),
            few => Kills::Few(few.first().cloned()),
        }
    }
}

impl std::ops::Deref for Kills {
    type Target = [Kill];

    fn deref(&self) -> &[Kill] {
        match self {
            Kills::Few(kill) => kill.as_slice(),
            Kills::Many(kills) => kills,
        }
    }
}

impl Slot {
    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        let path = |path: &Path| match path {
            Path::Root => 0,
            other => other.weight(),
        };
        let kills: usize = self.kills.iter().map(|k| path(&k.path)).sum();
        let kills = kills
            + match &self.kills {
                Kills::Few(_) => 0,
                Kills::Many(kills) => kills.len() * size_of::<Kill>(),
            };
        size_of::<Slot>() + self.path.as_ref().map_or(0, path) + kills
    }
}

/// The slots of one origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    base: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
}

impl Ring {
    /// An empty ring that begins behind `base`.
    pub fn new(base: u64) -> Ring {
        Ring {
            base,
            slots: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Below this (inclusive) the ring cannot serve.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The last sequence it holds.
    pub fn head(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// About what its slots take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the slot of the next sequence.
    pub fn push(&mut self, seq: u64, slot: Slot) {
        assert!(
            seq == self.head() + 1,
            "slot {seq} behind head {}: a ring has no gaps",
            self.head()
        );
        self.bytes += slot.bytes();
        self.slots.push_back(slot);
    }

    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Slot> {
        let i = seq.checked_sub(self.base + 1)?;
        self.slots.get_mut(usize::try_from(i).ok()?)
    }

    /// The slots in `(from, to]`; both within the ring.
    pub fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Slot)> {
        assert!(
            from >= self.base && to <= self.head(),
            "({from}, {to}] of a ring with ({}, {}]",
            self.base,
            self.head()
        );
        let skip = (from - self.base) as usize;
        let take = (to.max(from) - from) as usize;
        self.slots
            .iter()
            .skip(skip)
            .take(take)
            .enumerate()
            .map(move |(i, s)| (from + 1 + i as u64, s))
    }

    /// Lets go of everything up to and including `upto`.
    pub fn trim(&mut self, upto: u64) {
        assert!(upto <= self.head(), "trim to {upto} above head {}", self.head());
        while self.base < upto {
            if let Some(slot) = self.slots.pop_front() {
                self.bytes -= slot.bytes();
            }
            self.base += 1;
        }
        // What one burst took is given back.
        if self.slots.capacity() > 64 && self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }

    /// Forgets everything: the next slot is `base + 1`.
    pub fn reset(&mut self, base: u64) {
        *self = Ring::new(base);
    }
}
