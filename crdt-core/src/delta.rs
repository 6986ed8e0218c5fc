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
///
/// ```
/// use anabranch_crdt::{DEPTH_MAX, Mutation, MutationError, Type};
///
/// let within_maps = |maps: usize| {
///     (0..maps).fold(Mutation::Create, |mutation, _| Mutation::Update {
///         key: "k".into(),
///         ty: Some(Type::OrMap),
///         mutation: Box::new(mutation),
///     })
/// };
/// assert!(within_maps(DEPTH_MAX).check(Type::OrMap).is_ok());
/// assert_eq!(within_maps(DEPTH_MAX + 1).check(Type::OrMap), Err(MutationError::TooDeep));
/// ```
pub const DEPTH_MAX: usize = 8;

/// What a put takes at most beside [`Put::weight`], in bytes: its dot, and that it may be of another kind than its
/// neighbours.
///
/// ```
/// use anabranch_crdt::{DOT_BYTES_MAX, Dot, Path, Payload, Put, REPLICAS_MAX, ReplicaIx, SEQ_MAX, encode_puts};
///
/// let put = Put { path: Path::Root, payload: Payload::Ballot { yes: true } };
/// let (mut one, mut two) = (Vec::new(), Vec::new());
/// let far = |ix| (Dot::new(ReplicaIx(ix), SEQ_MAX), put.clone());
/// encode_puts(&mut one, REPLICAS_MAX, &[far(9)]);
/// encode_puts(&mut two, REPLICAS_MAX, &[far(9), far(65_534)]);
/// assert!(two.len() - one.len() <= DOT_BYTES_MAX + put.weight());
/// ```
pub const DOT_BYTES_MAX: usize = 13;

/// Where in a value a dot lives. The root comes first, then elements and children bytewise.
///
/// ```
/// use anabranch_crdt::{Path, Type};
///
/// let mut places = [
///     Path::Root.within("k".into(), Type::Flag),
///     Path::Element("y".into()),
///     Path::Root,
///     Path::Element("x".into()),
/// ];
/// places.sort();
/// assert_eq!(places[..3], [Path::Root, Path::Element("x".into()), Path::Element("y".into())]);
/// ```
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
///
/// ```
/// use anabranch_crdt::{Child, Path, Type};
///
/// let place = Path::Element("x".into()).within("k".into(), Type::OrSet);
/// let child = Child { key: "k".into(), ty: Type::OrSet, path: Path::Element("x".into()) };
/// assert_eq!(place, Path::Child(Box::new(child)));
/// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Path, Type};
    ///
    /// let path = Path::Root.within("inner".into(), Type::Flag).within("outer".into(), Type::OrMap);
    /// assert!(matches!(path, Path::Child(child) if child.key == "outer" && child.ty == Type::OrMap));
    /// ```
    pub fn within(self, key: Bytes, ty: Type) -> Path {
        Path::Child(Box::new(Child { key, ty, path: self }))
    }

    /// About what it takes where it is written down, in bytes; never less.
    ///
    /// ```
    /// use anabranch_crdt::Path;
    ///
    /// assert!(Path::Element("x".into()).weight() > Path::Root.weight());
    /// let (short, long) = (Path::Element("x".into()), Path::Element("x".repeat(100).into()));
    /// assert_eq!(long.weight() - short.weight(), 99);
    /// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Path, Type};
    ///
    /// assert_eq!(Path::Element("x".into()).depth(), 0);
    /// assert_eq!(Path::Element("x".into()).within("k".into(), Type::OrSet).depth(), 1);
    /// ```
    pub fn depth(&self) -> usize {
        let (mut depth, mut path) = (0, self);
        while let Path::Child(child) = path {
            (depth, path) = (depth + 1, &child.path);
        }
        depth
    }
}

/// What a replica added and took away in a counter, all in all.
///
/// ```
/// use anabranch_crdt::{Mutation, Payload, Totals};
/// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// # let mut here = Causal::new(Type::PnCounter);
/// here.join_op(&here.mutate(me, 0, &Mutation::Increment(5))?)?;
/// here.join_op(&here.mutate(me, 0, &Mutation::Increment(-2))?)?;
/// let payload = here.value().puts().next().map(|(_, put)| put.payload);
/// assert!(matches!(payload, Some(Payload::Count { totals: Totals { plus: 5, minus: 2 }, .. })));
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Totals {
    /// All it ever added.
    pub plus: u64,
    /// All it ever took away.
    pub minus: u64,
}

impl Totals {
    /// What is left of them after a reset.
    ///
    /// ```
    /// use anabranch_crdt::{Base, Totals};
    ///
    /// let base = Base::reset(1, Totals { plus: 3, minus: 0 });
    /// assert_eq!(Totals { plus: 5, minus: 2 }.beyond(base), Totals { plus: 2, minus: 2 });
    /// ```
    pub fn beyond(self, base: Base) -> Totals {
        Totals {
            plus: self.plus.saturating_sub(base.totals.plus),
            minus: self.minus.saturating_sub(base.totals.minus),
        }
    }
}

