//! What can be asked of a value, by whom, and why it may be refused.
//!
//! Not here: what it does; each type has a file of its own.
//!
//! Contract: a refused mutation leaves no trace, and a mutation that would change nothing uses no dot.

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

use crate::boundedcounter::TRANSFERS_MAX;
use crate::delta::DEPTH_MAX;
use crate::dot::{Dot, SEQ_MAX};
use crate::id::{Epoch, ReplicaId};
use crate::kind::Type;
use crate::replicas::{ReplicaIx, Replicas};

/// An operation on a value.
///
/// ```
/// use anabranch_crdt::{Causal, Mutation, Reading, Type};
/// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let mut here = Causal::new(Type::OrMap);
/// let add = Mutation::Add(vec!["apple".into()]);
/// let update = Mutation::Update { key: "fruit".into(), ty: Some(Type::OrSet), mutation: Box::new(add) };
/// here.join_op(&here.mutate(me, 0, &update)?)?;
/// let fruit = Reading::Elements(vec!["apple".into()]);
/// assert_eq!(here.read(), Reading::Map([("fruit".into(), fruit)].into()));
/// here.join_op(&here.mutate(me, 0, &Mutation::Remove(vec!["fruit".into()]))?)?;
/// assert_eq!(here.read(), Reading::Map([].into()));
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The value exists, empty; nothing if it exists. Every type takes it.
    Create,
    /// Adds to a counter. Adding 0 creates the counter; adding 0 to one that exists is nothing.
    Increment(i64),
    /// Adds elements to a set: each gets a dot, also one that is there already. No element at all is nothing.
    Add(Vec<Bytes>),
    /// Removes elements from a set, or keys from a map; removing what is not there is nothing.
    Remove(Vec<Bytes>),
    /// Removes all elements of a set or all keys of a map.
    Clear,
    /// Writes a register.
    Set {
        /// The value to write.
        value: Bytes,
        /// What decides between this write and others; only a last-writer register takes another than the default.
        clock: Clock,
    },
    /// Enables a flag.
    Enable,
    /// Disables a flag that is enabled.
    Disable,
    /// Casts this node's ballot.
    Vote(bool),
    /// Hands rights to a bounded counter over to another replica. None, or to oneself, is nothing.
    Transfer {
        /// To whom: the run of a node that is to use them. Another run of it cannot.
        to: ReplicaId,
        /// How much it may take away then, and this replica no more.
        amount: u64,
    },
    /// Removes the value itself, whole: everything of it that was seen. What others did to it meanwhile stands alone
    /// then, and of a bounded counter the holding that they changed. The next mutation makes it anew. Every type takes
    /// it; deleting what is not there is nothing. Of a map's child, [`Remove`](Mutation::Remove) is that.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Reading, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let [a, b] = [1, 2].map(|node| ReplicaId::new(NodeId(node), Epoch(1)));
    /// let mut here = Causal::new(Type::PnCounter);
    /// here.join_op(&here.mutate(a, 0, &Mutation::Increment(5))?)?;
    /// let mut there = here.clone();
    /// there.join_op(&there.mutate(b, 0, &Mutation::Delete)?)?;
    /// assert!(!there.value().exists());
    /// here.join_op(&here.mutate(a, 0, &Mutation::Increment(2))?)?; // has not seen that
    /// here.join(&there)?;
    /// assert_eq!(here.read(), Reading::Count(2));
    /// # Ok::<(), CausalError>(())
    /// ```
    Delete,
    /// Changes a child of a map, which is made if it is not there.
    Update {
        /// Its key.
        key: Bytes,
        /// Its type: without one, the type it has, or the only one that the map takes.
        ty: Option<Type>,
        /// The change.
        mutation: Box<Mutation>,
    },
}

