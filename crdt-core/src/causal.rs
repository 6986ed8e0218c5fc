//! A value that stands alone: with a replica table and a context of its own.
//!
//! Not here: the values of a shard, which share one table and one version vector.
//!
//! Contract: operations may come in any order and more than once, and states may be joined with states; who has
//! seen the same operations is equal. Every refusal leaves the value as it was.

use crate::context::{Context, Seen};
use crate::delta::Delta;
use crate::digest::HashKey;
use crate::fragment::Fragment;
use crate::id::ReplicaId;
use crate::kind::Type;
use crate::mutation::{Issuer, Mutation, MutationError};
use crate::replicas::{Replicas, ReplicasFull};
use crate::translate;
use crate::value::{Changed, Env, Reading, Value};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// The digest of a value on its own is compared with nobody's.
const KEY: HashKey = HashKey([0; 16]);

/// A value with a context of its own.
///
/// ```
/// use anabranch_crdt::{Causal, Epoch, Mutation, NodeId, Reading, ReplicaId, Type};
///
/// let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
/// let mut here = Causal::new(Type::PnCounter);
/// let mut there = here.clone();
/// here.join_op(&here.mutate(a, 0, &Mutation::Increment(5))?)?;
/// there.join_op(&there.mutate(b, 0, &Mutation::Increment(-2))?)?;
/// here.join(&there)?;
/// assert_eq!(here.read(), Reading::Count(3));
/// # Ok::<(), anabranch_crdt::CausalError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Causal {
    replicas: Replicas,
    seen: Context,
    value: Value,
}

/// A delta that means the same everywhere: it brings the replica table it was made with.
///
/// ```
/// use anabranch_crdt::{Causal, Mutation, Reading, Type};
/// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let mut here = Causal::new(Type::PnCounter);
/// let op = here.mutate(me, 0, &Mutation::Increment(5))?;
/// assert_eq!(here.read(), Reading::Count(0)); // nothing was changed yet
/// here.join_op(&op)?;
/// here.join_op(&op)?; // joined again it adds nothing
/// assert_eq!(here.read(), Reading::Count(5));
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operation changes nothing until it is joined"]
pub struct Op {
    replicas: Replicas,
    delta: Delta,
}

/// What a value has seen, meaning the same everywhere.
///
/// ```
/// use anabranch_crdt::{Causal, Mutation, Type};
/// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let mut here = Causal::new(Type::Flag);
/// let before = here.knowledge();
/// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
/// assert_eq!(here.since(&before)?.fragment().puts().len(), 1);
/// assert!(here.since(&here.knowledge())?.fragment().puts().is_empty());
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    replicas: Replicas,
    seen: Context,
}

/// A part of a state that means the same everywhere: it brings the replica table it was made with.
///
/// ```
/// use anabranch_crdt::{Causal, Mutation, Type};
/// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let mut here = Causal::new(Type::OrSet);
/// let mut there = here.clone();
/// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
/// let piece = here.since(&there.knowledge())?;
/// there.join_piece(&piece)?;
/// assert_eq!(there, here);
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a piece changes nothing until it is joined"]
pub struct Piece {
    replicas: Replicas,
    fragment: Fragment,
}

impl Knowledge {
    pub(crate) fn new(replicas: Replicas, seen: Context) -> Knowledge {
        Knowledge { replicas, seen }
    }

    /// What was seen, in terms of [`Knowledge::replicas`].
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::Flag);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
    /// let knowledge = here.knowledge();
    /// let first = knowledge.seen().all_runs().next();
    /// assert_eq!(first.map(|(ix, from, to)| (knowledge.replicas().id(ix), from, to)), Some((me, 0, 1)));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn seen(&self) -> &Context {
        &self.seen
    }

    /// The table that gives its dots their meaning.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::Flag);
    /// assert!(here.knowledge().replicas().is_empty());
    /// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
    /// assert!(here.knowledge().replicas().get(me).is_some());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }
}

