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
#[derive(Clone, Debug)]
#[must_use = "an operation changes nothing until it is joined"]
pub struct Op {
    replicas: Replicas,
    delta: Delta,
}

/// What a value has seen, meaning the same everywhere.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    replicas: Replicas,
    seen: Context,
}

/// A part of a state that means the same everywhere: it brings the replica table it was made with.
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
    pub fn seen(&self) -> &Context {
        &self.seen
    }

    /// The table that gives its dots their meaning.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }
}

impl Piece {
    pub(crate) fn new(replicas: Replicas, fragment: Fragment) -> Piece {
        Piece { replicas, fragment }
    }

    /// What it says, in terms of [`Piece::replicas`].
    pub fn fragment(&self) -> &Fragment {
        &self.fragment
    }

    /// The table that gives its dots their meaning.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// See [`Fragment::split`].
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
    pub fn decompose(&self) -> impl Iterator<Item = Piece> + '_ {
        self.fragment.decompose().map(|fragment| Piece {
            replicas: self.replicas.clone(),
            fragment,
        })
    }
}

/// The value refused; it is as it was. Repeating is of no use, except for [`CausalError::Gap`].
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
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// The table that gives the delta's dots their meaning.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// Its parts, each an operation of its own: they may travel alone and in any order.
    pub fn split(&self) -> impl Iterator<Item = Op> + '_ {
        self.delta.parts().iter().map(|part| Op {
            replicas: self.replicas.clone(),
            delta: Delta::from_parts(self.delta.ty(), vec![part.clone()]),
        })
    }

    /// Several operations as one; nothing of none.
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
        let delta = Delta::from_parts(mine, parts);
        Ok(Some(Op { replicas, delta }))
    }
}

impl Causal {
    /// A value that does not exist yet and has seen nothing.
    pub fn new(ty: Type) -> Causal {
        Causal {
            replicas: Replicas::new(),
            seen: Context::new(),
            value: Value::new(ty),
        }
    }

    /// What the mutation would do if `me` did it now, with `stamp` from its hybrid clock. Changes nothing.
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
        };
        let delta = self.value.mutate(&issuer, mutation)?;
        Ok(Op { replicas, delta })
    }

    /// Joins an operation, one's own or another's.
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
    pub fn drop_own_waiting(&mut self, me: ReplicaId) {
        let Some(me) = self.replicas.get(me) else { return };
        let own: Vec<_> = self.value.waiting().filter(|(_, dot)| dot.ix() == me).collect();
        for (path, dot) in own {
            self.value.drop_waiting(&path, dot);
        }
    }

    /// What this value has seen.
    pub fn knowledge(&self) -> Knowledge {
        Knowledge {
            replicas: self.replicas.clone(),
            seen: self.seen.clone(),
        }
    }

    /// What somebody who has seen `theirs` lacks of this value.
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
    /// # Errors
    ///
    /// As [`Causal::join`].
    pub fn check_join(&self, other: &Causal) -> Result<(), CausalError> {
        self.check_type(other.value.ty())?;
        let new = other
            .replicas
            .iter()
            .filter(|(_, id)| self.replicas.get(*id).is_none())
            .count();
        if self.replicas.len() + new > crate::REPLICAS_MAX {
            return Err(ReplicasFull.into());
        }
        Ok(())
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
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What has been seen, in terms of [`Causal::replicas`].
    pub fn seen(&self) -> &Context {
        &self.seen
    }

    /// The table that gives dots their meaning.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// What a user sees.
    pub fn read(&self) -> Reading {
        self.value.read(&self.replicas)
    }

    /// The digest from the live dots: what [`Value::digest`] must be.
    pub fn digest_from_scratch(&self) -> u64 {
        let env = Env {
            replicas: &self.replicas,
            key: &KEY,
        };
        self.value.digest_from_scratch(&env)
    }

    /// See [`Value::canonical_bytes`].
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