/// What decides between a register's writes: the largest clock wins, of equal ones the larger replica's, then the
/// later.
///
/// ```
/// use anabranch_crdt::{Causal, CausalError, Clock, Mutation, Reading, Type};
/// # use anabranch_crdt::{Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let after = |clock| -> Result<Reading, CausalError> {
///     let mut here = Causal::new(Type::LwwRegister);
///     for (stamp, value, clock) in [(5, "first", Clock::Custom(10)), (6, "second", clock)] {
///         here.join_op(&here.mutate(me, stamp, &Mutation::Set { value: value.into(), clock })?)?;
///     }
///     Ok(here.read())
/// };
/// assert_eq!(after(Clock::Default)?, Reading::Register(Some("second".into())));
/// assert_eq!(after(Clock::Custom(9))?, Reading::Register(Some("first".into())));
/// assert_eq!(after(Clock::AutoIncrement(9))?, Reading::Register(Some("second".into())));
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Clock {
    /// The hybrid clock: later than everything the writer saw, which it supersedes.
    #[default]
    Default,
    /// The hybrid clock reversed: the first writer wins, by the clocks alone.
    Reverse,
    /// This clock, by the clocks alone: the write may lose against one its writer saw.
    Custom(u64),
    /// This clock, or one above the clock stored where it is written if that is not below it.
    AutoIncrement(u64),
}

impl Mutation {
    /// The operation's name, as users type it.
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    ///
    /// assert_eq!(Mutation::Increment(5).name(), "incr");
    /// ```
    pub const fn name(&self) -> &'static str {
        match self {
            Mutation::Create => "create",
            Mutation::Increment(_) => "incr",
            Mutation::Add(_) => "add",
            Mutation::Remove(_) => "remove",
            Mutation::Clear => "clear",
            Mutation::Set { .. } => "set",
            Mutation::Enable => "enable",
            Mutation::Disable => "disable",
            Mutation::Vote(_) => "vote",
            Mutation::Transfer { .. } => "transfer",
            Mutation::Delete => "delete",
            Mutation::Update { .. } => "in",
        }
    }

    /// Whether it takes away what others see, from an entity of this type (`None`: not known; then a write is taken to). What
    /// somebody had taken away before it does not take away again: who has this one alone may still show that.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Type};
    ///
    /// assert!(Mutation::Remove(vec!["fruit".into()]).takes_away(Some(Type::OrSet)));
    /// assert!(!Mutation::Add(vec!["fruit".into()]).takes_away(Some(Type::OrSet)));
    /// // A write to a multi-value register takes away the values that its writer saw.
    /// let write = Mutation::Set { value: "ripe".into(), clock: Default::default() };
    /// assert!(write.takes_away(Some(Type::MvRegister)) && !write.takes_away(Some(Type::LwwRegister)));
    /// ```
    pub fn takes_away(&self, ty: Option<Type>) -> bool {
        match self {
            Mutation::Remove(_) | Mutation::Clear | Mutation::Disable | Mutation::Delete => true,
            Mutation::Set { .. } => ty.is_none_or(|ty| ty == Type::MvRegister),
            Mutation::Update {
                ty: child, mutation, ..
            } => mutation.takes_away(child.or(ty.and_then(Type::child))),
            _ => false,
        }
    }

    /// How many dots it uses at most.
    pub(crate) fn dots_max(&self) -> u64 {
        match self {
            Mutation::Add(elements) => elements.len() as u64,
            Mutation::Transfer { .. } => 2,
            Mutation::Update { mutation, .. } => mutation.dots_max(),
            _ => 1,
        }
    }

    /// By how much it changes what `me`, who does it, holds of a bounded counter.
    pub(crate) fn gain(&self, me: ReplicaId) -> i128 {
        match self {
            Mutation::Increment(by) => i128::from(*by),
            Mutation::Transfer { to, amount } if *to != me => -i128::from(*amount),
            _ => 0,
        }
    }

    /// Whether values of this type take it. Only a bounded counter refuses what passes here, where its author does not
    /// hold what it takes.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Type};
    /// assert!(Mutation::Increment(-1).check(Type::PnCounter).is_ok());
    /// assert!(Mutation::Increment(-1).check(Type::GCounter).is_err());
    /// assert!(Mutation::Clear.check(Type::LwwRegister).is_err());
    /// ```
    pub fn check(&self, ty: Type) -> Result<(), MutationError> {
        self.check_within(ty, 0)
    }

    fn check_within(&self, ty: Type, depth: usize) -> Result<(), MutationError> {
        match (ty, self) {
            (Type::GCounter, Mutation::Increment(by)) if *by < 0 => {
                Err(MutationError::NegativeIncrement { by: *by })
            }
            (Type::MvRegister, Mutation::Set { clock, .. }) if *clock != Clock::Default => {
                Err(MutationError::NoClock)
            }
            (map, Mutation::Update { ty, mutation, .. }) if map.is_map() => {
                if depth >= DEPTH_MAX {
                    return Err(MutationError::TooDeep);
                }
                match ty.or(map.child()) {
                    Some(ty) if !map.takes(ty) => Err(MutationError::ChildType { map, ty }),
                    Some(ty) => mutation.check_within(ty, depth + 1),
                    // The child's own type decides; see `Value::resolve`.
                    None => Ok(()),
                }
            }
            (_, Mutation::Delete) if depth == 0 => Ok(()),
            (_, Mutation::Create)
            | (Type::GCounter | Type::PnCounter | Type::BoundedCounter, Mutation::Increment(_))
            | (Type::BoundedCounter, Mutation::Transfer { .. })
            | (Type::OrSet, Mutation::Add(_) | Mutation::Remove(_) | Mutation::Clear)
            | (Type::GSet, Mutation::Add(_))
            | (Type::LwwRegister | Type::MvRegister, Mutation::Set { .. })
            | (Type::Flag, Mutation::Enable | Mutation::Disable)
            | (Type::Vote, Mutation::Vote(_)) => Ok(()),
            (map, Mutation::Remove(_) | Mutation::Clear) if map.is_map() => Ok(()),
            _ => Err(MutationError::WrongOperation {
                ty,
                operation: self.name(),
            }),
        }
    }
}