impl Piece {
    pub(crate) fn new(replicas: Replicas, fragment: Fragment) -> Piece {
        Piece { replicas, fragment }
    }

    /// What it says, in terms of [`Piece::replicas`].
    ///
    /// ```
    /// use anabranch_crdt::{Knowledge, Mutation};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// let piece = here.since(&Knowledge::default())?; // all there is
    /// assert_eq!(piece.fragment().puts().len(), 2);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn fragment(&self) -> &Fragment {
        &self.fragment
    }

    /// The table that gives its dots their meaning.
    ///
    /// ```
    /// use anabranch_crdt::{Knowledge, Mutation};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::Flag);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
    /// let piece = here.since(&Knowledge::default())?;
    /// let (dot, _) = piece.fragment().puts()[0];
    /// assert_eq!(dot.full(piece.replicas()), (me, 1));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// See [`Fragment::split`].
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Piece};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// # let mut there = here.clone();
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?)?;
    /// let pieces: Vec<Piece> = here.since(&there.knowledge())?.split(1).collect();
    /// assert_eq!(pieces.len(), 2);
    /// for piece in pieces.iter().rev() {
    ///     there.join_piece(piece)?;
    /// }
    /// assert_eq!(there, here);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn split(self, bytes_max: usize) -> impl Iterator<Item = Piece> {
        let replicas = self.replicas;
        self.fragment
            .split(bytes_max)
            .into_iter()
            .map(move |fragment| Piece {
                replicas: replicas.clone(),
                fragment,
            })
    }

    /// See [`Fragment::decompose`].
    ///
    /// ```
    /// use anabranch_crdt::{Knowledge, Mutation};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Clear)?)?;
    /// let whole = here.since(&Knowledge::default())?;
    /// // The addition is dead, the removal has left a mark.
    /// let live: Vec<usize> = whole.decompose().map(|piece| piece.fragment().puts().len()).collect();
    /// assert_eq!(live, [0, 1]);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn decompose(&self) -> impl Iterator<Item = Piece> + '_ {
        self.fragment.decompose().map(|fragment| Piece {
            replicas: self.replicas.clone(),
            fragment,
        })
    }
}

