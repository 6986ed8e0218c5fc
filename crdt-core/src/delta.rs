//! What a mutation did: the part of a state that it made and the dots it removed.
//!
//! Not here: the bytes of a delta on the wire or on disk.
//!
//! Contract: a delta names every place it touches. Its context is exactly the dots of its parts and of their
//! kills, so that it can be joined alone, in any grouping and more than once.

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

use crate::context::Context;
use crate::dot::Dot;
use crate::id::ReplicaId;
use crate::kind::Type;

/// How deep values may be nested in maps: a map of maps of counters is two deep.
pub const DEPTH_MAX: usize = 8;

/// Where in a value a dot lives. The root comes first, then elements and children bytewise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// The value itself: a counter's slots, a register's writes, the presence marks of a set or map.
    Root,
    /// An element of a set.
    Element(Bytes),
    /// In a child of a map.
    Child(Box<Child>),
}

/// A place in a child of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Child {
    /// The child's key.
    pub key: Bytes,
    /// Its type. Two sides of a partition may have made children of different types under one key.
    pub ty: Type,
    /// The place in it.
    pub path: Path,
}

impl Path {
    /// The same place, seen from a map that has the value as a child.
    pub fn within(self, key: Bytes, ty: Type) -> Path {
        Path::Child(Box::new(Child { key, ty, path: self }))
    }

    /// About what it takes where it is written down, in bytes; never less.
    pub fn weight(&self) -> usize {
        let (mut bytes, mut path) = (0, self);
        while let Path::Child(child) = path {
            bytes += 7 + child.key.len();
            path = &child.path;
        }
        match path {
            Path::Element(element) => bytes + 4 + element.len(),
            _ => bytes + 1,
        }
    }

    /// How many maps it leads through.
    pub fn depth(&self) -> usize {
        let (mut depth, mut path) = (0, self);
        while let Path::Child(child) = path {
            (depth, path) = (depth + 1, &child.path);
        }
        depth
    }
}

/// What a replica added and took away in a counter, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Totals {
    /// All it ever added.
    pub plus: u64,
    /// All it ever took away.
    pub minus: u64,
}

impl Totals {
    /// What is left of them after a reset.
    pub fn beyond(self, base: Base) -> Totals {
        Totals {
            plus: self.plus.saturating_sub(base.totals.plus),
            minus: self.minus.saturating_sub(base.totals.minus),
        }
    }
}

/// From where a replica's totals count: from its first increment, or from what was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Base {
    /// Twice the sequence of the increment that was reset; one less than twice the first increment's.
    rank: u64,
    totals: Totals,
}

impl Base {
    /// The slot was opened by this increment.
    pub const fn opened(seq: u64) -> Base {
        Base {
            rank: (seq * 2).saturating_sub(1),
            totals: Totals { plus: 0, minus: 0 },
        }
    }

    /// What this increment had reached was reset.
    pub const fn reset(seq: u64, totals: Totals) -> Base {
        Base {
            rank: seq * 2,
            totals,
        }
    }

    /// Whether an increment is left that was not reset.
    pub(crate) fn is_below(&self, dot: Dot) -> bool {
        self.rank < dot.seq() * 2
    }

    /// The increment that was reset; nothing if none was since the slot was opened.
    pub(crate) fn reset_dot(&self, ix: crate::ReplicaIx) -> Option<Dot> {
        self.rank
            .is_multiple_of(2)
            .then(|| Dot::try_new(ix, self.rank / 2))
            .flatten()
    }

    /// The sequence that opened the slot, or the one that was reset and what it had reached.
    pub fn origin(&self) -> (u64, Option<Totals>) {
        let seq = self.rank.div_ceil(2);
        (seq, self.rank.is_multiple_of(2).then_some(self.totals))
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }
}

/// How a register write got its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockMode {
    /// From the hybrid clock: later than everything the writer saw.
    Default,
    /// From the caller: may lose against a write the caller saw.
    Custom,
}