/// Who mutates, and with which numbers.
///
/// ```
/// use anabranch_crdt::{Dot, Epoch, Issuer, Mutation, NodeId, ReplicaId, Replicas, Type, Value};
///
/// let mut replicas = Replicas::new();
/// let me = replicas.intern(ReplicaId::new(NodeId(1), Epoch(1)))?;
/// let issuer = Issuer { replicas: &replicas, me, next_seq: 7, stamp: 0, inherits: None };
/// let delta = Value::new(Type::Flag).mutate(&issuer, &Mutation::Enable)?;
/// assert_eq!(delta.parts()[0].dot, Dot::new(me, 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Issuer<'a> {
    /// The table that gives replica indices their meaning.
    pub replicas: &'a Replicas,
    /// The replica that mutates.
    pub me: ReplicaIx,
    /// Its next free sequence; the delta uses as many as it has parts.
    pub next_seq: u64,
    /// A stamp of its hybrid clock, for register writes without a clock of their own.
    pub stamp: u64,
    /// From which earlier run of its node on it has what they held of bounded counters: none of them does anything any more, and
    /// all that any has done is in what is mutated. None: it has only its own.
    pub inherits: Option<Epoch>,
}

impl Issuer<'_> {
    /// Whether it may use what this replica holds of a bounded counter.
    pub(crate) fn has(&self, by: ReplicaId) -> bool {
        has(self.replicas.id(self.me), self.inherits, by)
    }

    /// The dot of the part at this position of the delta.
    pub(crate) fn dot(&self, position: usize) -> Dot {
        Dot::new(self.me, self.next_seq.saturating_add(position as u64))
    }
}