/// The value refused; it is as it was. Repeating is of no use, except for [`CausalError::Gap`].
///
/// ```
/// use anabranch_crdt::{Causal, CausalError, Mutation, Type};
/// # use anabranch_crdt::{Epoch, NodeId, ReplicaId};
///
/// # let me = ReplicaId::new(NodeId(1), Epoch(1));
/// let enable = Causal::new(Type::Flag).mutate(me, 0, &Mutation::Enable)?;
/// let refused = Causal::new(Type::OrSet).join_op(&enable);
/// assert_eq!(refused, Err(CausalError::Type { mine: Type::OrSet, theirs: Type::Flag }));
/// let refused = Causal::new(Type::OrSet).mutate(me, 0, &Mutation::Enable);
/// assert!(matches!(refused, Err(CausalError::Mutation(_))));
/// # Ok::<(), CausalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CausalError {
    /// The type has no such operation.
    #[error(transparent)]
    Mutation(#[from] MutationError),
    /// The other side is of another type.
    #[error("a {theirs} cannot be joined into a {mine}; nothing was changed")]
    Type {
        /// This side's type.
        mine: Type,
        /// The other side's.
        theirs: Type,
    },
    /// There are more replicas than a table can hold.
    #[error("{0}; nothing was changed")]
    Replicas(#[from] ReplicasFull),
    /// The operation is ahead of one that this side has not seen. It may be joined all the same, and what is missing
    /// later; only who demands causal order waits.
    #[error("sequence {seq} of {replica} has not been seen yet; nothing was changed")]
    Gap {
        /// Whose operation is missing.
        replica: ReplicaId,
        /// Which one.
        seq: u64,
    },
}

impl Op {
    pub(crate) fn new(replicas: Replicas, delta: Delta) -> Op {
        Op { replicas, delta }
    }

    /// What the operation does, in terms of [`Op::replicas`].
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let op = Causal::new(Type::OrSet).mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?;
    /// assert_eq!(op.delta().parts().len(), 2); // a dot an element
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// The table that gives the delta's dots their meaning.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let op = Causal::new(Type::Flag).mutate(me, 0, &Mutation::Enable)?;
    /// assert_eq!(op.delta().parts()[0].dot.full(op.replicas()), (me, 1));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// Its parts, each an operation of its own: they may travel alone and in any order.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Op, Reading, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::OrSet);
    /// let op = here.mutate(me, 0, &Mutation::Add(vec!["x".into(), "y".into()]))?;
    /// let parts: Vec<Op> = op.split().collect();
    /// assert_eq!(parts.len(), 2);
    /// here.join_op(&parts[1])?; // the second without the first
    /// assert_eq!(here.read(), Reading::Elements(vec!["y".into()]));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn split(&self) -> impl Iterator<Item = Op> + '_ {
        self.delta.parts().iter().map(|part| Op {
            replicas: self.replicas.clone(),
            delta: Delta::from_parts(self.delta.ty(), vec![part.clone()]),
        })
    }

    /// Several operations as one; nothing of none.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Op, Reading, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// let mut here = Causal::new(Type::PnCounter);
    /// let ops = [here.mutate(a, 0, &Mutation::Increment(5))?, here.mutate(b, 0, &Mutation::Increment(-2))?];
    /// if let Some(both) = Op::group(&ops)? {
    ///     here.join_op(&both)?;
    /// }
    /// assert_eq!(here.read(), Reading::Count(3));
    /// assert!(Op::group(&[])?.is_none());
    /// # Ok::<(), CausalError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CausalError::Type`] if they are for different types, [`CausalError::Replicas`].
    pub fn group(ops: &[Op]) -> Result<Option<Op>, CausalError> {
        let Some((first, rest)) = ops.split_first() else {
            return Ok(None);
        };
        let mut replicas = first.replicas.clone();
        let mine = first.delta.ty();
        let mut parts = first.delta.parts().to_vec();
        for op in rest {
            let theirs = op.delta.ty();
            if mine != theirs {
                return Err(CausalError::Type { mine, theirs });
            }
            parts.extend(translate::delta(&op.delta, &op.replicas, &mut replicas)?.into_parts());
        }
        // One that came twice is one.
        let mut known = BTreeSet::new();
        parts.retain(|part| known.insert(part.dot));
        let delta = Delta::from_parts(mine, parts);
        Ok(Some(Op { replicas, delta }))
    }
}

impl Causal {
    /// A value that does not exist yet and has seen nothing.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Type};
    ///
    /// let set = Causal::new(Type::OrSet);
    /// assert!(!set.value().exists());
    /// assert!(set.seen().is_empty());
    /// ```
    pub fn new(ty: Type) -> Causal {
        Causal {
            replicas: Replicas::new(),
            seen: Context::new(),
            value: Value::new(ty),
        }
    }

    /// What the mutation would do if `me` did it now, with `stamp` from its hybrid clock. Changes nothing.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Reading, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let here = Causal::new(Type::GCounter);
    /// let op = here.mutate(me, 0, &Mutation::Increment(5))?;
    /// assert_eq!(op.delta().parts().len(), 1);
    /// assert_eq!(here.read(), Reading::Count(0)); // unchanged
    /// assert!(here.mutate(me, 0, &Mutation::Increment(-5)).is_err());
    /// # Ok::<(), CausalError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CausalError::Mutation`] if the type does not take it, [`CausalError::Replicas`] if `me` has no room.
    pub fn mutate(&self, me: ReplicaId, stamp: u64, mutation: &Mutation) -> Result<Op, CausalError> {
        let mut replicas = self.replicas.clone();
        let me = replicas.intern(me)?;
        let last_run = self
            .seen
            .runs()
            .filter(|(ix, _, _)| *ix == me)
            .map(|(_, _, to)| to)
            .max();
        let next_seq = self.seen.maxima().get(me).max(last_run.unwrap_or(0)) + 1;
        let issuer = Issuer {
            replicas: &replicas,
            me,
            next_seq,
            stamp,
            inherits: None,
        };
        let delta = self.value.mutate(&issuer, mutation)?;
        Ok(Op { replicas, delta })
    }

