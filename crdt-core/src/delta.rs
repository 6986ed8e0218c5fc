//! What a mutation did: the part of a state that it made and the dots it removed.
//!
//! Not here: the bytes of a delta on the wire or on disk.
//!
//! Contract: a delta names every place it touches. Its context is exactly the dots of its parts and of their
//! kills, so that it can be joined alone, in any grouping and more than once.

use bytes::Bytes;

use crate::context::Context;
use crate::dot::Dot;
use crate::kind::Type;

/// Where in a value a dot lives. The root comes first, then the elements bytewise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// The value itself: a counter's slots, a register's writes, a set's presence marks.
    Root,
    /// An element of a set.
    Element(Bytes),
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
    /// One replica's totals in a counter.
    Count {
        /// All it ever added.
        plus: u64,
        /// All it ever took away.
        minus: u64,
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
}

/// What a dot put into a value, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Put {
    /// Where it lives.
    pub path: Path,
    /// What it carries.
    pub payload: Payload,
}

/// A dot that an operation removed, and where it lived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kill {
    /// Where it lived.
    pub path: Path,
    /// The dot.
    pub dot: Dot,
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