/// Whether a replica may use what `by` holds of a bounded counter: what it holds itself, and what it has inherited of runs of its
/// node from one on.
pub(crate) fn has(me: ReplicaId, inherits: Option<Epoch>, by: ReplicaId) -> bool {
    let is_heir = || inherits.is_some_and(|first| (first..me.epoch).contains(&by.epoch));
    by == me || by.node == me.node && is_heir()
}

/// The mutation was refused; nothing was changed and no dot was used.
///
/// ```
/// use anabranch_crdt::{Mutation, MutationError, Type};
///
/// assert_eq!(Mutation::Increment(-1).check(Type::GCounter), Err(MutationError::NegativeIncrement { by: -1 }));
/// let refused = Mutation::Enable.check(Type::OrSet);
/// assert_eq!(refused, Err(MutationError::WrongOperation { ty: Type::OrSet, operation: "enable" }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MutationError {
    /// The type has no such operation. Repeating it is of no use.
    #[error("{} does not take {operation}, it takes {}; nothing was changed", .ty.indefinite(), .ty.operations())]
    WrongOperation {
        /// The value's type.
        ty: Type,
        /// The operation's name.
        operation: &'static str,
    },
    /// A counter that only grows was asked to count down. Repeating it is of no use.
    #[error("a gcounter only grows and cannot take {by}; a pncounter can; nothing was changed")]
    NegativeIncrement {
        /// The increment asked for.
        by: i64,
    },
    /// A register that goes by what each write saw was given a clock. Repeating it is of no use.
    #[error(
        "an mvregister goes by what a write saw and takes no clock; an lwwregister does; nothing was changed"
    )]
    NoClock,
    /// Maps are nested too deep. Repeating it is of no use.
    #[error("maps are nested at most {DEPTH_MAX} deep; nothing was changed")]
    TooDeep,
    /// The map takes children of one type only, and not of this one. Repeating it is of no use.
    #[error("{} holds no {ty}; nothing was changed", .map.indefinite())]
    ChildType {
        /// The map's type.
        map: Type,
        /// The child's type that was asked for.
        ty: Type,
    },
    /// A bounded counter's author does not hold so much of it. Repeat it once others have handed over to it, or where
    /// more is held.
    #[error(
        "this replica may take {held} away, not {asked}; others hold {others} that they could hand over, if they have not \
         left, and runs of nodes that are over {over}, which later runs of theirs may come to; nothing was changed"
    )]
    NotHeld {
        /// How much it was to be.
        asked: u128,
        /// How much its author holds, as far as is known here.
        held: u128,
        /// How much all others hold, as far as is known here.
        others: u128,
        /// How much runs of nodes hold that a later one has followed.
        over: u128,
    },
    /// One replica would hold more of a bounded counter than fits. Repeat it where less is held.
    #[error("one replica holds at most 2^64 - 1 of a boundedcounter; nothing was changed")]
    HoldsTooMuch,
    /// Too many transfers to a replica were not taken up by it. Repeat it once it has.
    #[error("{TRANSFERS_MAX} transfers to {to} wait for it to take them up; nothing was changed")]
    TransfersWait {
        /// To whom.
        to: ReplicaId,
    },
    /// The child is of another type. Repeating it is of no use.
    #[error("the child {} is {}, not {}; nothing was changed", .key.escape_ascii(), .is.indefinite(), .asked.indefinite())]
    OtherChild {
        /// Its key.
        key: Bytes,
        /// Its type.
        is: Type,
        /// The type that was asked for.
        asked: Type,
    },
    /// The replica has no sequence left. Repeat it under another id.
    #[error("this replica has used all {SEQ_MAX} sequences; it needs another id; nothing was changed")]
    Exhausted,
    /// The child is new and no type was named. Repeat it with one.
    #[error("the child {} is new; name its type; nothing was changed", .key.escape_ascii())]
    NewChild {
        /// Its key.
        key: Bytes,
    },
}