/// What a live dot carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payload {
    /// Nothing but its presence: an element of a set, or the mark of a value that was created or removed from.
    Present,
    /// One replica's progress in a counter.
    Count {
        /// How far it came.
        totals: Totals,
        /// From where that counts.
        base: Base,
    },
    /// A register write.
    Stamped {
        /// What decides which write wins.
        clock: u64,
        /// Where the clock comes from.
        mode: ClockMode,
        /// The value written.
        value: Bytes,
    },
    /// A register write that goes by what it saw, without a clock.
    Written {
        /// The value written.
        value: Bytes,
    },
    /// A node's ballot.
    Ballot {
        /// Whether it says yes.
        yes: bool,
    },
    /// A share of a bounded counter.
    Rights {
        /// How much may be taken away.
        amount: u64,
        /// By whom: by the dot's own replica unless it was handed over.
        to: Option<ReplicaId>,
    },
}

impl Payload {
    /// Whether it is alive under this dot: all are, but a counter's slot that is reset as far as it goes.
    pub fn is_live(&self, dot: Dot) -> bool {
        match self {
            Payload::Count { base, .. } => base.is_below(dot),
            _ => true,
        }
    }

    /// Whether such a payload can stand under this dot: nothing is reset beyond it, and no more than was reached.
    pub fn fits(&self, dot: Dot) -> bool {
        match self {
            Payload::Count { totals, base } => {
                let (seq, reset) = base.origin();
                seq >= 1
                    && seq <= dot.seq()
                    && reset.is_none_or(|reset| reset.plus <= totals.plus && reset.minus <= totals.minus)
            }
            _ => true,
        }
    }
}

/// What a dot put into a value, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Put {
    /// Where it lives.
    pub path: Path,
    /// What it carries.
    pub payload: Payload,
}

impl Put {
    /// About what it takes where it is written down, in bytes; never less. Its dot is not counted.
    pub fn weight(&self) -> usize {
        let payload = match &self.payload {
            Payload::Present => 1,
            Payload::Count { .. } => 52,
            Payload::Stamped { value, .. } => 17 + value.len(),
            Payload::Written { value } => 6 + value.len(),
            Payload::Ballot { .. } => 2,
            Payload::Rights { .. } => 41,
        };
        self.path.weight() + payload
    }
}

/// A dot that an operation removed, and where it lived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kill {
    /// Where it lived.
    pub path: Path,
    /// The dot.
    pub dot: Dot,
    /// Of a counter's slot: what it had reached. Nothing if the kill is by the slot's next increment, which goes on
    /// from there.
    pub reset: Option<Totals>,
}

impl Kill {
    /// A kill that resets nothing.
    pub const fn of(path: Path, dot: Dot) -> Kill {
        Kill {
            path,
            dot,
            reset: None,
        }
    }
}

/// Everything one dot did; it cannot be divided further.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// The dot.
    pub dot: Dot,
    /// What it put into the value. Every mutation puts something; only a delete of the whole value does not.
    pub put: Option<Put>,
    /// What it removed.
    pub kills: Vec<Kill>,
}

/// What one or more mutations of one value did. Not a value: the only thing to do with it is to ship it and to
/// join it into one.
///
/// ```
/// use anabranch_crdt::{Epoch, Issuer, Mutation, NodeId, ReplicaId, Replicas, Type, Value};
///
/// let mut replicas = Replicas::new();
/// let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
/// let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0 };
/// let add = Mutation::Add(vec!["x".into(), "y".into()]);
/// let delta = Value::new(Type::OrSet).mutate(&issuer, &add)?;
/// assert_eq!(delta.parts().len(), 2); // a dot an element
/// assert_eq!(delta.context().maxima().get(me), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a delta changes nothing until it is joined"]
pub struct Delta {
    ty: Type,
    parts: Vec<Part>,
}

impl Delta {
    /// A delta for a value of type `ty`. Whoever read the parts from a peer or a disk asks
    /// [`Type::admits`] of every put first.
    pub fn from_parts(ty: Type, parts: Vec<Part>) -> Delta {
        Delta { ty, parts }
    }

    /// The type of the value it is for.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// Its parts: for a mutation, in ascending sequence of one replica.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Its parts, owned.
    pub fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// Whether it does nothing: there was no mutation, and no dot was used.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What the delta has seen: exactly the dots of its parts and of their kills.
    pub fn context(&self) -> Context {
        let kills = self
            .parts
            .iter()
            .flat_map(|part| &part.kills)
            .map(|kill| kill.dot);
        self.parts.iter().map(|part| part.dot).chain(kills).collect()
    }
}
