//! Operations in a vector interval, each with what it put and what it killed: how news travels and is logged.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A replica id on the wire; messages hold each once, in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WireReplica {
    /// The node's id.
    pub node: u128,
    /// Its epoch.
    pub epoch: u64,
}

/// A version vector: indices into the message's replica table, and maxima.
pub type WireVector = Vec<(u16, u64)>;

/// All operations of a shard in `(from, to]`, or one part of them.
///
/// A *batch* advances one origin (the sender's own stream) and names in `deps` what else the receiver must have.
/// A *state* answers a pull and advances any number of origins at once. Both obey one rule: a receiver whose
/// vector covers `from` and `deps` applies the whole interval in one step, any other applies nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Which shard.
    pub shard: u32,
    /// The replicas that everything below indexes. In a message all intervals share one table: see `intervals`.
    #[serde(skip)]
    pub replicas: Vec<WireReplica>,
    /// Where the interval begins, exclusive. Origins not named begin at 0.
    pub from: WireVector,
    /// Where it ends, inclusive: only the origins it may advance.
    pub to: WireVector,
    /// What the receiver must have besides.
    pub deps: WireVector,
    /// The sender's number for this transfer, so that parts of two are never mixed.
    pub id: u64,
    /// Which part this is, from 0.
    pub part: u32,
    /// Whether it is the last part.
    pub last: bool,
    /// Whether somebody waits for the acknowledgement.
    pub urgent: bool,
    /// The entities that the slots index.
    #[serde(with = "super::front")]
    pub entities: Vec<WireEntity>,
    /// The operations, contiguous per replica over all parts.
    pub runs: Vec<Run>,
}

/// An entity's address and type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WireEntity {
    /// Its kind.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Its type's id.
    pub ty: u8,
}

/// Consecutive operations of one replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Whose.
    pub replica: u16,
    /// The first one's sequence.
    pub first: u64,
    /// The operations: `first`, `first + 1`, and so on.
    pub slots: Vec<WireSlot>,
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireSlot {
    /// Which entity.
    pub entity: u32,
    /// What it put, if that is still alive at the sender.
    pub put: Option<WirePut>,
    /// What it killed.
    pub kills: Vec<WireKill>,
    /// Whether more kills of this same operation follow in the next part (its first slot, same sequence).
    pub more: bool,
}

/// What an operation put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WirePut {
    /// Where in the value.
    pub path: WirePath,
    /// What.
    pub payload: WirePayload,
}

/// A place in a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WirePath {
    /// The value itself.
    Root,
    /// An element of a set.
    Element(Bytes),
    /// In a child of a map.
    Child {
        /// The children on the way, outermost first.
        steps: Vec<WireStep>,
        /// The element of a set that the last of them is, if the place is one.
        element: Option<Bytes>,
    },
    /// Only on the way: an element as what it adds to the one before, see `lean`. Never where an interval is read.
    Near {
        /// How many bytes are those of the element before.
        shared: u8,
        /// The others.
        rest: Bytes,
    },
    /// Only on the way: the same of a place in a map.
    Lean {
        /// How many steps are those of the place before.
        steps: u8,
        /// How many bytes the next key, or the element, has in common with what stood there.
        shared: u8,
        /// The other steps, the first without those bytes.
        rest: Vec<WireStep>,
        /// The element, without those bytes if no step is left.
        element: Option<Bytes>,
    },
}

/// One step of the way into a map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireStep {
    /// The child's key.
    pub key: Bytes,
    /// Its type's id.
    pub ty: u8,
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WirePayload {
    /// A presence mark or a set's element.
    Present,
    /// One replica's progress in a counter.
    Count {
        /// All increments.
        plus: u64,
        /// All decrements.
        minus: u64,
        /// The sequence that opened the slot, or up to which it was reset.
        base: u64,
        /// Increments and decrements that were reset, if any were.
        reset: Option<(u64, u64)>,
    },
    /// A register's value.
    Stamped {
        /// Its clock.
        clock: u64,
        /// Whether the caller gave the clock.
        custom: bool,
        /// The value.
        value: Bytes,
    },
    /// A multi-value register's value.
    Written {
        /// The value.
        value: Bytes,
    },
    /// A node's ballot in a vote.
    Ballot {
        /// Whether it says yes.
        yes: bool,
    },
    /// A share of a bounded counter.
    Rights {
        /// How much may be taken away.
        amount: u64,
        /// By whom, if not by the operation's own replica.
        to: Option<WireReplica>,
    },
}

/// A dot that an operation killed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireKill {
    /// Where it lived; absent when that is the put's own place.
    pub path: Option<WirePath>,
    /// Whose dot.
    pub replica: u16,
    /// Its sequence.
    pub seq: u64,
    /// Of a counter's slot that is reset: increments and decrements up to there.
    pub reset: Option<(u64, u64)>,
}

impl WirePath {
    /// About how many bytes it takes.
    pub fn len_bytes(&self) -> usize {
        match self {
            WirePath::Root => 1,
            WirePath::Element(e) | WirePath::Near { rest: e, .. } => 4 + e.len(),
            WirePath::Child { steps, element }
            | WirePath::Lean {
                rest: steps, element, ..
            } => {
                let steps: usize = steps.iter().map(|step| 4 + step.key.len()).sum();
                5 + steps + element.as_ref().map_or(0, |e| 3 + e.len())
            }
        }
    }
}

impl WirePut {
    /// About how many bytes it takes, never less than it does.
    pub fn len_bytes(&self) -> usize {
        self.path.len_bytes()
            + match &self.payload {
                WirePayload::Present => 1,
                WirePayload::Count { .. } => 52,
                WirePayload::Stamped { value, .. } => 17 + value.len(),
                WirePayload::Written { value } => 6 + value.len(),
                WirePayload::Ballot { .. } => 2,
                WirePayload::Rights { .. } => 41,
            }
    }
}

impl WireKill {
    /// About how many bytes it takes, never less than it does.
    pub fn len_bytes(&self) -> usize {
        14 + self.path.as_ref().map_or(1, |p| 1 + p.len_bytes()) + self.reset.map_or(0, |_| 20)
    }
}

impl WireSlot {
    /// About how many bytes it takes, never less than it does.
    pub fn len_bytes(&self) -> usize {
        12 + self.put.as_ref().map_or(0, WirePut::len_bytes)
            + self.kills.iter().map(WireKill::len_bytes).sum::<usize>()
    }
}

impl Interval {
    /// About how many bytes it takes, never less than it does.
    pub fn len_bytes(&self) -> usize {
        let slots: usize = self
            .runs
            .iter()
            .flat_map(|r| &r.slots)
            .map(WireSlot::len_bytes)
            .sum();
        slots + self.entities.iter().map(WireEntity::len_bytes).sum::<usize>() + 27 * self.replicas.len() + 64
    }
}

impl WireEntity {
    /// About how many bytes it takes, never less than it does.
    pub fn len_bytes(&self) -> usize {
        8 + self.kind.len() + self.key.len()
    }
}