/// From where a replica's totals count: from its first increment, or from what was reset.
///
/// ```
/// use anabranch_crdt::{Base, Totals};
///
/// // The later one is larger; what was reset is later than the same increment.
/// let totals = Totals { plus: 3, minus: 0 };
/// assert!(Base::opened(4) < Base::reset(4, totals));
/// assert!(Base::reset(4, totals) < Base::opened(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Base {
    /// Twice the sequence of the increment that was reset; one less than twice the first increment's.
    rank: u64,
    totals: Totals,
}

impl Base {
    /// The slot was opened by this increment.
    ///
    /// ```
    /// use anabranch_crdt::Base;
    ///
    /// assert_eq!(Base::opened(4).origin(), (4, None));
    /// ```
    pub const fn opened(seq: u64) -> Base {
        Base {
            rank: (seq * 2).saturating_sub(1),
            totals: Totals { plus: 0, minus: 0 },
        }
    }

    /// What this increment had reached was reset.
    ///
    /// ```
    /// use anabranch_crdt::{Base, Dot, Payload, ReplicaIx, Totals};
    ///
    /// let totals = Totals { plus: 3, minus: 0 };
    /// let slot = Payload::Count { totals, base: Base::reset(4, totals) };
    /// assert!(!slot.is_live(Dot::new(ReplicaIx(0), 4))); // nothing is left of it
    /// assert!(slot.is_live(Dot::new(ReplicaIx(0), 5)));
    /// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Base, Totals};
    ///
    /// let totals = Totals { plus: 3, minus: 0 };
    /// assert_eq!(Base::reset(4, totals).origin(), (4, Some(totals)));
    /// assert_eq!(Base::opened(4).origin(), (4, None));
    /// ```
    pub fn origin(&self) -> (u64, Option<Totals>) {
        let seq = self.rank.div_ceil(2);
        (seq, self.rank.is_multiple_of(2).then_some(self.totals))
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }
}

/// How a register write got its clock.
///
/// ```
/// use anabranch_crdt::{CausalError, Clock, ClockMode, Mutation, Payload, Put};
/// # use anabranch_crdt::{Causal, Epoch, NodeId, ReplicaId, Type};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// # let here = Causal::new(Type::LwwRegister);
/// let mode = |clock| -> Result<ClockMode, CausalError> {
///     let op = here.mutate(me, 9, &Mutation::Set { value: "x".into(), clock })?;
///     match &op.delta().parts()[0].put {
///         Some(Put { payload: Payload::Stamped { mode, .. }, .. }) => Ok(*mode),
///         _ => unreachable!("a write puts a stamp"),
///     }
/// };
/// assert_eq!(mode(Clock::Default)?, ClockMode::Default);
/// assert_eq!(mode(Clock::Custom(7))?, ClockMode::Custom);
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockMode {
    /// From the hybrid clock: later than everything the writer saw.
    Default,
    /// From the caller: may lose against a write the caller saw.
    Custom,
}

/// What a live dot carries.
///
/// ```
/// use anabranch_crdt::{Causal, CausalError, Mutation, Payload, Type};
/// # use anabranch_crdt::{Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let payload = |ty, mutation| -> Result<Option<Payload>, CausalError> {
///     let op = Causal::new(ty).mutate(me, 0, &mutation)?;
///     Ok(op.delta().parts()[0].put.clone().map(|put| put.payload))
/// };
/// assert_eq!(payload(Type::OrSet, Mutation::Add(vec!["x".into()]))?, Some(Payload::Present));
/// assert_eq!(payload(Type::Vote, Mutation::Vote(true))?, Some(Payload::Ballot { yes: true }));
/// # Ok::<(), CausalError>(())
/// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Base, Dot, Payload, ReplicaIx, Totals};
    ///
    /// let totals = Totals { plus: 3, minus: 0 };
    /// let dot = Dot::new(ReplicaIx(0), 4);
    /// assert!(Payload::Count { totals, base: Base::opened(4) }.is_live(dot));
    /// assert!(!Payload::Count { totals, base: Base::reset(4, totals) }.is_live(dot));
    /// ```
    pub fn is_live(&self, dot: Dot) -> bool {
        match self {
            Payload::Count { base, .. } => base.is_below(dot),
            _ => true,
        }
    }

    /// Whether such a payload can stand under this dot: nothing is reset beyond it.
    ///
    /// ```
    /// use anabranch_crdt::{Base, Dot, Payload, ReplicaIx, Totals};
    ///
    /// let totals = Totals { plus: 3, minus: 0 };
    /// let dot = Dot::new(ReplicaIx(0), 4);
    /// assert!(Payload::Count { totals, base: Base::opened(4) }.fits(dot));
    /// assert!(!Payload::Count { totals, base: Base::opened(5) }.fits(dot)); // opened after it
    /// // Somebody may have reset more than was reached; then nothing is left.
    /// assert!(Payload::Count { totals: Totals::default(), base: Base::reset(3, totals) }.fits(dot));
    /// ```
    pub fn fits(&self, dot: Dot) -> bool {
        match self {
            Payload::Count { base, .. } => (1..=dot.seq()).contains(&base.origin().0),
            _ => true,
        }
    }
}