    /// Joins an operation, one's own or another's.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Reading};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// # let mut there = here.clone();
    /// let add = here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?;
    /// here.join_op(&add)?;
    /// let clear = here.mutate(me, 0, &Mutation::Clear)?;
    /// there.join_op(&clear)?;
    /// assert!(there.join_op(&add)?.is_empty()); // it comes late: what it added was removed
    /// assert_eq!(there.read(), Reading::Elements(vec![]));
    /// # Ok::<(), CausalError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CausalError::Type`] and [`CausalError::Replicas`].
    pub fn join_op(&mut self, op: &Op) -> Result<Changed, CausalError> {
        self.check_type(op.delta.ty())?;
        let delta = translate::delta(&op.delta, &op.replicas, &mut self.replicas)?;
        let env = Env {
            replicas: &self.replicas,
            key: &KEY,
        };
        let changed = self.value.join_delta(&env, &self.seen, &delta);
        self.seen.join(&delta.context());
        Ok(changed)
    }

    /// Joins another state.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let (mut here, mut there) = (Causal::new(Type::GSet), Causal::new(Type::GSet));
    /// there.join_op(&there.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// assert_eq!(here.join(&there)?.added.len(), 1);
    /// assert!(here.join(&there)?.is_empty()); // once more changes nothing
    /// assert!(here.join(&Causal::new(Type::Flag)).is_err());
    /// # Ok::<(), CausalError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CausalError::Type`] and [`CausalError::Replicas`].
    pub fn join(&mut self, other: &Causal) -> Result<Changed, CausalError> {
        self.check_type(other.value.ty())?;
        let theirs = translate::value(&other.value, &other.replicas, &mut self.replicas, &KEY)?;
        let theirs_seen = translate::context(&other.seen, &other.replicas, &mut self.replicas)?;
        let env = Env {
            replicas: &self.replicas,
            key: &KEY,
        };
        let changed = self.value.join(&env, &self.seen, &theirs, &theirs_seen);
        self.seen.join(&theirs_seen);
        Ok(changed)
    }