/// What a dot put into a value, and where.
///
/// ```
/// use anabranch_crdt::{Causal, Mutation, Path, Payload, Put, Type};
/// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let op = Causal::new(Type::OrSet).mutate(me, 0, &Mutation::Add(vec!["x".into()]))?;
/// let put = Put { path: Path::Element("x".into()), payload: Payload::Present };
/// assert_eq!(op.delta().parts()[0].put, Some(put));
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Put {
    /// Where it lives.
    pub path: Path,
    /// What it carries.
    pub payload: Payload,
}

impl Put {
    /// About what it takes where it is written down, in bytes; never less. Its dot is not counted.
    ///
    /// ```
    /// use anabranch_crdt::{Path, Payload, Put};
    ///
    /// let put = |value: String| Put { path: Path::Root, payload: Payload::Written { value: value.into() } };
    /// assert_eq!(put("x".repeat(100)).weight() - put("x".into()).weight(), 99);
    /// assert!(put("x".repeat(100)).weight() > 100);
    /// ```
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
///
/// ```
/// use anabranch_crdt::{Dot, Kill, Mutation, Path, ReplicaIx};
/// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// # let mut here = Causal::new(Type::OrSet);
/// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
/// let removal = here.mutate(me, 0, &Mutation::Remove(vec!["x".into()]))?;
/// let added = Dot::new(ReplicaIx(0), 1);
/// assert_eq!(removal.delta().parts()[0].kills, [Kill::of(Path::Element("x".into()), added)]);
/// # Ok::<(), CausalError>(())
/// ```
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
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Kill, Path, ReplicaIx};
    ///
    /// let dot = Dot::new(ReplicaIx(0), 1);
    /// assert_eq!(Kill::of(Path::Root, dot), Kill { path: Path::Root, dot, reset: None });
    /// ```
    pub const fn of(path: Path, dot: Dot) -> Kill {
        Kill {
            path,
            dot,
            reset: None,
        }
    }
}

/// Everything one dot did; it cannot be divided further.
///
/// ```
/// use anabranch_crdt::{Mutation, Part};
/// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// # let mut here = Causal::new(Type::Flag);
/// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
/// let op = here.mutate(me, 0, &Mutation::Disable)?;
/// let Part { dot, put, kills } = &op.delta().parts()[0];
/// assert_eq!((dot.seq(), kills.len()), (2, 1));
/// assert!(put.is_some()); // the mark that the flag exists
/// # Ok::<(), CausalError>(())
/// ```
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
/// let issuer = Issuer { replicas: &replicas, me, next_seq: 1, stamp: 0, inherits: None };
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
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Delta, Mutation, ReplicaIx, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let op = Causal::new(Type::OrSet).mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?;
    /// let first = Delta::from_parts(Type::OrSet, op.delta().parts()[..1].to_vec());
    /// assert_eq!(first.context().maxima().get(ReplicaIx(0)), 1); // without "y"
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn from_parts(ty: Type, parts: Vec<Part>) -> Delta {
        Delta { ty, parts }
    }

    /// The type of the value it is for.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let op = Causal::new(Type::Flag).mutate(me, 0, &Mutation::Enable)?;
    /// assert_eq!(op.delta().ty(), Type::Flag);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// Its parts: for a mutation, in ascending sequence of one replica.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let op = Causal::new(Type::GSet).mutate(me, 0, &Mutation::Add(vec!["y".into(), "x".into()]))?;
    /// let seqs: Vec<u64> = op.delta().parts().iter().map(|part| part.dot.seq()).collect();
    /// assert_eq!(seqs, [1, 2]);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Its parts, owned.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Delta, Mutation, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let op = Causal::new(Type::Flag).mutate(me, 0, &Mutation::Enable)?;
    /// let parts = op.delta().clone().into_parts();
    /// assert_eq!(Delta::from_parts(Type::Flag, parts), *op.delta());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// Whether it does nothing: there was no mutation, and no dot was used.
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let here = Causal::new(Type::OrSet);
    /// let remove = here.mutate(me, 0, &Mutation::Remove(vec!["x".into()]))?; // it is not there
    /// assert!(remove.delta().is_empty());
    /// let add = here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?;
    /// assert!(!add.delta().is_empty());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What the delta has seen: exactly the dots of its parts and of their kills.
    ///
    /// ```
    /// use anabranch_crdt::{Context, Dot, Mutation, ReplicaIx};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["y".into()]))?)?;
    /// let removal = here.mutate(me, 0, &Mutation::Remove(vec!["x".into()]))?;
    /// let dots = [1, 3].map(|seq| Dot::new(ReplicaIx(0), seq)); // that of "x" and its own
    /// assert_eq!(removal.delta().context(), Context::from_iter(dots));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn context(&self) -> Context {
        let kills = self
            .parts
            .iter()
            .flat_map(|part| &part.kills)
            .map(|kill| kill.dot);
        self.parts.iter().map(|part| part.dot).chain(kills).collect()
    }
}