    /// Lets go of the slots of counters in which everything that `me` added was reset, if `me` is this value's only
    /// author under that id, as every live replica is of its own: see [`Value::drop_waiting`].
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::CounterMap);
    /// let hit = Mutation::Update { key: "hits".into(), ty: None, mutation: Box::new(Mutation::Increment(1)) };
    /// here.join_op(&here.mutate(me, 0, &hit)?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Clear)?)?;
    /// assert_eq!(here.value().waiting().count(), 1);
    /// here.drop_own_waiting(me);
    /// assert_eq!(here.value().waiting().count(), 0);
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn drop_own_waiting(&mut self, me: ReplicaId) {
        let Some(me) = self.replicas.get(me) else { return };
        let own: Vec<_> = self.value.waiting().filter(|(_, dot)| dot.ix() == me).collect();
        for (path, dot) in own {
            self.value.drop_waiting(&path, dot);
        }
    }

    /// What this value has seen.
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::Flag);
    /// let before = here.knowledge();
    /// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
    /// assert!(before.seen().is_empty());
    /// assert_eq!(here.knowledge().seen(), here.seen());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn knowledge(&self) -> Knowledge {
        Knowledge {
            replicas: self.replicas.clone(),
            seen: self.seen.clone(),
        }
    }

    /// What somebody who has seen `theirs` lacks of this value.
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// let theirs = here.knowledge();
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["y".into()]))?)?;
    /// let piece = here.since(&theirs)?;
    /// assert_eq!(piece.fragment().puts().len(), 1); // only "y"
    /// # Ok::<(), CausalError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CausalError::Replicas`].
    pub fn since(&self, theirs: &Knowledge) -> Result<Piece, CausalError> {
        let mut replicas = self.replicas.clone();
        let theirs = translate::context(&theirs.seen, &theirs.replicas, &mut replicas)?;
        let fragment = self.value.since(&self.seen, &theirs);
        Ok(Piece { replicas, fragment })
    }

    /// Joins a part of another state.
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// # let mut there = here.clone();
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// let piece = here.since(&there.knowledge())?;
    /// assert_eq!(there.join_piece(&piece)?.added.len(), 1);
    /// assert!(there.join_piece(&piece)?.is_empty());
    /// assert_eq!(there.read(), here.read());
    /// # Ok::<(), CausalError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CausalError::Type`] and [`CausalError::Replicas`].
    pub fn join_piece(&mut self, piece: &Piece) -> Result<Changed, CausalError> {
        self.check_type(piece.fragment.ty())?;
        let fragment = translate::fragment(&piece.fragment, &piece.replicas, &mut self.replicas)?;
        let env = Env {
            replicas: &self.replicas,
            key: &KEY,
        };
        let changed = self.value.join_fragment(&env, &self.seen, &fragment);
        self.seen.join(fragment.claims());
        Ok(changed)
    }

    /// Whether the operation comes in causal order: everything it builds on has been seen.
    ///
    /// ```
    /// use anabranch_crdt::{CausalError, Mutation};
    /// # use anabranch_crdt::{Causal, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::PnCounter);
    /// # let mut there = here.clone();
    /// let first = here.mutate(me, 0, &Mutation::Increment(1))?;
    /// here.join_op(&first)?;
    /// let second = here.mutate(me, 0, &Mutation::Increment(1))?;
    /// assert_eq!(there.check_order(&second), Err(CausalError::Gap { replica: me, seq: 1 }));
    /// there.join_op(&first)?;
    /// assert_eq!(there.check_order(&second), Ok(()));
    /// # Ok::<(), CausalError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CausalError::Gap`] names the first thing missing, [`CausalError::Type`].
    pub fn check_order(&self, op: &Op) -> Result<(), CausalError> {
        self.check_type(op.delta.ty())?;
        let mut seen: Context = Context::new();
        let saw = |seen: &Context, dot: crate::Dot| {
            let (id, seq) = dot.full(&op.replicas);
            let here = self.replicas.get(id).map(|ix| crate::Dot::new(ix, seq));
            here.is_some_and(|dot| self.seen.contains(dot)) || Seen::contains(seen, dot)
        };
        let gap = |dot: crate::Dot| {
            let (replica, seq) = dot.full(&op.replicas);
            Err(CausalError::Gap { replica, seq })
        };
        for part in op.delta.parts() {
            let before = crate::Dot::try_new(part.dot.ix(), part.dot.seq() - 1);
            let kills = part.kills.iter().map(|kill| kill.dot);
            if let Some(missing) = before.into_iter().chain(kills).find(|dot| !saw(&seen, *dot)) {
                return gap(missing);
            }
            seen.insert(part.dot);
        }
        Ok(())
    }

    /// Whether `other` can be joined.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Type};
    ///
    /// let set = Causal::new(Type::GSet);
    /// assert!(set.check_join(&Causal::new(Type::GSet)).is_ok());
    /// assert!(set.check_join(&Causal::new(Type::OrSet)).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Causal::join`].
    pub fn check_join(&self, other: &Causal) -> Result<(), CausalError> {
        self.check_type(other.value.ty())?;
        Ok(self.replicas.check_room(&other.replicas)?)
    }

    fn check_type(&self, theirs: Type) -> Result<(), CausalError> {
        let mine = self.value.ty();
        if mine == theirs {
            Ok(())
        } else {
            Err(CausalError::Type { mine, theirs })
        }
    }

    /// The live dots.
    ///
    /// ```
    /// use anabranch_crdt::{Mutation, Value};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::Flag);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
    /// assert!(matches!(here.value(), Value::Flag(flag) if flag.is_enabled()));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What has been seen, in terms of [`Causal::replicas`].
    ///
    /// ```
    /// use anabranch_crdt::{Dot, Mutation, ReplicaIx};
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// here.join_op(&here.mutate(me, 0, &Mutation::Clear)?)?;
    /// assert!(here.seen().contains(Dot::new(ReplicaIx(0), 1))); // also what is dead
    /// assert!(!here.seen().contains(Dot::new(ReplicaIx(0), 3)));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn seen(&self) -> &Context {
        &self.seen
    }

    /// The table that gives dots their meaning.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, ReplicaIx, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::Flag);
    /// let op = here.mutate(me, 0, &Mutation::Enable)?;
    /// assert_eq!(here.replicas().get(me), None);
    /// here.join_op(&op)?;
    /// assert_eq!(here.replicas().get(me), Some(ReplicaIx(0)));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// What a user sees.
    ///
    /// ```
    /// use anabranch_crdt::{Causal, Mutation, Reading, Type};
    /// # use anabranch_crdt::{CausalError, Epoch, NodeId, ReplicaId};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// let mut here = Causal::new(Type::OrSet);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Add(vec!["y".into(), "x".into()]))?)?;
    /// assert_eq!(here.read(), Reading::Elements(vec!["x".into(), "y".into()]));
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn read(&self) -> Reading {
        self.value.read(&self.replicas)
    }

    /// The digest from the live dots: what [`Value::digest`] must be.
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let me = ReplicaId::new(NodeId(1), Epoch(1));
    /// # let mut here = Causal::new(Type::Flag);
    /// assert_eq!(here.digest_from_scratch(), 0);
    /// here.join_op(&here.mutate(me, 0, &Mutation::Enable)?)?;
    /// assert_ne!(here.digest_from_scratch(), 0);
    /// assert_eq!(here.digest_from_scratch(), here.value().digest());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn digest_from_scratch(&self) -> u64 {
        let env = Env {
            replicas: &self.replicas,
            key: &KEY,
        };
        self.value.digest_from_scratch(&env)
    }

    /// See [`Value::canonical_bytes`].
    ///
    /// ```
    /// use anabranch_crdt::Mutation;
    /// # use anabranch_crdt::{Causal, CausalError, Epoch, NodeId, ReplicaId, Type};
    ///
    /// # let (a, b) = (ReplicaId::new(NodeId(1), Epoch(1)), ReplicaId::new(NodeId(2), Epoch(1)));
    /// # let (mut here, mut there) = (Causal::new(Type::GSet), Causal::new(Type::GSet));
    /// here.join_op(&here.mutate(a, 0, &Mutation::Add(vec!["x".into()]))?)?;
    /// there.join_op(&there.mutate(b, 0, &Mutation::Add(vec!["y".into()]))?)?;
    /// assert_ne!(here.canonical_bytes(), there.canonical_bytes());
    /// here.join(&there)?;
    /// there.join(&here)?; // its table of replicas has another order
    /// assert_eq!(here.canonical_bytes(), there.canonical_bytes());
    /// # Ok::<(), CausalError>(())
    /// ```
    pub fn canonical_bytes(&self) -> Vec<u8> {
        self.value.canonical_bytes(&self.replicas)
    }
}

/// Equal live state and equal context, whatever the tables look like.
impl PartialEq for Causal {
    fn eq(&self, other: &Causal) -> bool {
        let mut table = self.replicas.clone();
        let theirs = translate::context(&other.seen, &other.replicas, &mut table);
        theirs.as_ref() == Ok(&self.seen) && self.canonical_bytes() == other.canonical_bytes()
    }
}

impl Eq for Causal {}
